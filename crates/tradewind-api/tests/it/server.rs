//! The server against clients that speak to the socket themselves.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use futures_util::StreamExt;
use hyper::{Request, Response, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    ndjson,
    server::{self, Limits, Windows},
};

/// What is expected comes at once, or after the short limits of a test.
const DEADLINE: Duration = Duration::from_secs(10);
/// A limit that no test reaches.
const FAR: Duration = Duration::from_secs(600);
/// What must not happen would happen within this time.
const LOOK: Duration = Duration::from_millis(300);

struct World {
    address: SocketAddr,
    /// `GET /gated` is answered with a permit of it.
    gate: Arc<Semaphore>,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

impl World {
    async fn start(limits: Limits) -> Self {
        let (gate, shutdown) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
        let (gated, stream) = (Arc::clone(&gate), shutdown.clone());
        let router = Router::new()
            .route("/", get(async || "here"))
            .route(
                "/gated",
                get(async move || gated.acquire().await.map(|permit| permit.forget()).map_or("", |()| "let through")),
            )
            .route(
                "/stream",
                get(async move || {
                    let items = futures_util::stream::once(async { 1 }).chain(futures_util::stream::pending());
                    ndjson::respond(items.take_until(stream.cancelled_owned()))
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(server::run(listener, server::routes(router), limits, shutdown.clone()));
        Self { address, gate, shutdown, served }
    }

    async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.address).await.unwrap())
    }

    async fn asked(&self, path: &str) -> Connection {
        let mut connection = self.connect().await;
        connection.say(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        connection
    }

    /// The server has stopped by itself.
    async fn stopped(self) {
        timeout(DEADLINE, self.served).await.expect("it stops").unwrap();
    }
}

struct Connection(TcpStream);

impl Connection {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends with `end`.
    async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let reading = async {
            while !heard.ends_with(end.as_bytes()) {
                let byte = self.0.read_u8().await.unwrap_or_else(|error| panic!("no `{end}`: {error}"));
                heard.push(byte);
            }
        };
        timeout(DEADLINE, reading).await.unwrap_or_else(|_| panic!("no `{end}`"));
        String::from_utf8(heard).unwrap()
    }

    /// All that comes until the server closes the connection.
    async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(DEADLINE, self.0.read_to_end(&mut rest)).await.expect("the server closes the connection");
        String::from_utf8(rest).unwrap()
    }

    async fn is_silent(&mut self) -> bool {
        timeout(LOOK, self.0.read_u8()).await.is_err()
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let world = World::start(Limits { head_time: Duration::from_millis(200), ..Limits::new(8, FAR) }).await;
    let mut slow = world.connect().await;
    slow.say("GET / HTTP/1.1\r\nhos").await;
    assert!(!slow.rest().await.contains("200 OK"));
    assert_eq!(world.connect().await.rest().await, "");
    // Neither is the next head on a connection that was used.
    let mut idle = world.asked("/").await;
    assert!(idle.hear("here").await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(idle.rest().await, "");
}

#[tokio::test]
async fn heads_are_bounded() {
    let world = World::start(Limits { headers: 8, head_bytes: 8 << 10, ..Limits::new(8, FAR) }).await;
    let mut many = world.connect().await;
    many.say(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(9))).await;
    assert!(many.rest().await.starts_with("HTTP/1.1 431 "));
    let mut long = world.connect().await;
    long.say(&format!("GET / HTTP/1.1\r\na: {}", "b".repeat(9 << 10))).await;
    assert!(long.rest().await.starts_with("HTTP/1.1 431 "));
    assert!(world.asked("/").await.hear("here").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_room() {
    let world = World::start(Limits::new(2, FAR)).await;
    let (mut first, mut second) = (world.asked("/gated").await, world.asked("/gated").await);
    let mut third = world.asked("/").await;
    assert!(third.is_silent().await);
    // Those that are in go on.
    world.gate.add_permits(2);
    first.hear("let through").await;
    second.hear("let through").await;
    assert!(third.is_silent().await);
    drop(first);
    assert!(third.hear("here").await.starts_with("HTTP/1.1 200 OK"));
    second.say("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    second.hear("here").await;
}

#[tokio::test]
async fn a_shutdown_lets_what_is_under_way_end() {
    let world = World::start(Limits::new(8, FAR)).await;
    let mut idle = world.asked("/").await;
    idle.hear("here").await;
    let mut silent = world.connect().await;
    let mut stream = world.asked("/stream").await;
    stream.hear("1\n\r\n").await;
    let mut gated = world.asked("/gated").await;
    assert!(gated.is_silent().await && silent.is_silent().await);

    world.shutdown.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(silent.rest().await, "");
    assert!(stream.rest().await.ends_with("0\r\n\r\n"), "a stream ends as a whole");
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody new is let in");
    world.gate.add_permits(1);
    assert!(gated.rest().await.ends_with("let through"));
    world.stopped().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let world = World::start(Limits::new(8, Duration::from_millis(200))).await;
    let mut gated = world.asked("/gated").await;
    assert!(gated.is_silent().await);
    world.shutdown.cancel();
    assert_eq!(gated.rest().await, "");
    world.stopped().await;
}

#[tokio::test]
async fn nothing_outlives_a_server_that_is_dropped() {
    let world = World::start(Limits::new(8, FAR)).await;
    let mut gated = world.asked("/gated").await;
    assert!(gated.is_silent().await);
    world.served.abort();
    assert_eq!(gated.rest().await, "");
}

#[tokio::test]
async fn http2_is_for_those_who_begin_with_it() {
    let http2 = Some(Windows { stream: 1 << 20, connection: 1 << 22 });
    let limits = Limits { http2, head_time: Duration::from_millis(500), ..Limits::new(8, FAR) };
    let world = World::start(limits).await;
    assert!(world.asked("/").await.hear("here").await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(world.connect().await.rest().await, "", "who says nothing is not waited for");

    let io = TokioIo::new(TcpStream::connect(world.address).await.unwrap());
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut get = |path: &str| client.send_request(Request::get(path).body(Body::empty()).unwrap());
    assert_eq!(text(get("/").await.unwrap()).await, "here");
    let mut gated = pin!(get("/gated"));
    assert!(timeout(LOOK, gated.as_mut()).await.is_err());
    world.shutdown.cancel();
    world.gate.add_permits(1);
    assert_eq!(text(gated.await.unwrap()).await, "let through");
    timeout(DEADLINE, connection).await.expect("the server closes it").unwrap().unwrap();
    world.stopped().await;
}

async fn text(response: Response<Incoming>) -> String {
    let body = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap();
    String::from_utf8(body.into()).unwrap()
}
