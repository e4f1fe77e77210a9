//! The requests of a conversation, out of a body that goes on.

use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use futures_util::{Stream, stream};
use http::StatusCode;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tradewind_api::grpc::frame::{HEADER_BYTES, Header};

use crate::{
    engine::InferError,
    metrics::Reason,
    request::RequestError,
    server::{
        body::{self, BODY_BYTES_LIMIT, BODY_READ_LIMIT},
        failure::Failure,
        infer::Received,
        places::Places,
    },
};

/// A client that says nothing for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// What a client sends, frame by frame.
pub(super) struct Requests {
    body: Body,
    places: Places,
    shutdown: CancellationToken,
    held: BytesMut,
    over: bool,
}

/// Ends after the first failure.
pub(super) fn requests(requests: Requests) -> impl Stream<Item = Result<Received, Failure>> + Send + 'static {
    stream::unfold(requests, |mut requests| async move {
        if requests.over {
            return None;
        }
        let next = requests.next().await.transpose()?;
        requests.over = next.is_err();
        Some((next, requests))
    })
}

impl Requests {
    pub(super) fn new(body: Body, places: Places, shutdown: CancellationToken) -> Self {
        Self { body, places, shutdown, held: BytesMut::new(), over: false }
    }

    /// The next request with its frame; `None` when the client has said all.
    async fn next(&mut self) -> Result<Option<Received>, Failure> {
        if self.shutdown.is_cancelled() {
            return Err(InferError::Stopping.into());
        }
        if !self.begins().await? {
            return Ok(None);
        }
        let length = in_time(self.header()).await?;
        // A large one is read only when it has a place among those under way. How long that takes is not the client's
        // doing.
        let place = self.places.wait_for(length).await?;
        in_time(self.hold(HEADER_BYTES + length)).await?;
        Ok(Some(Received { body: self.held.split_to(HEADER_BYTES + length).freeze(), place }))
    }

    /// Waits for a request to begin; `false` at the end.
    async fn begins(&mut self) -> Result<bool, Failure> {
        while self.held.is_empty() {
            let piece = tokio::select! {
                biased;
                piece = timeout(SILENCE_LIMIT, body::piece(&mut self.body)) => piece,
                () = self.shutdown.cancelled() => return Err(InferError::Stopping.into()),
            };
            let silent = |_| {
                let message = format!("nothing was said for {} s", SILENCE_LIMIT.as_secs());
                Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message)
            };
            match piece.map_err(silent)?? {
                // It may be empty, as the last one of some clients is.
                Some(piece) => self.held.extend_from_slice(&piece),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The length of a request that has begun.
    async fn header(&mut self) -> Result<usize, Failure> {
        let invalid = |message: &str| Failure::from(RequestError::Message(message.to_owned()));
        self.hold(HEADER_BYTES).await?;
        let header = self.held.first_chunk().ok_or_else(|| invalid("it is cut off within its frame"))?;
        let header = Header::read(*header).map_err(|error| invalid(&error.to_string()))?;
        let length = header.length as usize;
        if length > BODY_BYTES_LIMIT {
            let message = format!("the request has more than {BODY_BYTES_LIMIT} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message));
        }
        Ok(length)
    }

    /// Reads until so many bytes are held.
    async fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        while self.held.len() < bytes {
            match body::piece(&mut self.body).await? {
                Some(piece) => self.held.extend_from_slice(&piece),
                None => return Err(RequestError::Message("it is shorter than its frame says".to_owned()).into()),
            }
        }
        Ok(())
    }
}

/// A message that has begun comes within [`BODY_READ_LIMIT`].
async fn in_time<T>(reading: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(BODY_READ_LIMIT, reading).await.unwrap_or_else(|_| {
        let message = format!("a message was not sent within {} s", BODY_READ_LIMIT.as_secs());
        Err(Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message))
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use bytes::Bytes;
    use futures_util::StreamExt;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::server::places::BYTES_LIMIT;

    /// The requests in a body of pieces of `size` bytes, and how it ended.
    async fn read(bytes: &[u8], size: usize) -> (Vec<Bytes>, Option<StatusCode>) {
        let pieces: Vec<_> =
            bytes.chunks(size).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        let body = Body::new(StreamBody::new(stream::iter(pieces).map(|piece| piece.map(Frame::data))));
        let reading = Requests::new(body, Places::new(1, BYTES_LIMIT), CancellationToken::new());
        let (mut reading, mut read) = (pin!(requests(reading)), Vec::new());
        while let Some(next) = reading.next().await {
            match next {
                // Its place is free again as it is dropped.
                Ok(received) => read.push(received.body),
                Err(failure) => {
                    assert!(reading.next().await.is_none(), "nothing follows a failure");
                    return (read, Some(failure.status));
                }
            }
        }
        (read, None)
    }

    #[test]
    fn bodies_in_pieces_of_any_size_hold_the_same_requests() {
        let frame = |message: &[u8]| [&Header::plain(message.len() as u32).write()[..], message].concat();
        let three = [frame(b"one"), frame(b""), frame(&[7; 300])].concat();
        let seeds = [three, frame(b"one"), Header::plain(u32::MAX).write().to_vec(), vec![9; 20]];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut whole = 0;
        tradewind_fuzz::fuzz(&seeds, |bytes| {
            let (requests, status) = runtime.block_on(read(bytes, bytes.len().max(1)));
            for size in [1, 3, 64] {
                assert_eq!(runtime.block_on(read(bytes, size)), (requests.clone(), status), "in pieces of {size}");
            }
            let held: usize = requests.iter().map(Bytes::len).sum();
            assert!(held <= bytes.len() && (status.is_some() || held == bytes.len()));
            whole += usize::from(status.is_none());
        });
        assert!(whole > 3, "{whole} were whole");
    }
}
