//! The server: connections, what the gateway answers itself, and the limits on both.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tradewind_api::{
    gateway::{PEER_PATH, PeerState, REQUEST_ID_HEADER},
    http::bearer,
    replica::INFERENCE_LIMIT,
};

use crate::{
    body::Answer,
    gateway::Gateway,
    headers::{request_id, same_token},
    proxy,
};

/// The most connections at once; more wait in the socket's backlog.
const CONNECTIONS_LIMIT: usize = 16_384;
/// A request's head comes within this time of the end of the last one: also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// After an error of accept that is not one connection's, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most header fields of a request.
const HEADERS_LIMIT: usize = 128;
/// The most bytes of an HTTP/2 request's head.
const HEAD_LIMIT: u32 = 64 << 10;
/// What is read of an HTTP/1 connection at once, and so the most bytes of a head.
const BUFFER_LIMIT: usize = 128 << 10;

/// Accepts until `shutdown`, then drains.
pub(crate) async fn run(gateway: Arc<Gateway>, listener: TcpListener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
    // Cancelled when what is in flight has had all the time that anybody waits for it.
    let abort = CancellationToken::new();
    while let Some(Some((stream, permit))) = shutdown.run_until_cancelled(accept(&listener, &room)).await {
        let (gateway, shutdown, abort) = (Arc::clone(&gateway), shutdown.clone(), abort.clone());
        connections.spawn(async move {
            abort.run_until_cancelled(serve(gateway, stream, shutdown)).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if timeout(INFERENCE_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "cut off what did not finish in time");
        abort.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, permit)),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection, until it ends by itself or, after `shutdown`, with its last request.
async fn serve(gateway: Arc<Gateway>, stream: TcpStream, shutdown: CancellationToken) {
    let protocol = tokio::select! {
        // What has already come is served, also when the gateway is told to stop at that moment.
        biased;
        protocol = protocol(&stream) => protocol,
        () = shutdown.cancelled() => None,
    };
    let Some(protocol) = protocol.filter(|_| stream.set_nodelay(true).is_ok()) else { return };
    let service = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(answer(&gateway, request).await) }
    });
    let io = TokioIo::new(stream);
    let ended = match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            builder.max_headers(HEADERS_LIMIT).max_buf_size(BUFFER_LIMIT);
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Protocol::Http2 => {
            let streams = Streams(TaskTracker::new());
            let mut builder = http2::Builder::new(streams);
            builder.timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT).max_header_list_size(HEAD_LIMIT);
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Told apart by the first bytes: only HTTP/2 with prior knowledge begins with `PRI`. `None` when nothing comes.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    let mut first = [0; 3];
    let length = timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await.ok()?.ok()?;
    match &first[..length] {
        [] => None,
        b"PRI" => Some(Protocol::Http2),
        _ => Some(Protocol::Http1),
    }
}

/// Runs the streams of one HTTP/2 connection.
#[derive(Debug, Clone)]
struct Streams(TaskTracker);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// A reply of the gateway's own.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Reply {
    pub(crate) fn error(status: StatusCode, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": message }))
    }

    fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("replies have string keys");
        Self { status, content_type: "application/json", body: body.into() }
    }

    fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.into() }
    }

    pub(crate) fn into_response(self) -> Response<Answer> {
        let mut response = Response::new(Answer::Own(Full::new(self.body)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

async fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Response<Answer> {
    let id = request_id(request.headers());
    let mut response = if request.uri().path().starts_with(proxy::MODELS_PATH) {
        proxy::pass_on(gateway, request, &id).await
    } else {
        own(gateway, &request).into_response()
    };
    response.headers_mut().insert(REQUEST_ID_HEADER, id);
    response
}

/// What the gateway answers itself.
fn own(gateway: &Gateway, request: &Request<Incoming>) -> Reply {
    let path = request.uri().path();
    if path.starts_with("/v2/repository") {
        let message = "models are not loaded or unloaded through a gateway; deploy and undeploy them";
        return Reply::error(StatusCode::FORBIDDEN, message);
    }
    let page = match path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path) {
        "/v2" => metadata,
        "/v2/health/live" => live,
        "/v2/health/ready" => ready_for_clients,
        "/healthz" => alive,
        "/readyz" => ready,
        "/metrics" => metrics,
        PEER_PATH => return peer_state(gateway, request),
        _ => return Reply::error(StatusCode::NOT_FOUND, "no such path; models are under /v2/models/"),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path is only for GET");
    }
    page(gateway)
}

fn metadata(_: &Gateway) -> Reply {
    let version = env!("CARGO_PKG_VERSION");
    Reply::json(StatusCode::OK, &serde_json::json!({ "name": "tradewind", "version": version, "extensions": [] }))
}

/// Some clients of the protocol read the body.
fn live(_: &Gateway) -> Reply {
    Reply::json(StatusCode::OK, &serde_json::json!({ "live": true }))
}

fn ready_for_clients(gateway: &Gateway) -> Reply {
    let status = ready(gateway).status;
    Reply::json(status, &serde_json::json!({ "ready": status == StatusCode::OK }))
}

fn alive(_: &Gateway) -> Reply {
    Reply::text(StatusCode::OK, "ok\n")
}

/// Ready when every routed model has an eligible region.
fn ready(gateway: &Gateway) -> Reply {
    let world = gateway.world.load();
    let Some(world) = world.as_ref() else {
        return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet\n");
    };
    match world.unserved() {
        unserved if unserved.is_empty() => Reply::text(StatusCode::OK, "ready\n"),
        unserved => Reply::text(StatusCode::SERVICE_UNAVAILABLE, unserved.join("\n") + "\n"),
    }
}

fn metrics(gateway: &Gateway) -> Reply {
    let text = gateway.metrics.render(gateway.world.load().as_deref());
    Reply { content_type: "text/plain; version=0.0.4; charset=utf-8", ..Reply::text(StatusCode::OK, text) }
}

fn peer_state(gateway: &Gateway, request: &Request<Incoming>) -> Reply {
    let world = gateway.world.load();
    let Some(world) = world.as_ref() else {
        return Reply::error(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet");
    };
    let token = bearer(request.headers()).unwrap_or_default();
    if !same_token(token.as_bytes(), world.snapshot.mesh_token.as_bytes()) {
        return Reply::error(StatusCode::UNAUTHORIZED, "this path is for the gateways of other regions");
    }
    Reply::json(StatusCode::OK, &PeerState { region: gateway.region.clone(), ready: world.capacity() })
}

/// Counts a request for as long as it is under way; `None` when there are too many.
pub(crate) fn admit(gateway: &Arc<Gateway>, limit: usize) -> Option<Admitted> {
    let admitted = Admitted(Arc::clone(gateway));
    if gateway.metrics.concurrent.fetch_add(1, Ordering::Relaxed) < limit {
        return Some(admitted);
    }
    gateway.metrics.overload.fetch_add(1, Ordering::Relaxed);
    None
}

#[derive(Debug)]
pub(crate) struct Admitted(Arc<Gateway>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.metrics.concurrent.fetch_sub(1, Ordering::Relaxed);
    }
}
