//! `ModelStreamInfer`: requests and answers on one stream.

use std::{convert::Infallible, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tradewind_api::{
    compression::{Coding, at_most},
    grpc::{
        Code, Method,
        frame::{HEADER_BYTES, Header},
        message::{InferParameter, ModelInferRequest, ModelStreamInferResponse},
    },
};

use crate::{
    grpc::{FOREVER, add, fp32, framed, request, spin},
    replica::{DEADLINE, Replica},
};
/// One stream on a connection of its own.
struct Conversation {
    say: Option<mpsc::Sender<Bytes>>,
    answers: Incoming,
    held: BytesMut,
    trailers: Option<HeaderMap>,
    driver: JoinHandle<()>,
}

impl Conversation {
    async fn with(replica: &Replica, headers: &[(&'static str, &'static str)]) -> Self {
        let stream = TcpStream::connect(replica.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move { connection.await.unwrap_or_default() });
        let (say, said) = mpsc::channel::<Bytes>(64);
        let body = StreamBody::new(ReceiverStream::new(said).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
        let mut request = request(Method::ModelStreamInfer.path());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = timeout(DEADLINE, sender.send_request(request.body(body).unwrap())).await;
        let response: Response<Incoming> = answered.expect("the stream is answered before anything is said").unwrap();
        let trailers = response.headers().contains_key("grpc-status").then(|| response.headers().clone());
        Self { say: Some(say), answers: response.into_body(), held: BytesMut::new(), trailers, driver }
    }

    async fn begin(replica: &Replica) -> Self {
        Self::with(replica, &[]).await
    }

    async fn say(&self, bytes: impl Into<Bytes>) {
        self.say.as_ref().expect("it may still speak").send(bytes.into()).await.expect("the stream is open");
    }

    async fn ask(&self, message: &ModelInferRequest) {
        self.say(framed(message)).await;
    }

    /// The next answer's frame; `None` at the end.
    async fn hear_frame(&mut self) -> Option<(Header, Bytes)> {
        loop {
            if let Some(header) = self.held.first_chunk::<HEADER_BYTES>() {
                let header = Header::read(*header).unwrap();
                if self.held.len() >= HEADER_BYTES + header.length as usize {
                    let mut frame = self.held.split_to(HEADER_BYTES + header.length as usize);
                    return Some((header, frame.split_off(HEADER_BYTES).freeze()));
                }
            }
            let frame = timeout(DEADLINE, self.answers.frame()).await.expect("something comes in time")?;
            match frame.expect("the stream does not break").into_data() {
                Ok(data) => self.held.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }

    async fn hear(&mut self) -> ModelStreamInferResponse {
        let (header, message) = self.hear_frame().await.expect("an answer");
        assert!(!header.compressed);
        ModelStreamInferResponse::decode(message).unwrap()
    }

    /// With what the stream ends, and that nothing comes before.
    async fn end(&mut self) -> (u16, String) {
        assert!(self.hear_frame().await.is_none(), "nothing more is said");
        let trailers = self.trailers.as_ref().expect("a stream ends with trailers");
        let text = |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        (text("grpc-status").parse().unwrap(), text("grpc-message"))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn numbered(id: usize) -> ModelInferRequest {
    ModelInferRequest { id: id.to_string(), ..add() }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let replica = Replica::start("add").await;
    let mut conversation = Conversation::begin(&replica).await;
    // One by one, then all at once.
    for id in 0..3 {
        conversation.ask(&numbered(id)).await;
        let answer = conversation.hear().await;
        assert_eq!((answer.error_message.as_str(), answer.infer_response.unwrap().id), ("", id.to_string()));
    }
    let all: Vec<u8> = (0..500).flat_map(|id| framed(&numbered(id)).to_vec()).collect();
    for piece in all.chunks(1000) {
        conversation.say(piece.to_vec()).await;
    }
    conversation.say = None;
    for id in 0..500 {
        let response = conversation.hear().await.infer_response.unwrap();
        assert_eq!((response.id, response.model_version.as_str()), (id.to_string(), "3"));
        assert_eq!(response.raw_output_contents, [fp32(&[11.0, 22.0, 33.0]), fp32(&[9.0, 18.0, 27.0])]);
        assert_eq!(response.parameters.get("triton_final_response"), Some(&InferParameter::of_bool(true)));
    }
    assert_eq!(conversation.end().await, (Code::Ok as u16, String::new()));
    replica.stop().await;
}

#[tokio::test]
async fn a_bad_request_is_told_in_its_turn_and_the_stream_goes_on() {
    let replica = Replica::start("add").await;
    let mut conversation = Conversation::begin(&replica).await;
    let incomplete = ModelInferRequest { inputs: vec![], raw_input_contents: vec![], ..numbered(1) };
    let other = ModelInferRequest { model_name: "other".to_owned(), ..numbered(2) };
    conversation.ask(&numbered(0)).await;
    conversation.ask(&incomplete).await;
    conversation.ask(&other).await;
    conversation.say([0, 0, 0, 0, 1, 255].to_vec()).await;
    conversation.ask(&numbered(4)).await;
    conversation.say = None;
    for (id, expected) in [
        ("0", ""),
        ("1", "input `a` is missing"),
        ("2", "this replica serves `add`, not `other`"),
        ("", "the request is not a valid message: the message is not a protocol buffer"),
        ("4", ""),
    ] {
        let answer = conversation.hear().await;
        assert_eq!((answer.infer_response.unwrap().id.as_str(), answer.error_message.as_str()), (id, expected));
    }
    assert_eq!(conversation.end().await, (Code::Ok as u16, String::new()));
    let metrics = replica.get("/metrics").await.text;
    let requests = metrics.lines().find(|line| line.starts_with("tradewind_replica_requests_total{"));
    assert!(requests.is_some_and(|line| line.ends_with(" 5")), "{metrics}");
    replica.stop().await;
}

#[tokio::test]
async fn what_breaks_the_stream_ends_it_after_the_answers() {
    let replica = Replica::start("add").await;
    let too_large = Header::plain((64 << 20) + 1).write().to_vec();
    let cut = framed(&add()).slice(..20).to_vec();
    for (broken, code, expected) in [
        (vec![9, 0, 0, 0, 0], Code::InvalidArgument, "a message begins with 0 or 1, not with 9"),
        (too_large, Code::ResourceExhausted, "the request has more than 67108864 bytes"),
        (cut, Code::InvalidArgument, "it is shorter than its frame says"),
    ] {
        let mut conversation = Conversation::begin(&replica).await;
        conversation.ask(&numbered(0)).await;
        conversation.say(broken).await;
        conversation.say = None;
        assert_eq!(conversation.hear().await.infer_response.unwrap().id, "0");
        let (status, message) = conversation.end().await;
        assert_eq!(status, code as u16);
        assert!(message.contains(expected), "{message}");
    }
    let refused = Conversation::with(&replica, &[("grpc-encoding", "snappy")]).await;
    assert_eq!(refused.trailers.as_ref().unwrap()["grpc-status"], "12");
    replica.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_model() {
    let replica = Replica::start("spin").await;
    let leaving = Conversation::begin(&replica).await;
    leaving.ask(&spin(FOREVER)).await;
    leaving.ask(&spin(FOREVER)).await;
    replica.in_flight(2).await;
    drop(leaving);
    replica.in_flight(0).await;
    let mut staying = Conversation::begin(&replica).await;
    staying.ask(&spin(3)).await;
    assert_eq!(staying.hear().await.error_message, "");
    replica.stop().await;
}

#[tokio::test]
async fn no_more_is_worked_on_than_a_few_requests_of_a_stream() {
    let replica = Replica::start("spin").await;
    let mut conversation = Conversation::begin(&replica).await;
    for _ in 0..30 {
        conversation.ask(&spin(10_000)).await;
    }
    conversation.say = None;
    for _ in 0..30 {
        let in_flight = replica.get("/metrics").await.text;
        let line = in_flight.lines().find(|line| line.starts_with("tradewind_replica_requests_in_flight{")).unwrap();
        let number: usize = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        // One more is being read.
        assert!(number <= 9, "{line}");
        assert_eq!(conversation.hear().await.error_message, "");
    }
    assert_eq!(conversation.end().await.0, Code::Ok as u16);
    replica.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answers_holds_no_place() {
    let replica = Replica::start("identity_fp32").await;
    let values = fp32(&vec![0.5; 250_000]);
    let message = ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![crate::grpc::tensor("x", "FP32", &[250_000])],
        raw_input_contents: vec![values],
        ..Default::default()
    };
    let deaf = Conversation::begin(&replica).await;
    // More than its windows hold.
    let asking = async {
        loop {
            deaf.ask(&message).await;
        }
    };
    assert!(timeout(Duration::from_secs(2), asking).await.is_err(), "what it says waits in its connection at last");
    replica.in_flight(0).await;
    let mut other = Conversation::begin(&replica).await;
    other.ask(&message).await;
    assert_eq!(other.hear().await.error_message, "");
    // It would wait for the deaf one to take its answers.
    drop(replica);
}

#[tokio::test]
async fn a_stream_may_be_compressed() {
    let replica = Replica::start("identity_fp32").await;
    let mut conversation = Conversation::with(&replica, &[("grpc-encoding", "gzip")]).await;
    let values = fp32(&vec![0.5; 10_000]);
    let message = ModelInferRequest {
        model_name: "identity_fp32".to_owned(),
        inputs: vec![crate::grpc::tensor("x", "FP32", &[10_000])],
        raw_input_contents: vec![values.clone()],
        ..Default::default()
    };
    let compressed = Coding::Gzip.compress(&message.encode_to_vec());
    let frame = [&Header::compressed(compressed.len() as u32).write()[..], &compressed].concat();
    conversation.say(frame).await;
    let (header, answer) = conversation.hear_frame().await.unwrap();
    assert!(header.compressed && answer.len() < values.len() / 2, "{}", answer.len());
    let mut plain = BytesMut::new();
    Coding::Gzip.decompress(&answer, &mut plain, at_most(1 << 20)).unwrap();
    let answer = ModelStreamInferResponse::decode(plain.freeze()).unwrap();
    assert_eq!(answer.infer_response.unwrap().raw_output_contents, [values]);
    replica.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_the_stream() {
    let replica = Replica::start("spin").await;
    let mut conversation = Conversation::with(&replica, &[("grpc-timeout", "300m")]).await;
    conversation.ask(&spin(FOREVER)).await;
    let expected = (Code::DeadlineExceeded as u16, "the stream took longer than its grpc-timeout".to_owned());
    assert_eq!(conversation.end().await, expected);
    replica.in_flight(0).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted_and_ends_the_stream() {
    let replica = Replica::start("spin").await;
    let mut conversation = Conversation::begin(&replica).await;
    let mut silent = Conversation::begin(&replica).await;
    conversation.ask(&spin(100_000)).await;
    replica.in_flight(1).await;
    replica.stop().await;
    assert_eq!(conversation.hear().await.error_message, "");
    let stopping = (Code::Unavailable as u16, "the replica is stopping".to_owned());
    assert_eq!(conversation.end().await, stopping);
    assert_eq!(silent.end().await, stopping);
}
