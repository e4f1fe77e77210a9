//! Requests and answers that are compressed, by REST and by gRPC.

use bytes::Bytes;
use http_body_util::Full;
use prost::Message;
use reqwest::{RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tradewind_api::{
    compression::{Coding, at_most},
    grpc::{
        Code, Method,
        frame::{HEADER_BYTES, Header},
        message::{ModelInferRequest, ModelInferResponse},
    },
};

use crate::{
    grpc::{Client, Reply, request, tensor},
    replica::{DEADLINE, Replica, answer},
};

const MODEL: &str = "identity_fp32";
/// Enough that its answer is worth compressing.
const ELEMENTS: usize = 10_000;

fn values() -> Vec<f32> {
    (0..ELEMENTS).map(|n| (n % 100) as f32).collect()
}

fn body() -> String {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [ELEMENTS], "data": values()}]}).to_string()
}

async fn bytes(request: RequestBuilder) -> (StatusCode, HeaderMap, Bytes) {
    let response = request.timeout(DEADLINE).send().await.expect("the replica answers");
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.bytes().await.expect("all of it"))
}

fn plain(coding: Coding, compressed: &[u8]) -> Bytes {
    let mut plain = bytes::BytesMut::new();
    coding.decompress(compressed, &mut plain, at_most(64 << 20)).unwrap();
    plain.freeze()
}

#[tokio::test]
async fn rest_takes_and_gives_what_is_compressed() {
    let replica = Replica::start(MODEL).await;
    let post = || replica.client.post(replica.url("/v2/models/identity_fp32/infer"));
    for coding in Coding::ALL {
        let sent = post().header("content-encoding", coding.name()).header("accept-encoding", coding.name());
        let (status, headers, body) = bytes(sent.body(coding.compress(body().as_bytes()))).await;
        assert_eq!((status, headers["content-encoding"].to_str().unwrap()), (StatusCode::OK, coding.name()));
        let answer: Value = serde_json::from_slice(&plain(coding, &body)).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!(values()));
    }
    // Binary tensors behind the JSON, which the header measures as it is without compression.
    let raw: Vec<u8> = values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [ELEMENTS], "parameters": {"binary_data_size": raw.len()}}],
        "parameters": {"binary_data_output": true},
    })
    .to_string();
    let whole = [json.as_bytes(), &raw].concat();
    let sent = post().header("content-encoding", "gzip").header("accept-encoding", "br, gzip;q=0.5");
    let sent = sent.header("inference-header-content-length", json.len());
    let (status, headers, body) = bytes(sent.body(Coding::Gzip.compress(&whole))).await;
    assert_eq!(status, StatusCode::OK);
    let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(plain(Coding::Gzip, &body)[length..], raw);
    // What is small, what nobody accepts and what is an error comes as it is.
    let small = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).to_string();
    for (accept, body, status) in [
        ("gzip", small.clone(), 200),
        ("identity", self::body(), 200),
        ("gzip;q=0", self::body(), 200),
        ("gzip", "{".into(), 400),
    ] {
        let (found, headers, body) = bytes(post().header("accept-encoding", accept).body(body)).await;
        assert_eq!((found.as_u16(), headers.get("content-encoding")), (status, None), "{accept}");
        serde_json::from_slice::<Value>(&body).unwrap();
    }
    replica.stop().await;
}

#[tokio::test]
async fn what_cannot_be_decompressed_is_refused() {
    let replica = Replica::start(MODEL).await;
    let bomb = Coding::Gzip.compress(&vec![b' '; (64 << 20) + 1]);
    assert!(bomb.len() < 1 << 20);
    let whole = Coding::Gzip.compress(body().as_bytes());
    for (coding, body, status, expected) in [
        ("gzip", bomb, StatusCode::PAYLOAD_TOO_LARGE, "it has more than 67108864 bytes once it is decompressed"),
        ("gzip", body().into_bytes(), StatusCode::BAD_REQUEST, "its bytes make no sense"),
        ("deflate", whole.clone(), StatusCode::BAD_REQUEST, "its bytes make no sense"),
        ("gzip", whole[..whole.len() - 9].to_vec(), StatusCode::BAD_REQUEST, "it is cut off"),
        ("gzip", [&whole[..], b"x"].concat(), StatusCode::BAD_REQUEST, "something follows its end"),
        ("br", whole.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it as it is, or as gzip, deflate"),
        ("gzip, gzip", whole.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not supported"),
    ] {
        let post =
            replica.client.post(replica.url("/v2/models/identity_fp32/infer")).header("content-encoding", coding);
        let refused = answer(post.body(body)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert!(refused.error().contains(expected), "{}", refused.text);
        let accepted = refused.headers.get("accept-encoding");
        assert_eq!(accepted.is_some(), status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let honest = replica.infer(MODEL, self::body()).await;
        assert_eq!(honest.status, StatusCode::OK, "after {expected}");
    }
    replica.stop().await;
}

/// A call whose one message is compressed as its header says.
async fn call(client: &Client, coding: Coding, message: Vec<u8>, accepted: &str) -> Reply {
    let framed = [&Header::compressed(message.len() as u32).write()[..], &message].concat();
    let call = request(Method::ModelInfer.path()).header("grpc-encoding", coding.name());
    client.send(call.header("grpc-accept-encoding", accepted).body(Full::new(framed.into())).unwrap()).await
}

#[tokio::test]
async fn grpc_answers_as_it_was_asked() {
    let replica = Replica::start(MODEL).await;
    let client = Client::of(&replica).await;
    let raw: Bytes = values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let message = ModelInferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![tensor("x", "FP32", &[ELEMENTS as i64])],
        raw_input_contents: vec![raw.clone()],
        ..Default::default()
    }
    .encode_to_vec();
    for coding in Coding::ALL {
        let mut reply = call(&client, coding, coding.compress(&message), "identity, gzip, deflate").await;
        assert_eq!((reply.status, reply.headers["grpc-encoding"].to_str().unwrap()), (0, coding.name()));
        let header = Header::read(*reply.message.first_chunk().unwrap()).unwrap();
        let compressed = reply.message.split_off(HEADER_BYTES);
        assert_eq!((header.compressed, header.length as usize), (true, compressed.len()));
        let answer = ModelInferResponse::decode(plain(coding, &compressed)).unwrap();
        assert_eq!(answer.raw_output_contents[0], raw);
        // One that takes no such answers gets none.
        let reply = call(&client, coding, coding.compress(&message), "identity").await;
        assert_eq!(reply.headers.get("grpc-encoding"), None);
        assert_eq!(reply.decode::<ModelInferResponse>().raw_output_contents[0], raw);
        let bomb = coding.compress(&vec![0; (64 << 20) + 1]);
        let text = call(&client, coding, bomb, "identity").await.failed(Code::ResourceExhausted);
        assert!(text.contains("it has more than 67108864 bytes"), "{text}");
        let text = call(&client, coding, message.clone(), "identity").await.failed(Code::InvalidArgument);
        assert!(text.contains("its bytes make no sense"), "{text}");
    }
    replica.stop().await;
}
