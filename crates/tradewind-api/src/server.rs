//! The HTTP server under every role's routes. It is bounded in connections, in the heads of requests and the time they
//! may take to come, and in how long it takes to stop. It knows no route, and nothing of what is answered.

mod connection;
mod context;

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    service::Service,
};
use hyper_util::service::TowerToHyperService;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use context::in_context;

/// After an error of accept that is not one connection's, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much a server takes, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at once; more wait in the socket's backlog.
    pub connections: usize,
    /// A request's head comes within this time of the end of the last one: also how long an idle connection is kept.
    pub head_time: Duration,
    /// The most header fields of a request.
    pub headers: usize,
    /// What is read of a connection at once, in bytes, and so the most of a head; at least 8 KiB.
    pub head_bytes: u32,
    /// What is in flight when the server is told to stop has this long to end.
    pub drain: Duration,
    /// Whether HTTP/2 is spoken too, to those who begin with it (prior knowledge), and with which windows.
    pub http2: Option<Windows>,
}

/// What may be under way to an HTTP/2 server, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Windows {
    pub stream: u32,
    pub connection: u32,
}

impl Limits {
    /// More than a minute: who asks once a minute, as monitoring does, must not meet the end of his connection.
    pub const HEAD_TIME: Duration = Duration::from_secs(75);
    pub const HEADERS: usize = 128;
    pub const HEAD_BYTES: u32 = 128 << 10;

    /// HTTP/1.1 alone, with the heads that all roles take.
    pub fn new(connections: usize, drain: Duration) -> Self {
        let (head_time, headers, head_bytes) = (Self::HEAD_TIME, Self::HEADERS, Self::HEAD_BYTES);
        Self { connections, head_time, headers, head_bytes, drain, http2: None }
    }
}

/// Routes as a service for [`run`].
pub fn routes(router: Router) -> TowerToHyperService<Router> {
    // With its state the router is put together once, and not at each request.
    TowerToHyperService::new(router.with_state(()))
}

/// Serves until `shutdown`; returns when every connection has ended. An answer that has no end of its own has to watch
/// `shutdown` itself.
pub async fn run<S, B>(listener: TcpListener, service: S, limits: Limits, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let stop = shutdown.clone();
    accept(listener, limits, shutdown, move |stream| connection::serve(stream, service.clone(), limits, stop.clone()))
        .await;
}

/// Accepts until `shutdown`, then gives the connections [`Limits::drain`] to end and cuts off the others. Dropping the
/// future cuts off all of them.
async fn accept<F>(
    listener: TcpListener,
    limits: Limits,
    shutdown: CancellationToken,
    connection: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    let abort = CancellationToken::new();
    let _abort_if_dropped = abort.clone().drop_guard();
    while let Some(Some((stream, permit))) = shutdown.run_until_cancelled(next_connection(&listener, &room)).await {
        let (served, abort) = (connection(stream), abort.clone());
        connections.spawn(async move {
            abort.run_until_cancelled(served).await;
            drop(permit);
        });
    }
    // From now on, who connects is refused and asks elsewhere.
    drop(listener);
    connections.close();
    if timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "connections did not end in time and are cut off");
        abort.cancel();
        connections.wait().await;
    }
}

/// The next connection, as soon as there is room for one; `None` when the room is closed.
pub async fn next_connection(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
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
