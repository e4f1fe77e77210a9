//! One thread's connections to targets: dialled when needed, kept while they are good. Nothing here is shared.

mod incoming;

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    body::{Interrupted, Outbound},
    http1::client::{Connection, RequestHead},
    message::Response,
    target::Target,
};

pub(crate) use incoming::Incoming;

/// Connecting takes at most this long: a target whose backlog was full is asked by the kernel once more, after 1 s.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An unused connection is kept for this long: less than any upstream keeps it (gateways: 60 s).
const IDLE_LIMIT: Duration = Duration::from_secs(15);
/// The most unused connections to one target.
const IDLE_CONNECTIONS: usize = 256;
/// Above so many streams another HTTP/2 connection is opened: one connection has one lock and one window.
const STREAMS_PER_CONNECTION: u32 = 64;
/// The most HTTP/2 connections to one target.
const HTTP2_CONNECTIONS: usize = 8;
/// How much of one answer, and of all answers, a peer may send ahead: a round trip of 300 ms at 50 MB/s fits.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A connection with streams that is silent for so long is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// What is spoken to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Why there is no answer; what is not said here is a matter of the answer's body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The request was not sent.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// It may have begun to work on the request, or, on a kept connection, may have closed it long ago.
    #[error("the connection broke before an answer")]
    Broken { kept: bool, source: Interrupted },
    #[error("no answer in time")]
    Timeout,
}

/// Whether nobody is there, rather than somebody who is busy, or this process out of file descriptors.
pub(crate) fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

/// Whether a kept connection may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    Never,
}

/// An answer as far as its head.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    /// From when the connection stood until the head had come.
    pub(crate) elapsed: Duration,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Idle {
    fn is_good(&self, now: Instant) -> bool {
        now - self.since < IDLE_LIMIT && self.connection.is_quiet()
    }
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Channel {
    sender: http2::SendRequest<Outbound>,
    streams: Cell<u32>,
    used: Cell<Instant>,
}

/// One stream of a channel; counts until dropped.
#[derive(Debug)]
pub(crate) struct Stream(Rc<Channel>);

impl Stream {
    fn of(channel: &Rc<Channel>) -> Self {
        channel.streams.set(channel.streams.get() + 1);
        Self(Rc::clone(channel))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.used.set(Instant::now());
    }
}

/// The connections of this thread.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: RefCell<foldhash::HashMap<u64, Rc<Link>>>,
}

/// Runs connections. They belong to the thread, and end with it at the latest.
#[derive(Debug, Clone, Copy)]
struct Drivers;

impl<F: Future<Output = ()> + 'static> Executor<F> for Drivers {
    fn execute(&self, driver: F) {
        tokio::task::spawn_local(driver);
    }
}

impl Links {
    pub(crate) fn to(&self, target: &Arc<Target>) -> Rc<Link> {
        if let Some(link) = self.links.borrow().get(&target.id) {
            return Rc::clone(link);
        }
        let link = Rc::new(Link {
            target: Arc::clone(target),
            idle: RefCell::default(),
            channels: RefCell::default(),
            lost: Notify::new(),
        });
        self.links.borrow_mut().insert(target.id, Rc::clone(&link));
        link
    }

    /// Probes found the target dead: who waits for its answer should look elsewhere.
    pub(crate) fn lost(&self, target: u64) {
        if let Some(link) = self.links.borrow().get(&target) {
            link.lost.notify_waiters();
        }
    }

    /// Like [`Self::lost`] for all that are unhealthy now.
    pub(crate) fn lose_unhealthy(&self) {
        let links = self.links.borrow();
        links.values().filter(|link| !link.target.healthy()).for_each(|link| link.lost.notify_waiters());
    }

    /// Lets go of connections that nobody used for a while, and of targets that nobody else knows.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.links.borrow_mut().retain(|_, link| {
            link.idle.borrow_mut().retain(|idle| idle.is_good(now));
            link.channels.borrow_mut().retain(|channel| {
                let unused = channel.streams.get() == 0 && channel.used.get().elapsed() >= IDLE_LIMIT;
                !channel.sender.is_closed() && !unused
            });
            Arc::strong_count(&link.target) > 1 || Rc::strong_count(link) > 1
        });
    }
}

