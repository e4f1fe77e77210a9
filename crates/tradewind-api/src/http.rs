//! Small things that every role's HTTP server shares.

use axum::http::{HeaderMap, header};

/// The token of `Authorization: Bearer ...`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    bearer_token(headers.get(header::AUTHORIZATION)?.as_bytes())
}

/// The token in the value of that field.
pub fn bearer_token(authorization: &[u8]) -> Option<&str> {
    let (scheme, token) = str::from_utf8(authorization).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
