//! Connections to replicas and peers: dialled when needed, kept while they are good.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::body::Outbound;

/// Connecting takes at most this long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The head of an answer comes within this time.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// An unused connection is kept for this long: less than any upstream keeps it (gateways: 60 s).
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// The most unused connections to one address.
const IDLE_PER_ADDRESS: usize = 256;

/// Why an exchange failed; what is not said here is a matter of the answer's body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The upstream may have begun to work on the request, or, on a reused connection, may have closed it long ago.
    #[error("the connection broke before an answer")]
    Broken { reused: bool, source: hyper::Error },
    #[error("no answer within {} s", RESPONSE_TIMEOUT.as_secs())]
    Timeout,
}

/// Whether a kept connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    /// For what can be sent only once: a kept connection may turn out to be closed.
    Never,
}

/// An answer's head, and its connection, which is to be given back once the body was read.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
    /// From when the connection stood until the head had come.
    pub(crate) elapsed: Duration,
}

#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    sender: SendRequest<Outbound>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Outbound>,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Upstream {
    idle: Mutex<HashMap<String, Vec<Idle>>>,
    drivers: TaskTracker,
    shutdown: CancellationToken,
}

impl Upstream {
    /// The connections end with `shutdown` at the latest.
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self { idle: Mutex::default(), drivers: TaskTracker::new(), shutdown }
    }

    /// Sends one request. `request` is asked for it only once a connection stands.
    pub(crate) async fn exchange(
        &self,
        address: &str,
        reuse: Reuse,
        request: impl FnOnce() -> Request<Outbound>,
    ) -> Result<Exchange, Failure> {
        let kept = if reuse == Reuse::Allowed { self.take(address) } else { None };
        let reused = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.dial(address).await.map_err(Failure::Connect)?,
        };
        let started = Instant::now();
        let answered = async {
            sender.ready().await?;
            sender.send_request(request()).await
        };
        match timeout(RESPONSE_TIMEOUT, answered).await {
            Err(_) => Err(Failure::Timeout),
            Ok(Err(source)) => Err(Failure::Broken { reused, source }),
            Ok(Ok(response)) => {
                let connection = Connection { address: address.to_owned(), sender };
                Ok(Exchange { response, connection, elapsed: started.elapsed() })
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(crate) fn give_back(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.lock();
        let kept = idle.entry(connection.address).or_default();
        if kept.len() < IDLE_PER_ADDRESS {
            kept.push(Idle { sender: connection.sender, since: Instant::now() });
        }
    }

    /// Lets go of connections that nobody used for a while.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, kept| {
            kept.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_LIMIT);
            !kept.is_empty()
        });
    }

    /// Waits until all connections have ended.
    pub(crate) async fn closed(&self) {
        self.lock().clear();
        self.drivers.close();
        self.drivers.wait().await;
    }

    /// The connection that was used last, which is the likeliest to be open.
    fn take(&self, address: &str) -> Option<SendRequest<Outbound>> {
        let mut idle = self.lock();
        let kept = idle.get_mut(address)?;
        while let Some(candidate) = kept.pop() {
            if !candidate.sender.is_closed() && candidate.since.elapsed() < IDLE_LIMIT {
                return Some(candidate.sender);
            }
        }
        None
    }

    async fn dial(&self, address: &str) -> io::Result<SendRequest<Outbound>> {
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let shutdown = self.shutdown.clone();
        self.drivers.spawn(async move {
            // How a connection ends is told to whoever waits for an answer on it.
            let _ = shutdown.run_until_cancelled_owned(connection).await;
        });
        Ok(sender)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
