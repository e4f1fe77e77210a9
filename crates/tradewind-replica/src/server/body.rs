//! Reads the body of a request, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::failure::Failure;
use crate::{engine::InferError, metrics::Reason};

/// The largest request.
pub(super) const BODY_BYTES_LIMIT: usize = 64 << 20;
/// The largest request that only asks.
pub(super) const QUESTION_BYTES_LIMIT: usize = 64 << 10;
/// A client has this long to send its request.
pub(super) const BODY_READ_LIMIT: Duration = Duration::from_secs(30);
/// What vector instructions like best; more than any element needs.
const ALIGNMENT: usize = 64;

/// How to read a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Bytes at most.
    pub(super) limit: usize,
    /// A body that has to be put together from pieces is put so that what is at this offset is aligned, whatever type
    /// its elements have.
    pub(super) aligned_at: usize,
}

/// Reads as long as `admit` has room for so many bytes.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    plan: Plan,
    mut admit: impl FnMut(usize) -> Result<(), InferError>,
) -> Result<Bytes, Failure> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > plan.limit as u64) {
        return Err(too_large(plan));
    }
    let announced = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    admit(announced)?;
    match tokio::time::timeout(BODY_READ_LIMIT, collect(body, plan, announced, admit)).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("the request was not sent within {} s", BODY_READ_LIMIT.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message))
        }
    }
}

async fn collect(
    mut body: Body,
    plan: Plan,
    announced: usize,
    mut admit: impl FnMut(usize) -> Result<(), InferError>,
) -> Result<Bytes, Failure> {
    let Some(first) = piece(&mut body).await? else { return Ok(Bytes::new()) };
    admit(first.len())?;
    let Some(second) = piece(&mut body).await? else {
        return if first.len() > plan.limit { Err(too_large(plan)) } else { Ok(first) };
    };
    let mut whole = BytesMut::with_capacity(announced.max(first.len() + second.len()) + ALIGNMENT);
    let padding = whole.as_ptr().addr().wrapping_add(plan.aligned_at).wrapping_neg() % ALIGNMENT;
    whole.put_bytes(0, padding);
    let mut next = Some(first);
    let mut then = Some(second);
    while let Some(bytes) = next {
        if bytes.len() > plan.limit - (whole.len() - padding) {
            return Err(too_large(plan));
        }
        admit(whole.len() - padding + bytes.len())?;
        whole.extend_from_slice(&bytes);
        next = match then.take() {
            Some(second) => Some(second),
            None => piece(&mut body).await?,
        };
    }
    Ok(whole.freeze().slice(padding..))
}

/// The next bytes, `None` at the end.
pub(super) async fn piece(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("the request's body broke off: {error}");
            Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, message)
        })?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn too_large(plan: Plan) -> Failure {
    let message = format!("the request has more than {} bytes", plan.limit);
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    async fn check(pieces: &[&'static str], plan: Plan) -> Result<Bytes, StatusCode> {
        let frames: Vec<_> = pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(*piece)))).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        read(&HeaderMap::new(), body, plan, |_| Ok(())).await.map_err(|failure| failure.status)
    }

    #[tokio::test]
    async fn pieces_are_put_together_aligned() {
        for aligned_at in [0, 1, 3, 64, 1000] {
            let plan = Plan { limit: 9, aligned_at };
            let whole = check(&["abc", "", "def", "ghi"], plan).await.unwrap();
            assert_eq!(whole, "abcdefghi");
            assert_eq!((whole.as_ptr().addr() + aligned_at) % ALIGNMENT, 0);
        }
        let plan = Plan { limit: 9, aligned_at: 0 };
        assert_eq!(check(&[], plan).await, Ok(Bytes::new()));
        assert_eq!(check(&["abc"], plan).await, Ok(Bytes::from("abc")));
    }

    #[tokio::test]
    async fn no_more_is_read_than_the_limit() {
        let plan = Plan { limit: 4, aligned_at: 0 };
        for pieces in [&["abcde"][..], &["abc", "de"], &["", "a", "bcd", "e"]] {
            assert_eq!(check(pieces, plan).await, Err(StatusCode::PAYLOAD_TOO_LARGE), "{pieces:?}");
        }
        assert_eq!(check(&["abc", "d"], plan).await, Ok(Bytes::from("abcd")));
    }
}
