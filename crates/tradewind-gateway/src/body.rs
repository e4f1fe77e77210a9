//! Bodies on their way: what is sent to upstreams, and what is given to users.

use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::{http1, link, proxy::Trip, server};

/// Bodies up to this size are held, so that they can be sent again.
pub(crate) const REPLAY_LIMIT: usize = 64 << 10;
/// Larger bodies are refused.
pub(crate) const BODY_LIMIT: u64 = 64 << 20;
/// A body whose next piece takes longer is given up.
pub(crate) const REQUEST_IDLE: Duration = Duration::from_secs(30);
/// An answer whose next piece takes longer is cut off. Streams of tokens may pause for minutes.
pub(crate) const RESPONSE_IDLE: Duration = Duration::from_secs(600);
/// The most pieces that a held body may come in: a body of single bytes costs a thousand times its size.
const PIECES_LIMIT: u32 = 4096;

/// What is wrong with a user's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the request's body is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("the request's body did not arrive in time")]
    TooSlow,
    #[error("the request's body comes in too many small pieces")]
    TooFine,
    #[error("the request's body broke off")]
    Broken,
}

/// Why a message from another process does not come whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error(transparent)]
    Http1(#[from] http1::Error),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

/// A user's body while it is looked at: what has come of it is held.
#[derive(Debug)]
pub(crate) struct Arriving {
    held: Held,
    incoming: server::Incoming,
    ended: bool,
    pieces: u32,
    /// One deadline for all that is held: a body that trickles in holds a place of those under way.
    deadline: Instant,
}

/// The first piece is kept as it came; only a body of several pieces is put together.
#[derive(Debug)]
enum Held {
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Held {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Piece(bytes) => bytes,
            Self::Pieces(bytes) => bytes,
        }
    }

    fn push(&mut self, more: Bytes) {
        match self {
            Self::Piece(first) if first.is_empty() => *first = more,
            Self::Piece(first) => {
                let mut pieces = BytesMut::with_capacity(first.len() + more.len());
                pieces.extend_from_slice(first);
                pieces.extend_from_slice(&more);
                *self = Self::Pieces(pieces);
            }
            Self::Pieces(pieces) => pieces.extend_from_slice(&more),
        }
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::Piece(bytes) => bytes,
            Self::Pieces(bytes) => bytes.freeze(),
        }
    }
}

impl Arriving {
    pub(crate) fn new(incoming: server::Incoming, now: Instant) -> Result<Self, Fault> {
        if incoming.size_hint().lower() > BODY_LIMIT {
            return Err(Fault::TooLarge);
        }
        let ended = incoming.is_end_stream();
        let deadline = now + REQUEST_IDLE;
        Ok(Self { held: Held::Piece(Bytes::new()), incoming, ended, pieces: 0, deadline })
    }

    pub(crate) fn held(&self) -> &[u8] {
        self.held.as_slice()
    }

