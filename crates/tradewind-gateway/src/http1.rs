//! HTTP/1 as the gateway speaks it on both sides. It is strict where a message could be read in two ways, which is how
//! requests are smuggled past whoever is in front (RFC 9112, 11.2), and a request crosses it within one task.

pub(crate) mod client;
mod decoder;
mod reading;
mod sending;
pub(crate) mod server;

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::body::Fault;
use decoder::Malformed;

/// The most fields of a head.
const FIELDS_LIMIT: usize = 100;
/// The most bytes of a head.
const HEAD_LIMIT: usize = 128 << 10;
/// How many fields are added to those that came, mostly.
const ROOM: usize = 8;
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

/// By the digit behind the point.
fn version(minor: Option<u8>) -> Version {
    if minor == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 }
}

/// The fields of a head. What concerns its connection alone is read and left out (RFC 9110, 7.6.1).
#[derive(Debug, Default)]
struct Fields {
    headers: HeaderMap,
    lengths: Said,
    codings: Said,
    hosts: usize,
    close: bool,
    keep_alive: bool,
}

/// What one field says, which may be there several times.
#[derive(Debug, Default)]
struct Said {
    times: usize,
    value: Option<HeaderValue>,
    differs: bool,
}

impl Said {
    fn again(&mut self, value: &HeaderValue) {
        self.times += 1;
        self.differs |= self.value.replace(value.clone()).is_some_and(|before| before != value);
    }
}

impl Fields {
    /// Those of `head`; `None` if one of them is none.
    fn read(head: &Bytes, parsed: &[httparse::Header<'_>]) -> Option<Self> {
        let mut fields = Self { headers: HeaderMap::with_capacity(parsed.len() + ROOM), ..Self::default() };
        let mut listed = Vec::new();
        for field in parsed {
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).ok()?;
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                2 if is("te") => continue,
                7 if is("trailer") || is("upgrade") => continue,
                10 if is("keep-alive") => continue,
                16 if is("proxy-connection") => continue,
                18 if is("proxy-authenticate") => continue,
                10 if is("connection") => {
                    listed.extend(fields.take_connection(value.to_str().unwrap_or_default()));
                    continue;
                }
                17 if is("transfer-encoding") => {
                    fields.codings.again(&value);
                    continue;
                }
                14 if is("content-length") => fields.lengths.again(&value),
                4 if is("host") => fields.hosts += 1,
                _ => {}
            }
            fields.headers.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, value);
        }
        for name in listed {
            fields.headers.remove(name);
        }
        Some(fields)
    }

    /// Takes in one field `Connection`; the names that it lists.
    fn take_connection(&mut self, said: &str) -> Vec<HeaderName> {
        let mut listed = Vec::new();
        for token in said.split(',').map(str::trim) {
            if token.eq_ignore_ascii_case("close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case("keep-alive") {
                self.keep_alive = true;
            } else {
                listed.extend(token.parse::<HeaderName>());
            }
        }
        listed
    }

    /// Whether the sender of the message keeps the connection open behind it (RFC 9112, 9.3).
    fn stays_open(&self, version: Version) -> bool {
        if version == Version::HTTP_11 { !self.close } else { self.keep_alive && !self.close }
    }
}
