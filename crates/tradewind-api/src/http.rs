//! Small things that every role's HTTP server shares.

use axum::http::{HeaderMap, header};
use tradewind_core::trace::TraceParent;

/// W3C Trace Context.
pub const TRACE_HEADER: &str = "traceparent";

/// The trace that a request belongs to.
pub fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(headers.get(TRACE_HEADER)?.as_bytes())
}

/// The token of `Authorization: Bearer ...`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    bearer_token(headers.get(header::AUTHORIZATION)?.as_bytes())
}

/// The token in the value of that field.
pub fn bearer_token(authorization: &[u8]) -> Option<&str> {
    let (scheme, token) = str::from_utf8(authorization).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