    /// Waits for one more piece; `false` when nothing more comes.
    pub(crate) async fn more(&mut self) -> Result<bool, Fault> {
        while !self.ended {
            let frame = timeout_at(self.deadline, self.incoming.frame()).await.map_err(|_| Fault::TooSlow)?;
            let Some(frame) = frame else {
                self.ended = true;
                break;
            };
            // Trailers of a request mean nothing to an inference server.
            if let Ok(data) = frame.map_err(|_| Fault::Broken)?.into_data() {
                self.pieces += 1;
                if self.pieces > PIECES_LIMIT {
                    return Err(Fault::TooFine);
                }
                self.held.push(data);
                self.ended = self.incoming.is_end_stream();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Holds all of it up to [`REPLAY_LIMIT`]; what is longer goes on as a stream.
    pub(crate) async fn gather(mut self) -> Result<Inbound, Fault> {
        if self.incoming.size_hint().lower() <= REPLAY_LIMIT as u64 {
            while self.held().len() <= REPLAY_LIMIT {
                if !self.more().await? {
                    return Ok(Inbound::Replayable(self.held.freeze()));
                }
            }
        }
        Ok(self.stream())
    }

    /// Goes on as a stream, from the beginning.
    fn stream(self) -> Inbound {
        self.within(Allowance { bytes: BODY_LIMIT, pause: REQUEST_IDLE })
    }

    /// Goes on as a stream whose end nobody waits for. Each message of it is the upstream's to judge.
    pub(crate) fn converse(self) -> Inbound {
        self.within(Allowance { bytes: u64::MAX, pause: RESPONSE_IDLE })
    }

    fn within(self, allowance: Allowance) -> Inbound {
        let length = self.incoming.size_hint().exact().map(|left| left + self.held().len() as u64);
        let way = Rc::new(OnItsWay::default());
        let (held, incoming) = (self.held.freeze(), self.incoming);
        let stream = Stream { held, incoming, length, allowance, idle: None, way: Rc::clone(&way) };
        Inbound::Streaming { stream: Some(stream), way }
    }
}

/// A user's body as it is sent on.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// Whole; may be sent any number of times.
    Replayable(Bytes),
    /// May be sent once. The sender sees only that sending failed; why is told along its way.
    Streaming { stream: Option<Stream>, way: Rc<OnItsWay> },
}

/// What has become of a stream that somebody else sends.
#[derive(Debug, Default)]
pub(crate) struct OnItsWay {
    sent: Cell<u64>,
    verdict: Cell<Option<Fault>>,
}

/// Tells how many bytes of a body have come.
#[derive(Debug)]
pub(crate) enum Meter {
    Whole(u64),
    Stream(Rc<OnItsWay>),
}

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Whole(bytes) => *bytes,
            Self::Stream(way) => way.sent.get(),
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::Whole(0)
    }
}

impl Inbound {
    pub(crate) fn replayable(&self) -> bool {
        matches!(self, Self::Replayable(_))
    }

    /// Whether there is still something to send.
    pub(crate) fn unspent(&self) -> bool {
        !matches!(self, Self::Streaming { stream: None, .. })
    }

    /// What went wrong on the user's side while it was sent.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Replayable(_) => None,
            Self::Streaming { way, .. } => way.verdict.get(),
        }
    }

    pub(crate) fn meter(&self) -> Meter {
        match self {
            Self::Replayable(bytes) => Meter::Whole(bytes.len() as u64),
            Self::Streaming { way, .. } => Meter::Stream(Rc::clone(way)),
        }
    }

    /// The whole of it, if it is held.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Replayable(bytes) => Some(bytes),
            Self::Streaming { .. } => None,
        }
    }

    /// The body of the next attempt; empty when it was spent.
    pub(crate) fn next(&mut self) -> Outbound {
        match self {
            Self::Replayable(bytes) => Outbound::Whole(Full::new(bytes.clone())),
            Self::Streaming { stream, .. } => stream.take().map_or_else(Outbound::empty, Outbound::Stream),
        }
    }
}

/// A body too large to hold: what was read of it, then the rest as it comes.
pub(crate) struct Stream {
    held: Bytes,
    incoming: server::Incoming,
    length: Option<u64>,
    allowance: Allowance,
    idle: Option<Pin<Box<Sleep>>>,
    way: Rc<OnItsWay>,
}

/// How much of a stream may come, and how long it may pause.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    bytes: u64,
    pause: Duration,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("way", &self.way).field("length", &self.length).finish_non_exhaustive()
    }
}

