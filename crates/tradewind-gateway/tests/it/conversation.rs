//! What of gRPC is more than one plain message in and out: streams that go back and forth, compressed messages, and the
//! repository, which the gateway itself tells of.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
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
use reqwest::StatusCode;
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tradewind_api::{
    compression::Coding,
    grpc::{self, Code, Method, frame, message},
};

use crate::{
    process::{Process, listener},
    replica::Replica,
    world::{DEADLINE, EU, MODEL, US, World, region, state},
};

/// Gives back what comes, as it comes.
async fn echo(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let body = request.into_body().into_data_stream().map(|data| data.map(Frame::data));
    let trailers = futures_util::stream::iter([Ok(Frame::trailers(grpc::Status::OK.trailers()))]);
    let body = BodyExt::boxed(StreamBody::new(body.chain(trailers)));
    Ok(Response::builder().header(header::CONTENT_TYPE, grpc::CONTENT_TYPE).body(body).unwrap())
}

fn echoing(id: &str) -> Replica {
    let serve = |listener: tokio::net::TcpListener| async move {
        let mut connections = JoinSet::new();
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            connections.spawn(async move {
                // A connection may break at any time.
                drop(auto::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(echo)).await);
            });
        }
    };
    Replica::of(id, Process::run(listener(), serve))
}

