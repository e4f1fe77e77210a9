//! Reading requests; whatever is wrong with one is told as a problem.

use axum::{
    RequestPartsExt,
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{header, request::Parts},
};
use serde::de::DeserializeOwned;
use tradewind_api::{Code, Problem};

/// The largest body of most requests, in bytes.
pub(super) const JSON_LIMIT: usize = 1 << 20;

/// A JSON body of at most `LIMIT` bytes, whatever its content type says.
#[derive(Debug)]
pub(super) struct Json<T, const LIMIT: usize = JSON_LIMIT>(pub(super) T);

impl<T: DeserializeOwned, const LIMIT: usize, S: Sync> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let bytes = read(request.into_body(), LIMIT).await?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| {
            Problem::new(Code::Invalid, "the body is not the JSON that this route takes")
                .cause(error.to_string())
                .hint("see /openapi.json")
        })
    }
}

async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes, Problem> {
    use std::error::Error as _;
    axum::body::to_bytes(body, limit).await.map_err(|error| {
        let too_long = error.source().is_some_and(|source| source.to_string().contains("length limit"));
        if too_long {
            Problem::new(Code::TooLarge, format!("the body is larger than {limit} bytes"))
        } else {
            Problem::new(Code::Invalid, "the body broke off")
        }
    })
}

/// The parameters in the path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static, S: Sync + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extract::<axum::extract::Path<T>>().await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::new(Code::Invalid, "the path is not right").cause(error.body_text())),
        }
    }
}

/// The parameters behind the question mark.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static, S: Sync + Send> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extract::<axum::extract::Query<T>>().await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(Problem::new(Code::Invalid, "the query is not right").cause(error.body_text())),
        }
    }
}

/// `Content-Length`.
#[derive(Debug)]
pub(super) struct DeclaredLength(pub(super) u64);

impl<S: Sync> FromRequestParts<S> for DeclaredLength {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        length.map(Self).ok_or_else(|| Problem::new(Code::Invalid, "Content-Length is missing"))
    }
}

/// `Range: bytes=A-` or `bytes=A-B`. Other forms are ignored, as RFC 9110 allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ByteRange {
    pub(super) first: u64,
    /// Inclusive.
    pub(super) last: Option<u64>,
}

#[derive(Debug)]
pub(super) struct RequestedRange(pub(super) Option<ByteRange>);

impl<S: Sync> FromRequestParts<S> for RequestedRange {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let value = parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        Ok(Self(value.and_then(parse_range)))
    }
}

fn parse_range(value: &str) -> Option<ByteRange> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    match last {
        "" => Some(ByteRange { first, last: None }),
        last => last.parse().ok().filter(|last| *last >= first).map(|last| ByteRange { first, last: Some(last) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_part_are_understood() {
        assert_eq!(parse_range("bytes=5-"), Some(ByteRange { first: 5, last: None }));
        assert_eq!(parse_range("bytes=0-9"), Some(ByteRange { first: 0, last: Some(9) }));
        for other in ["bytes=-5", "bytes=1-2,4-5", "items=1-2", "bytes=9-1", "bytes="] {
            assert_eq!(parse_range(other), None, "{other}");
        }
    }
}