/// The connections of this thread to one target.
#[derive(Debug)]
pub(crate) struct Link {
    target: Arc<Target>,
    idle: RefCell<Vec<Idle>>,
    channels: RefCell<Vec<Rc<Channel>>>,
    lost: Notify,
}

impl Link {
    /// Resolves when probes find the target dead after the first poll.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Sends a request and waits for the head of its answer until `deadline`.
    pub(crate) async fn exchange_http1(
        self: &Rc<Self>,
        reuse: Reuse,
        head: &RequestHead<'_>,
        body: Outbound,
        deadline: Instant,
    ) -> Result<Exchange, Failure> {
        let mut started = Instant::now();
        let kept = if reuse == Reuse::Allowed { self.take_idle(started) } else { None };
        let reused = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                // Rare, and larger than all the rest.
                let stream = Box::pin(self.connect()).await.map_err(Failure::Connect)?;
                started = Instant::now();
                Box::new(Connection::new(stream))
            }
        };
        match timeout_at(deadline, connection.exchange(head, body)).await {
            Err(_) => Err(Failure::Timeout),
            Ok(Err(error)) => Err(Failure::Broken { kept: reused, source: error.into() }),
            Ok(Ok(response)) => {
                let home = Some(self).filter(|_| reuse == Reuse::Allowed).map(Rc::clone);
                let response = response.map(|()| Incoming::http1(connection, home));
                Ok(Exchange { response, elapsed: started.elapsed() })
            }
        }
    }

    /// Like [`Self::exchange_http1`]. What a closed connection has not taken is sent on a new one.
    pub(crate) async fn exchange_http2(
        self: &Rc<Self>,
        reuse: Reuse,
        mut request: Request<Outbound>,
        deadline: Instant,
    ) -> Result<Exchange, Failure> {
        let mut kept = if reuse == Reuse::Allowed { self.channel() } else { None };
        loop {
            let reused = kept.is_some();
            let channel = match kept.take() {
                Some(channel) => channel,
                None => self.dial_http2().await.map_err(Failure::Connect)?,
            };
            let stream = Stream::of(&channel);
            let started = Instant::now();
            match timeout_at(deadline, channel.sender.clone().try_send_request(request)).await {
                Err(_) => return Err(Failure::Timeout),
                Ok(Ok(response)) => {
                    let response = Response::from(response).map(|body| Incoming::Http2 { body, _stream: stream });
                    return Ok(Exchange { response, elapsed: started.elapsed() });
                }
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) if reused => request = unsent,
                    Some(_) => return Err(Failure::Connect(io::Error::other(error.into_error()))),
                    None => return Err(Failure::Broken { kept: reused, source: error.into_error().into() }),
                },
            }
        }
    }

    /// The connection that was used last, which is the likeliest to be open.
    fn take_idle(&self, now: Instant) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(|idle| idle.is_good(now)).map(|idle| idle.connection)
    }

    /// Keeps a connection for the next request.
    fn keep(&self, mut connection: Box<Connection>) {
        let mut idle = self.idle.borrow_mut();
        if connection.rest() && idle.len() < IDLE_CONNECTIONS {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// The channel with the fewest streams; none when all are busy and one more may be opened.
    fn channel(&self) -> Option<Rc<Channel>> {
        let mut channels = self.channels.borrow_mut();
        channels.retain(|channel| !channel.sender.is_closed());
        let best = channels.iter().min_by_key(|channel| channel.streams.get())?;
        let busy = best.streams.get() >= STREAMS_PER_CONNECTION && channels.len() < HTTP2_CONNECTIONS;
        (!busy).then(|| Rc::clone(best))
    }

    async fn dial_http2(&self) -> io::Result<Rc<Channel>> {
        let stream = self.connect().await?;
        let mut builder = http2::Builder::new(Drivers);
        builder.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Drivers.execute(async move { drop(connection.await) });
        let channel = Rc::new(Channel { sender, streams: Cell::new(0), used: Cell::new(Instant::now()) });
        self.channels.borrow_mut().push(Rc::clone(&channel));
        Ok(channel)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.target.address())).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
