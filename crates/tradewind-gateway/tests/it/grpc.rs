//! gRPC through the gateway: unary calls of the Open Inference Protocol.

use std::{convert::Infallible, time::Duration, vec};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tradewind_api::grpc::{self, Code, Method, frame, message};

use crate::{
    process::{Process, listener},
    replica::Replica,
    world::{DEADLINE, EU, MODEL, US, World},
};

type Frames = StreamBody<stream::Iter<vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn framed(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).unwrap();
    [&frame::Header::plain(length).write()[..], &message.encode_to_vec()].concat().into()
}

fn frames(frames: Vec<Frame<Bytes>>) -> Frames {
    StreamBody::new(stream::iter(frames.into_iter().map(Ok).collect::<Vec<_>>()))
}

/// Answers each inference with its id, and with the caller's deadline in place of the version. One is never answered.
async fn infer(request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    if !grpc::is_grpc(request.headers()) {
        return Ok(Response::new(frames(Vec::new())));
    }
    assert_eq!(request.uri().path(), Method::ModelInfer.path());
    assert_eq!(request.headers()[header::TE], "trailers");
    let timeout = request.headers().get(grpc::timeout::TIMEOUT_HEADER).cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked = message::ModelInferRequest::decode(&body[frame::HEADER_BYTES..]).unwrap();
    if asked.id == "slow" {
        std::future::pending::<()>().await;
    }
    let told = timeout.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let answer = message::ModelInferResponse {
        model_name: asked.model_name,
        model_version: told,
        id: asked.id,
        ..Default::default()
    };
    let body = frames(vec![Frame::data(framed(&answer)), Frame::trailers(grpc::Status::OK.trailers())]);
    Ok(Response::builder().header(header::CONTENT_TYPE, grpc::CONTENT_TYPE).body(body).unwrap())
}

fn replica(id: &str) -> Replica {
    let serve = |listener: tokio::net::TcpListener| async move {
        let mut connections = JoinSet::new();
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            connections.spawn(async move {
                // A connection may break at any time.
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(infer)).await);
            });
        }
    };
    Replica::of(id, Process::run(listener(), serve))
}

/// What a call ended with: its code, and the message if there was one.
async fn call(
    world: &World,
    name: &str,
    asked: &message::ModelInferRequest,
    wait: Option<&str>,
) -> (u16, Bytes, HeaderMap) {
    let stream = TcpStream::connect(world.gateways[name].address).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut request = Request::post(world.gateways[name].url(Method::ModelInfer.path()))
        .header(header::CONTENT_TYPE, grpc::CONTENT_TYPE)
        .header(header::TE, "trailers");
    if let Some(wait) = wait {
        request = request.header(grpc::timeout::TIMEOUT_HEADER, wait);
    }
    let sent = sender.send_request(request.body(Full::new(framed(asked))).unwrap());
    let answer = timeout(DEADLINE, sent).await.expect("an answer in time").unwrap();
    assert_eq!(answer.status(), 200, "gRPC says it elsewhere");
    let (head, body) = answer.into_parts();
    let body = timeout(DEADLINE, body.collect()).await.expect("all of it in time").unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let code = trailers.get(grpc::status::STATUS_HEADER).or(head.headers.get(grpc::status::STATUS_HEADER));
    let code = code.expect("a status").to_str().unwrap().parse().unwrap();
    (code, body.to_bytes(), head.headers)
}

fn asking(model: &str, id: &str) -> message::ModelInferRequest {
    message::ModelInferRequest { model_name: model.to_owned(), id: id.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_where_the_model_in_its_message_is_and_back_with_its_trailers() {
    let eu = replica("eu");
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    for name in [EU, US] {
        let (code, body, headers) = call(&world, name, &asking(MODEL, "one"), None).await;
        assert_eq!((code, &headers["x-tradewind-region"]), (Code::Ok as u16, &EU.parse().unwrap()));
        let answer = message::ModelInferResponse::decode(&body[frame::HEADER_BYTES..]).unwrap();
        assert_eq!((answer.id.as_str(), answer.model_version.as_str()), ("one", ""));
        let (code, body, headers) = call(&world, name, &asking("nosuch", "one"), None).await;
        assert_eq!((code, body.len()), (Code::NotFound as u16, 0));
        assert_eq!(headers["x-request-id"].len(), 32);
    }
    let ok = "tradewind_gateway_requests_total{model=\"digits\",region=\"europe-west1\",slot=\"blue\",outcome=\"ok\"}";
    assert_eq!((world.metric(EU, ok).await, world.metric(US, ok).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_is_passed_on_and_kept() {
    let eu = replica("eu");
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    for name in [EU, US] {
        let (code, body, _) = call(&world, name, &asking(MODEL, "one"), Some("20S")).await;
        assert_eq!(code, Code::Ok as u16);
        let answer = message::ModelInferResponse::decode(&body[frame::HEADER_BYTES..]).unwrap();
        let told = grpc::timeout::read(answer.model_version.as_bytes()).unwrap();
        assert!(told > Duration::ZERO && told < Duration::from_secs(20), "{told:?}");
        let (code, ..) = call(&world, name, &asking(MODEL, "slow"), Some("300m")).await;
        assert_eq!(code, Code::DeadlineExceeded as u16);
    }
    let (code, ..) = call(&world, US, &asking(MODEL, "one"), Some("soon")).await;
    assert_eq!(code, Code::InvalidArgument as u16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_replica_dies_is_sent_to_another_region() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    us.kill();
    let (code, _, headers) = call(&world, US, &asking(MODEL, "one"), None).await;
    assert_eq!((code, &headers["x-tradewind-region"]), (Code::Ok as u16, &EU.parse().unwrap()));
    eu.kill();
    let (code, body, headers) = call(&world, US, &asking(MODEL, "one"), None).await;
    assert_eq!((code, body.len()), (Code::Unavailable as u16, 0));
    assert!(!headers.iter().any(|(_, value)| value.to_str().unwrap().contains("127.0.0.1")), "{headers:?}");
}
