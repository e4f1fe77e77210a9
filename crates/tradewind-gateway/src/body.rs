//! Bodies on their way: what is sent to upstreams, and what is given to users.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// Bodies up to this size are held, so that they can be sent again.
pub(crate) const REPLAY_LIMIT: usize = 64 << 10;
/// Larger bodies are refused.
pub(crate) const BODY_LIMIT: u64 = 64 << 20;
/// A body whose next piece takes longer is given up.
pub(crate) const REQUEST_IDLE: Duration = Duration::from_secs(30);
/// An answer whose next piece takes longer is cut off. Streams of tokens may pause for minutes.
pub(crate) const RESPONSE_IDLE: Duration = Duration::from_secs(600);

/// What is wrong with a user's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the request's body is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("the request's body did not arrive in time")]
    TooSlow,
    #[error("the request's body broke off")]
    Broken,
}

/// A user's body as it came in.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// Whole; may be sent any number of times.
    Replayable(Bytes),
    /// May be sent once.
    Streaming(Option<Stream>),
}

impl Inbound {
    /// Reads up to [`REPLAY_LIMIT`]; what is longer goes on as a stream.
    pub(crate) async fn read(mut incoming: Incoming, verdict: &Verdict) -> Result<Self, Fault> {
        let hint = incoming.size_hint();
        if hint.lower() > BODY_LIMIT {
            return Err(Fault::TooLarge);
        }
        let mut held = BytesMut::new();
        if hint.lower() <= REPLAY_LIMIT as u64 {
            // One deadline for all of it: a body that trickles in holds a place of those under way.
            let deadline = Instant::now() + REQUEST_IDLE;
            while held.len() <= REPLAY_LIMIT {
                let Some(frame) = timeout_at(deadline, incoming.frame()).await.map_err(|_| Fault::TooSlow)? else {
                    return Ok(Self::Replayable(held.freeze()));
                };
                // Trailers of a request mean nothing to an inference server.
                if let Ok(data) = frame.map_err(|_| Fault::Broken)?.into_data() {
                    held.extend_from_slice(&data);
                }
            }
        }
        let length = hint.exact();
        let stream = Stream { held: held.freeze(), incoming, sent: 0, length, idle: None, verdict: verdict.clone() };
        Ok(Self::Streaming(Some(stream)))
    }

    pub(crate) fn replayable(&self) -> bool {
        matches!(self, Self::Replayable(_))
    }

    /// Whether there is still something to send.
    pub(crate) fn unspent(&self) -> bool {
        !matches!(self, Self::Streaming(None))
    }

    /// The body of the next attempt; empty when it was spent.
    pub(crate) fn next(&mut self) -> Outbound {
        match self {
            Self::Replayable(bytes) => Outbound::Whole(Full::new(bytes.clone())),
            Self::Streaming(stream) => stream.take().map_or_else(Outbound::empty, Outbound::Stream),
        }
    }
}

/// Where a stream leaves word of what went wrong, since the sender sees only that sending failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<AtomicU8>);

impl Verdict {
    fn set(&self, fault: Fault) {
        let code = match fault {
            Fault::TooLarge => 1,
            Fault::TooSlow => 2,
            Fault::Broken => 3,
        };
        self.0.store(code, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<Fault> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Fault::TooLarge),
            2 => Some(Fault::TooSlow),
            _ => Some(Fault::Broken),
        }
    }
}

/// A body too large to hold: what was read of it, then the rest as it comes.
pub(crate) struct Stream {
    held: Bytes,
    incoming: Incoming,
    sent: u64,
    length: Option<u64>,
    idle: Option<Pin<Box<Sleep>>>,
    verdict: Verdict,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("sent", &self.sent).field("length", &self.length).finish_non_exhaustive()
    }
}

impl Stream {
    fn fail(&self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.verdict.set(fault);
        Poll::Ready(Some(Err(fault)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let data = if self.held.is_empty() {
            match poll_in_time(&mut self.incoming, &mut self.idle, REQUEST_IDLE, cx) {
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
        self.sent += data.len() as u64;
        if self.sent > BODY_LIMIT {
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
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
            Self::Stream(stream) => {
                stream.length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length - stream.sent))
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TimedOr {
    #[error("the answer stopped for too long")]
    TimedOut,
    #[error("the answer broke off")]
    Broken(#[source] hyper::Error),
}

/// The next frame, or an error when it takes longer than `limit`. The timer is set only when there is nothing yet.
fn poll_in_time(
    incoming: &mut Incoming,
    idle: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, TimedOr>>> {
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

/// Told once, when an answer has been passed on.
pub(crate) trait OnEnd: Send + Sync {
    fn end(&mut self, end: End);
}

/// An answer that is passed on as it comes.
pub(crate) struct Passing {
    incoming: Incoming,
    idle: Option<Pin<Box<Sleep>>>,
    on_end: Option<Box<dyn OnEnd>>,
}

impl Passing {
    pub(crate) fn new(incoming: Incoming, on_end: Box<dyn OnEnd>) -> Self {
        Self { incoming, idle: None, on_end: Some(on_end) }
    }

    fn finish(&mut self, end: End) {
        if let Some(mut on_end) = self.on_end.take() {
            on_end.end(end);
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
    Own(Full<Bytes>),
    Passing(Passing),
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

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TimedOr>>> {
        match &mut *self {
            Self::Own(whole) => Pin::new(whole).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Passing(passing) => {
                let frame = ready!(poll_in_time(&mut passing.incoming, &mut passing.idle, RESPONSE_IDLE, cx));
                match &frame {
                    None => passing.finish(End::Complete),
                    Some(Err(_)) => passing.finish(End::Broken),
                    Some(Ok(_)) => {}
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(whole) => whole.is_end_stream(),
            Self::Passing(passing) => passing.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(whole) => whole.size_hint(),
            Self::Passing(passing) => passing.incoming.size_hint(),
        }
    }
}
