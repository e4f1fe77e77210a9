//! Streams of JSON documents, one a line; an empty line is a keep-alive.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};

pub const CONTENT_TYPE: &str = "application/x-ndjson";
/// A stream without news says so this often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Whoever tells a state by a stream looks at it this often also when nobody said that it changed, and says what it is.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// A stream that is silent for this long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(5);
/// The longest line that a reader takes.
pub const LINE_LIMIT: usize = 64 << 20;

/// Answers with every item as a line, and with keep-alives between them.
pub fn respond<T, S>(items: S) -> Response
where
    T: Serialize + Send + 'static,
    S: Stream<Item = T> + Send + 'static,
{
    let lines = items.map(|item| {
        let mut line = serde_json::to_vec(&item).expect("wire types have string keys and finite numbers");
        line.push(b'\n');
        Bytes::from(line)
    });
    let kept_alive = futures_util::stream::unfold(Box::pin(lines), |mut lines| async move {
        match tokio::time::timeout(KEEP_ALIVE, lines.next()).await {
            Ok(Some(line)) => Some((Ok::<_, Infallible>(line), lines)),
            Ok(None) => None,
            Err(_) => Some((Ok(Bytes::from_static(b"\n")), lines)),
        }
    });
    let mut response = Body::from_stream(kept_alive).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the stream broke off")]
    Broken { source: reqwest::Error },
    #[error("the stream was silent for {} s", DEAD_AFTER.as_secs())]
    Silent,
    #[error("the stream ended")]
    Ended,
    #[error("a line of the stream is longer than {LINE_LIMIT} bytes")]
    TooLong,
    #[error("a line of the stream does not parse")]
    Malformed { source: serde_json::Error },
}

/// Reads the items of a stream. Cancel-safe: what was read stays.
#[derive(Debug)]
pub struct Reader<T> {
    response: reqwest::Response,
    lines: Lines,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Reader<T> {
    pub fn new(response: reqwest::Response) -> Self {
        Self { response, lines: Lines::default(), item: std::marker::PhantomData }
    }

    /// The next item; an error when the stream is over, broken or silent.
    pub async fn next(&mut self) -> Result<T, Error> {
        loop {
            while let Some(line) = self.lines.take() {
                if !line.is_empty() {
                    return serde_json::from_slice(line).map_err(|source| Error::Malformed { source });
                }
            }
            if self.lines.unfinished() > LINE_LIMIT {
                return Err(Error::TooLong);
            }
            match tokio::time::timeout(DEAD_AFTER, self.response.chunk()).await {
                Err(_) => return Err(Error::Silent),
                Ok(Err(source)) => return Err(Error::Broken { source }),
                Ok(Ok(None)) => return Err(Error::Ended),
                Ok(Ok(Some(chunk))) => self.lines.extend(&chunk),
            }
        }
    }
}

/// Cuts into lines what comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins; what is before has been taken.
    start: usize,
    /// From the start to here is no line end.
    scanned: usize,
}

impl Lines {
    pub(crate) fn extend(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// Bytes that are kept until the end of their line comes, once no whole line is left.
    fn unfinished(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole line, without its end.
    pub(crate) fn take(&mut self) -> Option<&[u8]> {
        let Some(length) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let (start, end) = (self.start, self.scanned + length);
        self.start = end + 1;
        self.scanned = self.start;
        Some(&self.buffer[start..end])
    }
}
