//! HTTP/1 as the gateway speaks it on both sides. It is strict where a message could be read in two ways, which is how
//! requests are smuggled past whoever is in front (RFC 9112, 11.2), and a request crosses it within one task.

pub(crate) mod client;
mod decoder;
mod reading;
mod sending;
pub(crate) mod server;

use std::io;

use bytes::{Bytes, BytesMut};
use http::Version;

use crate::{body::Fault, headers::Headers};
use decoder::Malformed;

/// The most fields of a head.
const FIELDS_LIMIT: usize = 100;
/// The most bytes of a head.
const HEAD_LIMIT: usize = 128 << 10;
/// The most bytes of a field's name: what HTTP/2 can name as well.
const NAME_LIMIT: usize = 1 << 15;
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

/// For so many more bytes. Where there is nothing yet, that is quicker begun anew than grown.
fn make_room(bytes: &mut BytesMut, more: usize) {
    if bytes.capacity() == 0 {
        *bytes = BytesMut::with_capacity(more);
    } else {
        bytes.reserve(more);
    }
}

/// The fields of a head. What concerns its connection alone is read and left out (RFC 9110, 7.6.1).
#[derive(Debug, Default)]
struct Fields<'a> {
    headers: Headers,
    lengths: Said<'a>,
    codings: Said<'a>,
    hosts: usize,
    close: bool,
    keep_alive: bool,
}

/// What one field says, which may be there several times.
#[derive(Debug, Default)]
struct Said<'a> {
    times: usize,
    value: Option<&'a [u8]>,
    differs: bool,
}

impl<'a> Said<'a> {
    fn again(&mut self, value: &'a [u8]) {
        self.times += 1;
        self.differs |= self.value.replace(value).is_some_and(|before| before != value);
    }
}

impl<'a> Fields<'a> {
    /// Those of `head`; `None` if one of them is none.
    fn read(head: &Bytes, parsed: &[httparse::Header<'a>]) -> Option<Self> {
        let mut fields = Self { headers: Headers::of_head(head, parsed.len()), ..Self::default() };
        let mut listed = Vec::new();
        for httparse::Header { name, value } in parsed {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                NAME_LIMIT.. => return None,
                2 if is("te") => continue,
                7 if is("trailer") || is("upgrade") => continue,
                10 if is("keep-alive") => continue,
                16 if is("proxy-connection") => continue,
                18 if is("proxy-authenticate") => continue,
                10 if is("connection") => {
                    listed.extend(fields.take_connection(str::from_utf8(value).unwrap_or_default()));
                    continue;
                }
                17 if is("transfer-encoding") => {
                    fields.codings.again(value);
                    continue;
                }
                14 if is("content-length") => fields.lengths.again(value),
                4 if is("host") => fields.hosts += 1,
                _ => {}
            }
            fields.headers.push_line(name.as_bytes(), value);
        }
        if !listed.is_empty() {
            fields.headers.retain(|name| !listed.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes())));
        }
        Some(fields)
    }

    /// Takes in one field `Connection`; the names that it lists.
    fn take_connection<'s>(&mut self, said: &'s str) -> Vec<&'s str> {
        let mut listed = Vec::new();
        for token in said.split(',').map(str::trim) {
            if token.eq_ignore_ascii_case("close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case("keep-alive") {
                self.keep_alive = true;
            } else {
                listed.push(token);
            }
        }
        listed
    }

    /// Whether the sender of the message keeps the connection open behind it (RFC 9112, 9.3).
    fn stays_open(&self, version: Version) -> bool {
        if version == Version::HTTP_11 { !self.close } else { self.keep_alive && !self.close }
    }
}
