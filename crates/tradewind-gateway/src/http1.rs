//! HTTP/1 as the gateway speaks it on both sides. It is strict where a message could be read in two ways, which is how
//! requests are smuggled past whoever is in front (RFC 9112, 11.2), and a request crosses it within one task.

pub(crate) mod client;
mod decoder;
mod reading;
mod sending;
pub(crate) mod server;

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use crate::body::Fault;
use decoder::Malformed;

/// The most fields of a head.
const FIELDS_LIMIT: usize = 100;
/// The most bytes of a head.
const HEAD_LIMIT: usize = 128 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Why a message does not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection ended before the message did")]
    Ended,
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the message is malformed")]
    Malformed(#[from] Malformed),
    #[error("the request's body failed")]
    Body(#[from] Fault),
}

/// The fields of a head, which are parts of `head`.
fn fields(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_maybe_shared(head.slice_ref(field.value)).ok()?);
    }
    Some(headers)
}

/// Whether the sender of a message keeps the connection open behind it (RFC 9112, 9.3).
fn stays_open(headers: &HeaderMap, version: Version) -> bool {
    let says = |token: &str| {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(token))
    };
    if version == Version::HTTP_11 { !says("close") } else { says("keep-alive") }
}