/// One call whose request a test says bit by bit.
struct Call {
    say: Option<mpsc::Sender<Bytes>>,
    answer: Response<Incoming>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl Call {
    /// Begins with `first`: a gateway waits for the model's name.
    async fn begin(world: &World, name: &str, method: Method, coding: Option<Coding>, first: Bytes) -> Self {
        Self::saying(world, name, method, coding, &[first]).await
    }

    async fn saying(world: &World, name: &str, method: Method, coding: Option<Coding>, first: &[Bytes]) -> Self {
        let stream = TcpStream::connect(world.gateways[name].address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (say, said) = mpsc::channel(16);
        for piece in first {
            say.send(piece.clone()).await.unwrap();
        }
        // Any other request is all of its call.
        let say = method.is_a_conversation().then_some(say);
        let mut request = Request::post(world.gateways[name].url(method.path()))
            .header(header::CONTENT_TYPE, grpc::CONTENT_TYPE)
            .header(header::TE, "trailers");
        if let Some(coding) = coding {
            request = request.header("grpc-encoding", coding.name());
        }
        let body = StreamBody::new(ReceiverStream::new(said).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
        let sent = sender.send_request(request.body(body).unwrap());
        let answer = timeout(DEADLINE, sent).await.expect("an answer in time").unwrap();
        Self { say, answer, _driver: driver }
    }

    async fn say(&self, bytes: Bytes) {
        self.say.as_ref().unwrap().send(bytes).await.unwrap();
    }

    async fn hear(&mut self, expected: &Bytes) {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            let frame = timeout(DEADLINE, self.answer.body_mut().frame()).await.expect("not held back");
            heard.extend_from_slice(&frame.expect("it goes on").unwrap().into_data().expect("no trailers yet"));
        }
        assert!(heard == *expected, "{} bytes are others", heard.len());
    }

    /// The code it ends with, when nothing more is said.
    async fn end(mut self) -> u16 {
        self.say = None;
        let (head, body) = self.answer.into_parts();
        let body = timeout(DEADLINE, body.collect()).await.expect("all of it in time").unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let code = trailers.get("grpc-status").or(head.headers.get("grpc-status")).expect("a status");
        code.to_str().unwrap().parse().unwrap()
    }
}

fn asking(model: &str, id: &str) -> Bytes {
    let message = message::ModelInferRequest { model_name: model.to_owned(), id: id.to_owned(), ..Default::default() };
    framed(&message.encode_to_vec(), false)
}

fn framed(message: &[u8], compressed: bool) -> Bytes {
    let header = frame::Header { compressed, length: message.len() as u32 };
    [&header.write()[..], message].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_stays_with_what_it_began_with() {
    let (old, new) = (echoing("old"), echoing("new"));
    let world = World::start(&[(EU, &[&old]), (US, &[])]).await;
    for name in [EU, US] {
        let mut call = Call::begin(&world, name, Method::ModelStreamInfer, None, asking(MODEL, "0")).await;
        assert_eq!(call.answer.headers()["x-tradewind-region"], EU);
        call.hear(&asking(MODEL, "0")).await;
        // Each answer comes before the next question.
        for id in ["1", "2", "3"] {
            call.say(asking(MODEL, id)).await;
            call.hear(&asking(MODEL, id)).await;
        }
        // More than one request may have, and a message that nobody is sent by again.
        let large = framed(&vec![7; 9 << 20], false);
        for _ in 0..8 {
            call.say(large.clone()).await;
            call.hear(&large).await;
        }
        assert_eq!(call.end().await, Code::Ok as u16);
        let nobody = Call::begin(&world, name, Method::ModelStreamInfer, None, asking("nosuch", "0")).await;
        assert_eq!(nobody.end().await, Code::NotFound as u16);
    }
    let mut call = Call::begin(&world, EU, Method::ModelStreamInfer, None, asking(MODEL, "0")).await;
    call.hear(&asking(MODEL, "0")).await;
    // Other users get something else from now on.
    world.agents[EU].tell(&[&old, &new]);
    world.control.change(|snapshot| {
        snapshot.routes[0].committed = Some(state(2, tradewind_core::Slot::Blue, vec![region(EU)]));
    });
    world.control.committed(EU, 2).await;
    call.say(asking(MODEL, "still")).await;
    call.hear(&asking(MODEL, "still")).await;
    assert_eq!(call.end().await, Code::Ok as u16);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_found_in_compressed_messages_too() {
    let eu = echoing("eu");
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    let message = |model: &str, size: usize| {
        let raw = (0..size).map(|n| ((n * n) >> 7) as u8).collect::<Vec<_>>();
        let name = model.to_owned();
        message::ModelInferRequest { model_name: name, raw_input_contents: vec![raw.into()], ..Default::default() }
    };
    for coding in Coding::ALL {
        for size in [0, 100, 300_000] {
            let compressed = framed(&coding.compress(&message(MODEL, size).encode_to_vec()), true);
            // In pieces, of which the first says nothing.
            let pieces = [compressed.slice(..6), compressed.slice(6..)];
            let mut call = Call::saying(&world, US, Method::ModelStreamInfer, Some(coding), &pieces).await;
            call.hear(&compressed).await;
            assert_eq!(call.end().await, Code::Ok as u16);
        }
        let other = framed(&coding.compress(&message("nosuch", 10).encode_to_vec()), true);
        let call = Call::begin(&world, US, Method::ModelStreamInfer, Some(coding), other).await;
        assert_eq!(call.end().await, Code::NotFound as u16);
        // The name does not come: it is not looked for without end.
        let bomb = framed(&coding.compress(&vec![0x22; 32 << 20]), true);
        let call = Call::begin(&world, US, Method::ModelStreamInfer, Some(coding), bomb).await;
        assert_eq!(call.end().await, Code::InvalidArgument as u16);
    }
    let compressed = framed(&Coding::Gzip.compress(&message(MODEL, 10).encode_to_vec()), true);
    for (coding, expected) in [(None, Code::Unimplemented), (Some(Coding::Deflate), Code::InvalidArgument)] {
        let call = Call::begin(&world, US, Method::ModelInfer, coding, compressed.clone()).await;
        assert_eq!(call.end().await, expected as u16);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_is_what_is_routed() {
    let eu = echoing("eu");
    let mut world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    let index = async |world: &World| -> serde_json::Value {
        let answer = world.http.post(world.gateways[US].url("/v2/repository/index")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    };
    let ready = serde_json::json!([{"name": MODEL, "version": "1", "state": "READY", "reason": ""}]);
    assert_eq!(index(&world).await, ready);
    assert_eq!(world.get(US, "/v2/repository/index").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let statistics = world.get(US, "/v2/models/stats").await;
    assert_eq!(statistics.status(), StatusCode::NOT_FOUND);
    assert!(statistics.text().await.unwrap().contains("/v2/models/NAME/stats"));
    let call = async |method, message: Vec<u8>| {
        let call = Call::begin(&world, US, method, None, framed(&message, false)).await;
        call.end().await
    };
    assert_eq!(call(Method::RepositoryIndex, vec![]).await, Code::Ok as u16);
    let load = message::RepositoryModelLoadRequest { model_name: MODEL.to_owned(), ..Default::default() };
    assert_eq!(call(Method::RepositoryModelLoad, load.encode_to_vec()).await, Code::PermissionDenied as u16);
    assert_eq!(call(Method::RepositoryModelUnload, load.encode_to_vec()).await, Code::PermissionDenied as u16);
    // Statistics are of one model.
    assert_eq!(call(Method::ModelStatistics, vec![]).await, Code::InvalidArgument as u16);
    let named = message::ModelStatisticsRequest { name: MODEL.to_owned(), version: String::new() };
    assert_eq!(call(Method::ModelStatistics, named.encode_to_vec()).await, Code::Ok as u16);
    world.agents.get_mut(EU).unwrap().tell(&[]);
    crate::world::until(async || index(&world).await[0]["state"] == "UNAVAILABLE").await;
    assert!(index(&world).await[0]["reason"].as_str().unwrap().contains("has no ready replica"));
}
