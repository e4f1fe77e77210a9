//! Upstreams of the benchmark's own, where a model would be the bottleneck or has no such form: a stream of tokens, and
//! gRPC calls. They run in a runtime on the cores that are not the proxies'.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval},
};

use super::calls;
use crate::grpc::CONTENT_TYPE;

/// A model writes this often in one stream.
pub(super) const TOKENS_PER_SECOND: u32 = 100;
/// The most connections of a proxy at once.
const CONNECTIONS_LIMIT: usize = 4096;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What a stream of tokens is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub events: u64,
}

/// One event of a stream.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Token {
    pub number: u64,
    /// When it was sent, by [`now`].
    pub sent: u64,
}

/// Nanoseconds of a clock that all processes of a machine share.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Serves until it is dropped, HTTP/1.1 and HTTP/2 on one port.
#[derive(Debug)]
pub(super) struct Upstream {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Upstream {
    pub(super) async fn bind() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("an address for an upstream")?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    pub(super) async fn run(self) {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = self.listener.accept().await {
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS_LIMIT {
                connections.join_next().await;
            }
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            connections.spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                // A proxy may leave whenever it likes.
                drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
            });
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Reply, hyper::Error> {
    if request.method() != Method::POST {
        // A health check.
        return Ok(Response::new(Full::new(Bytes::from_static(b"ok\n")).boxed_unsync()));
    }
    let grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == CONTENT_TYPE);
    let body = request.into_body().collect().await?.to_bytes();
    Ok(if grpc { call(&body) } else { stream(&body) })
}

/// The one answer to all calls, as if a model had been asked.
fn call(body: &Bytes) -> Reply {
    let right = *body == calls::request();
    let (answer, status) = if right { (calls::answer(), "0") } else { (Bytes::new(), "3") };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let body = Full::new(answer).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

fn stream(body: &Bytes) -> Reply {
    let events = serde_json::from_slice::<Wanted>(body).map_or(0, |wanted| wanted.events);
    let mut ticks = interval(Duration::from_secs(1) / TOKENS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Tokens { ticks, next: 0, events }.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Tokens as server-sent events, each for itself.
#[derive(Debug)]
struct Tokens {
    ticks: Interval,
    next: u64,
    events: u64,
}

impl Body for Tokens {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.next == self.events {
            return Poll::Ready(None);
        }
        ready!(self.ticks.poll_tick(context));
        let token = Token { number: self.next, sent: now() };
        self.next += 1;
        let json = serde_json::to_string(&token).expect("numbers are JSON");
        Poll::Ready(Some(Ok(Frame::data(format!("data: {json}\n\n").into()))))
    }
}
