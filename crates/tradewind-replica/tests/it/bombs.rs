//! Requests that are small to send and large to serve, or that come in a way that costs more than what they say.

use bytes::Bytes;
use prost::Message;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tradewind_api::grpc::{
    Code, Method,
    message::{InferInputTensor, InferTensorContents, ModelInferRequest, ModelInferResponse},
};

use crate::{
    grpc::{Client, add, fp32, tensor},
    replica::{DEADLINE, Replica, answer},
};

/// Both tensors of `add` with this shape, and raw contents that do not follow it.
fn shaped(shape: &[i64]) -> ModelInferRequest {
    ModelInferRequest { inputs: vec![tensor("a", "FP32", shape), tensor("b", "FP32", shape)], ..add() }
}

#[tokio::test]
async fn shapes_that_no_memory_holds_are_refused() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    for (shape, expected) in [
        (&[-1, 3][..], "input `a` has shape [-1, 3], the model takes [N,3]"),
        (&[i64::MIN, 3], "the model takes [N,3]"),
        (&[i64::MAX, 3], "too many elements"),
        (&[1 << 40, 3], "its raw data has 12 bytes, its shape [1099511627776, 3] of FP32 has 13194139533312"),
        (&[0, 3], "its raw data has 12 bytes, its shape [0, 3] of FP32 has 0"),
        (&[1, 3, 1], "the model takes [N,3]"),
        (&[], "the model takes [N,3]"),
    ] {
        let text = client.call(Method::ModelInfer, &shaped(shape)).await.failed(Code::InvalidArgument);
        assert!(text.contains(expected), "{shape:?}: {text}");
        // The same behind JSON.
        let input =
            |name| json!({"name": name, "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": 12}});
        let json = json!({"inputs": [input("a"), input("b")]}).to_string();
        let post = replica.client.post(replica.url("/v2/models/add/infer"));
        let post = post.header("Inference-Header-Content-Length", json.len());
        let refused = answer(post.body([json.as_bytes(), &[0; 24]].concat())).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.error().contains(expected), "{shape:?}: {}", refused.text);
    }
    for datatype in ["INT64", "BYTES", "fp32", "", "FP32\0"] {
        let wrong =
            ModelInferRequest { inputs: vec![tensor("a", datatype, &[1, 3]), add().inputs[0].clone()], ..add() };
        let text = client.call(Method::ModelInfer, &wrong).await.failed(Code::InvalidArgument);
        assert!(text.contains("input `a` has datatype"), "{text}");
    }
    client.call(Method::ModelInfer, &add()).await.decode::<ModelInferResponse>();
    replica.stop().await;
}