impl Stream {
    fn fail(&self, fault: Fault) -> Next<Fault> {
        self.way.verdict.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Next<Fault> {
        let data = if self.held.is_empty() {
            match poll_in_time(&mut self.incoming, &mut self.idle, self.allowance.pause, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(TimedOr::TimedOut))) => return self.fail(Fault::TooSlow),
                Poll::Ready(Some(Err(TimedOr::Broken(_)))) => return self.fail(Fault::Broken),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => return Poll::Ready(None),
                },
            }
        } else {
            std::mem::take(&mut self.held)
        };
        let sent = self.way.sent.get() + data.len() as u64;
        self.way.sent.set(sent);
        if sent > self.allowance.bytes {
            return self.fail(Fault::TooLarge);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// A body that is sent to an upstream.
#[derive(Debug)]
pub(crate) enum Outbound {
    Whole(Full<Bytes>),
    Stream(Stream),
}

impl Outbound {
    pub(crate) fn empty() -> Self {
        Self::Whole(Full::new(Bytes::new()))
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<Fault> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Stream(stream) => stream.held.is_empty() && stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Stream(stream) => stream
                .length
                .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length - stream.way.sent.get())),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TimedOr {
    #[error("the body stopped for too long")]
    TimedOut,
    #[error("the body broke off")]
    Broken(#[source] Interrupted),
}

/// What a body gives when it is asked.
type Next<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// The next frame, or an error when it takes longer than `limit`. The timer is set only when there is nothing yet.
fn poll_in_time<B: Body<Data = Bytes, Error = Interrupted> + Unpin>(
    incoming: &mut B,
    idle: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Next<TimedOr> {
    if let Poll::Ready(frame) = Pin::new(incoming).poll_frame(cx) {
        *idle = None;
        return Poll::Ready(frame.map(|frame| frame.map_err(TimedOr::Broken)));
    }
    let timer = idle.get_or_insert_with(|| Box::pin(sleep(limit)));
    ready!(timer.as_mut().poll(cx));
    Poll::Ready(Some(Err(TimedOr::TimedOut)))
}

/// How the passing on of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    /// The upstream broke off or fell silent.
    Broken,
    /// The user left.
    Abandoned,
}

/// An answer that is passed on as it comes.
pub(crate) struct Passing {
    incoming: link::Incoming,
    idle: Option<Pin<Box<Sleep>>>,
    /// Told once, when the answer has been passed on.
    trip: Option<Box<Trip>>,
}

impl Passing {
    pub(crate) fn new(incoming: link::Incoming, trip: Box<Trip>) -> Self {
        Self { incoming, idle: None, trip: Some(trip) }
    }

    fn finish(&mut self, end: End) {
        if let Some(trip) = self.trip.take() {
            trip.end(end);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // A server that knows the length does not poll past it.
        self.finish(if self.incoming.is_end_stream() { End::Complete } else { End::Abandoned });
    }
}

/// What is given to users.
pub(crate) enum Answer {
    Own(Own),
    Passing(Passing),
}

/// An answer of the gateway's own.
pub(crate) struct Own {
    body: Bytes,
    trailers: Option<Box<HeaderMap>>,
}

impl Answer {
    pub(crate) fn own(body: impl Into<Bytes>) -> Self {
        Self::Own(Own { body: body.into(), trailers: None })
    }

    pub(crate) fn with_trailers(body: impl Into<Bytes>, trailers: HeaderMap) -> Self {
        Self::Own(Own { body: body.into(), trailers: Some(Box::new(trailers)) })
    }
}

impl Own {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        if !self.body.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.body)));
        }
        self.trailers.take().map(|trailers| Frame::trailers(*trailers))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Passing(_) => "Passing",
        })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = TimedOr;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next<Self::Error> {
        match &mut *self {
            Self::Own(own) => Poll::Ready(own.next().map(Ok)),
            Self::Passing(passing) => {
                let frame = ready!(poll_in_time(&mut passing.incoming, &mut passing.idle, RESPONSE_IDLE, cx));
                match &frame {
                    None => passing.finish(End::Complete),
                    Some(Err(_)) => passing.finish(End::Broken),
                    Some(Ok(frame)) => {
                        if let Some(trip) = &mut passing.trip {
                            trip.take_in(frame);
                        }
                        if passing.incoming.is_end_stream() {
                            passing.finish(End::Complete);
                        }
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(own) => own.body.is_empty() && own.trailers.is_none(),
            Self::Passing(passing) => passing.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => SizeHint::with_exact(own.body.len() as u64),
            Self::Passing(passing) => passing.incoming.size_hint(),
        }
    }
}