#[tokio::test]
async fn text_that_is_none_is_refused() {
    let replica = Replica::start("identity_bytes").await;
    let client = Client::of(&replica).await;
    for (bytes, expected) in [(&b"\xff\xfe"[..], "is not UTF-8"), (b"a\0b", "has a NUL character")] {
        let raw = [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        let request = ModelInferRequest {
            model_name: "identity_bytes".to_owned(),
            inputs: vec![tensor("x", "BYTES", &[1])],
            raw_input_contents: vec![raw.into()],
            ..Default::default()
        };
        let text = client.call(Method::ModelInfer, &request).await.failed(Code::InvalidArgument);
        assert!(text.contains(expected), "{text}");
        let contents =
            InferTensorContents { bytes_contents: vec![Bytes::copy_from_slice(bytes)], ..Default::default() };
        let typed = InferInputTensor { contents: Some(contents), ..tensor("x", "BYTES", &[1]) };
        let request = ModelInferRequest { inputs: vec![typed], raw_input_contents: vec![], ..request };
        let text = client.call(Method::ModelInfer, &request).await.failed(Code::InvalidArgument);
        assert!(text.contains(expected), "{text}");
    }
    let request =
        |data: &str| format!(r#"{{"inputs":[{{"name":"x","datatype":"BYTES","shape":[1],"data":[{data}]}}]}}"#);
    for (data, expected) in [(r#""\u0000""#, "NUL"), (r#""\ud800""#, "is not a BYTES"), (r#""\x""#, "not a valid")] {
        let refused = replica.infer("identity_bytes", request(data)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.error().contains(expected), "{}", refused.text);
    }
    assert_eq!(replica.infer("identity_bytes", request(r#""é""#)).await.status, StatusCode::OK);
    replica.stop().await;
}

#[tokio::test]
async fn messages_whose_fields_repeat_without_end_are_refused() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    // Two bytes each in the message, hundreds once they are decoded.
    for (field, expected) in [(0x2a, "inputs"), (0x32, "outputs"), (0x3a, "raw contents")] {
        let mut message = add().encode_to_vec();
        message.extend([field, 0].repeat(1 << 20));
        let frame = [&tradewind_api::grpc::frame::Header::plain(message.len() as u32).write()[..], &message].concat();
        let request = crate::grpc::request(Method::ModelInfer.path());
        let reply = client.send(request.body(http_body_util::Full::new(frame.into())).unwrap()).await;
        let text = reply.failed(Code::InvalidArgument);
        assert!(text.contains(&format!("{expected}, more than any model takes")), "{text}");
    }
    let many = InferTensorContents { fp32_contents: vec![0.0; 1 << 20], ..Default::default() };
    let typed = InferInputTensor { contents: Some(many), ..tensor("a", "FP32", &[1, 3]) };
    let other = InferInputTensor { name: "b".to_owned(), ..typed.clone() };
    let request = ModelInferRequest { inputs: vec![typed, other], raw_input_contents: vec![], ..add() };
    let text = client.call(Method::ModelInfer, &request).await.failed(Code::InvalidArgument);
    assert!(text.contains("its contents have 1048576 elements"), "{text}");
    client.call(Method::ModelInfer, &add()).await.decode::<ModelInferResponse>();
    replica.stop().await;
}

#[tokio::test]
async fn a_body_in_a_million_chunks_is_read_like_any_other() {
    let replica = Replica::start("identity_uint8").await;
    let json = json!({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [2], "data": [1, 2]}]}).to_string();
    // Spaces are JSON too.
    let spaces = "1\r\n \r\n".repeat(1_000_000);
    let body = format!("{spaces}{:x}\r\n{json}\r\n0\r\n\r\n", json.len());
    let head = "POST /v2/models/identity_uint8/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let exchange = async {
        let mut stream = TcpStream::connect(replica.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(DEADLINE, exchange).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\"data\":[1,2]}]}"), "{answer}");
    assert_eq!(replica.infer("identity_uint8", json).await.status, StatusCode::OK);
    replica.stop().await;
}

#[tokio::test]
async fn outputs_too_large_to_send_are_the_models_failure() {
    let replica = Replica::start("fill").await;
    let client = Client::of(&replica).await;
    let json = |elements: i64, binary: bool| {
        json!({
            "inputs": [{"name": "shape", "datatype": "INT64", "shape": [1], "data": [elements]}],
            "parameters": {"binary_data_output": binary},
        })
        .to_string()
    };
    let raw = |elements: i64| ModelInferRequest {
        model_name: "fill".to_owned(),
        inputs: vec![tensor("shape", "INT64", &[1])],
        raw_input_contents: vec![Bytes::copy_from_slice(&elements.to_le_bytes())],
        ..Default::default()
    };
    let numbers = replica.infer("fill", json((16 << 20) + 1, false)).await;
    assert_eq!(numbers.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", numbers.text);
    assert!(
        numbers.error().contains("an answer in JSON has at most 16777216; ask for binary data"),
        "{}",
        numbers.text
    );
    let bytes = replica.infer("fill", json((256 << 20) + 1, true)).await;
    assert_eq!(bytes.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(bytes.error(), "the outputs have 268435457 bytes, an answer has at most 268435456");
    let text = client.call(Method::ModelInfer, &raw((256 << 20) + 1)).await.failed(Code::Internal);
    assert_eq!(text, bytes.error());
    // More than any machine has, and no number of elements at all.
    for elements in [1 << 60, i64::MAX, -1] {
        let refused = replica.infer("fill", json(elements, true)).await;
        assert!(!refused.status.is_success(), "{elements}: {}", refused.text);
        assert!(refused.error().starts_with("the "), "{elements}: {}", refused.text);
    }
    let honest: ModelInferResponse = client.call(Method::ModelInfer, &raw(1 << 20)).await.decode();
    assert_eq!(honest.raw_output_contents[0].len(), 1 << 20);
    assert_eq!(replica.infer("fill", json(3, false)).await.json()["outputs"][0]["data"], json!([0, 0, 0]));
    replica.stop().await;
}

#[tokio::test]
async fn values_that_are_no_numbers_come_back_as_they_are_in_binary_alone() {
    let replica = Replica::start("identity_fp32").await;
    let values = fp32(&[f32::NAN, f32::INFINITY, -0.0]);
    let request = ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![tensor("x", "FP32", &[3])],
        raw_input_contents: vec![values.clone()],
        ..Default::default()
    };
    let same: ModelInferResponse = Client::of(&replica).await.call(Method::ModelInfer, &request).await.decode();
    assert_eq!(same.raw_output_contents, [values]);
    replica.stop().await;
}
