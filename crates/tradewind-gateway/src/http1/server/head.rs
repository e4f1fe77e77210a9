//! Heads of requests as they are read, and of answers as they are written.

use std::{
    cell::RefCell,
    mem::MaybeUninit,
    time::{Duration, SystemTime},
};

use bytes::{Buf, BufMut, BytesMut};
use http::{Method, StatusCode, Uri, Version, header, uri::InvalidUri};
use httparse::{ParserConfig, Status};
use memchr::memchr_iter;

use crate::{
    headers::Headers,
    http1::{
        FIELDS_LIMIT, Fields, HEAD_END, HEAD_LIMIT,
        decoder::{Decoder, number},
        make_room,
        sending::{Length, size_of, write_field},
        version,
    },
    message::{Head, path},
};

/// The most bytes of a request's target.
const TARGET_LIMIT: usize = 65_534;

/// What a request says before its body.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) head: Head,
    pub(super) version: Version,
    pub(super) body: Decoder,
    /// Whether the client keeps the connection open behind it.
    pub(super) stays_open: bool,
    /// Whether the client waits with the body until it is told to go on.
    pub(super) waits: bool,
}

/// Why what was read is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, reason }
}

/// Looks for the end of a head, over as many reads as it comes in.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// So much has been looked at.
    seen: usize,
}

impl Search {
    /// The length of the head; `None` as long as it has not come whole. Each of its lines ends as it should: some take a
    /// single line feed for the end of a line and some do not.
    fn end(&mut self, read: &[u8]) -> Result<Option<usize>, Refusal> {
        for at in memchr_iter(b'\n', &read[self.seen..]).map(|at| self.seen + at) {
            if !read[..at].ends_with(b"\r") {
                return Err(malformed("a line ends without a carriage return"));
            }
            if read[..=at].ends_with(HEAD_END) {
                return Ok(Some(at + 1));
            }
        }
        self.seen = read.len();
        if read.len() > HEAD_LIMIT {
            let reason = "the request's head is too long";
            return Err(Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason });
        }
        Ok(None)
    }
}

impl RequestHead {
    /// Takes the next head from the front of what has been read.
    pub(super) fn take(read: &mut BytesMut, search: &mut Search) -> Result<Option<Self>, Refusal> {
        // Clients of old send an empty line behind a body.
        while search.seen == 0 && read.starts_with(b"\r\n") {
            read.advance(2);
        }
        if read[..] == b"\r"[..] {
            return Ok(None);
        }
        let Some(length) = search.end(read)? else { return Ok(None) };
        *search = Search::default();
        let bytes = read.split_to(length).freeze();
        let mut parsed = [const { MaybeUninit::uninit() }; FIELDS_LIMIT];
        let mut request = httparse::Request::new(&mut []);
        match ParserConfig::default().parse_request_with_uninit_headers(&mut request, &bytes, &mut parsed) {
            Ok(Status::Complete(parsed)) if parsed == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => {
                let reason = "the request has too many header fields";
                return Err(Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason });
            }
            _ => return Err(malformed("the request's head does not parse")),
        }
        let method = request.method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        let method = method.ok_or(malformed("the method does not parse"))?;
        let target = request.path.unwrap_or_default().as_bytes();
        if target.len() > TARGET_LIMIT {
            return Err(Refusal { status: StatusCode::URI_TOO_LONG, reason: "the request's target is too long" });
        }
        let uri = Uri::from_maybe_shared(bytes.slice_ref(target));
        let uri = uri.map_err(|_: InvalidUri| malformed("the request's target does not parse"))?;
        let version = version(request.version);
        let fields = Fields::read(&bytes, request.headers).ok_or(malformed("a header field does not parse"))?;
        // Who is in front may look at another one, or at none (RFC 9112, 3.2).
        if fields.hosts > 1 || (fields.hosts == 0 && version == Version::HTTP_11) {
            return Err(malformed("a request names one host"));
        }
        let body = body(&fields, version)?;
        let stays_open = fields.stays_open(version);
        let expected = fields.headers.get(&header::EXPECT);
        let expects = expected.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
        let waits = expects && version == Version::HTTP_11 && body != Decoder::Ended;
        let head = Head { method, path: path(uri), headers: fields.headers };
        Ok(Some(Self { head, version, body, stays_open, waits }))
    }
}

/// How a request's body is framed. It says so once, and in a way that everybody reads alike (RFC 9112, 6.3).
fn body(fields: &Fields<'_>, version: Version) -> Result<Decoder, Refusal> {
    let Fields { lengths, codings, .. } = fields;
    if lengths.times + codings.times > 1 {
        return Err(malformed("the length of the body is said twice"));
    }
    if let Some(coding) = codings.value {
        let chunked = coding.eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11;
        return if chunked { Ok(Decoder::CHUNKED) } else { Err(malformed("the transfer coding is not known")) };
    }
    let Some(length) = lengths.value else { return Ok(Decoder::Ended) };
    number(length, 10).map(Decoder::length).ok_or(malformed("the length of the body is no number"))
}

/// What an answer says before its body.
#[derive(Debug)]
pub(super) struct ResponseHead<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a Headers,
    /// `None`: what the fields say, which is the length of what is not sent.
    pub(super) length: Option<Length>,
    pub(super) version: Version,
    pub(super) stays_open: bool,
}

impl ResponseHead<'_> {
    pub(super) fn write(&self, out: &mut BytesMut) {
        make_room(out, 192 + size_of(self.headers) + self.length.map_or(0, Length::copied));
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(self.status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        let replaced = header::CONTENT_LENGTH.as_str().as_bytes();
        for (name, value) in self.headers.iter() {
            if self.length.is_none() || !name.eq_ignore_ascii_case(replaced) {
                write_field(out, name, value);
            }
        }
        if let Some(length) = self.length {
            length.write(out);
        }
        match (self.version, self.stays_open) {
            (_, false) => write_field(out, b"connection", b"close"),
            (Version::HTTP_10, true) => write_field(out, b"connection", b"keep-alive"),
            (_, true) => {}
        }
        if !self.headers.contains(&header::DATE) {
            out.put_slice(b"date: ");
            write_date(out);
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
    }
}

thread_local! {
    /// The second that was written last, and how.
    static DATE: RefCell<(u64, String)> = RefCell::default();
}

fn write_date(out: &mut BytesMut) {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    DATE.with_borrow_mut(|(written, text)| {
        if *written != second || text.is_empty() {
            (*written, *text) = (second, httpdate::fmt_http_date(now));
        }
        out.put_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\n";

    /// How the body behind a head is framed and what is left behind the head, in reads of so many bytes.
    fn read_in(size: usize, bytes: &[u8]) -> Result<Option<(Decoder, usize)>, StatusCode> {
        let (mut read, mut search) = (BytesMut::new(), Search::default());
        for (n, part) in bytes.chunks(size).enumerate() {
            read.extend_from_slice(part);
            if let Some(head) = RequestHead::take(&mut read, &mut search).map_err(|refusal| refusal.status)? {
                let rest = read.len() + bytes.len().saturating_sub((n + 1) * size);
                return Ok(Some((head.body, rest)));
            }
        }
        Ok(None)
    }

    /// The same in reads of every size.
    fn read(bytes: &str) -> Result<Option<(Decoder, usize)>, StatusCode> {
        let first = read_in(1, bytes.as_bytes());
        for size in 2..=bytes.len() {
            assert_eq!(read_in(size, bytes.as_bytes()), first, "{bytes:?} in reads of {size} bytes");
        }
        first
    }

    #[test]
    fn reads_of_any_size_are_judged_alike() {
        let seeds = [
            format!("{HEAD}Content-Length: 5\r\nExpect: 100-continue\r\n\r\na\nb\nc{HEAD}\r\n"),
            format!("\r\n{HEAD}Transfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n"),
            "GET http://a/b?c HTTP/1.0\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ];
        tradewind_fuzz::fuzz(&seeds, |bytes| {
            let whole = read_in(bytes.len().max(1), bytes);
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(read_in(size, bytes), whole, "in reads of {size} bytes");
            }
        });
    }

    #[test]
    fn a_head_says_how_the_body_is_framed() {
        let check =
            |fields: &str, body| assert_eq!(read(&format!("{HEAD}{fields}\r\nrest")), Ok(Some((body, 4))), "{fields}");
        check("", Decoder::Ended);
        check("Content-Length: 5\r\n", Decoder::Length(5));
        check("CONTENT-LENGTH:0\r\n", Decoder::Ended);
        check("Transfer-Encoding: Chunked\r\n", Decoder::CHUNKED);
        assert_eq!(read(&format!("\r\n\r\n{HEAD}\r\n")), Ok(Some((Decoder::Ended, 0))), "empty lines before it");
        assert_eq!(read(HEAD), Ok(None));
    }

    #[test]
    fn what_others_may_read_in_another_way_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "X: a\n",
            "X: a\r\n\n",
            "X: a\r\n folded\r\n",
            "X: a\r\n\tfolded\r\n",
            "X : a\r\n",
            "X: a\0\r\n",
            ": a\r\n",
        ] {
            assert_eq!(read(&format!("{HEAD}{fields}\r\n")), Err(StatusCode::BAD_REQUEST), "{fields:?}");
        }
        for request in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
            "GET /\r\n\r\n",
            "G@T / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(read(request), Err(StatusCode::BAD_REQUEST), "{request:?}");
        }
    }

    #[test]
    fn heads_have_limits() {
        let refused = |bytes: &str| {
            let taken = RequestHead::take(&mut BytesMut::from(bytes.as_bytes()), &mut Search::default());
            taken.map(drop).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(refused(&format!("{HEAD}X: {}", "y".repeat(HEAD_LIMIT))), Err(431));
        assert_eq!(refused(&format!("{HEAD}{}\r\n", "X: y\r\n".repeat(FIELDS_LIMIT))), Err(431));
        assert_eq!(refused(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(TARGET_LIMIT))), Err(414));
    }

    #[test]
    fn whether_the_connection_goes_on_and_the_client_waits() {
        let of = |head: &str| {
            let head = RequestHead::take(&mut BytesMut::from(head), &mut Search::default()).unwrap().unwrap();
            (head.stays_open, head.waits)
        };
        assert_eq!(of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"), (true, false));
        assert_eq!(of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n"), (true, true));
        assert_eq!(
            of("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: x, close\r\n\r\n"),
            (false, false)
        );
        assert_eq!(of("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"), (false, false));
        assert_eq!(of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), (true, false));
    }

    #[test]
    fn an_answer_is_written_as_it_is_meant() {
        let fields = [(header::CONTENT_LENGTH, "7"), (header::DATE, "then"), (header::SERVER, "x")];
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.insert(name, http::HeaderValue::from_static(value)));
        let written = |length, version, stays_open| {
            let mut out = BytesMut::new();
            ResponseHead { status: StatusCode::OK, headers: &headers, length, version, stays_open }.write(&mut out);
            let text = String::from_utf8(out.to_vec()).unwrap();
            let fields =
                text.strip_prefix("HTTP/1.1 200 OK\r\n").and_then(|rest| rest.strip_suffix("\r\n\r\n")).unwrap();
            let mut fields: Vec<String> = fields.split("\r\n").map(str::to_owned).collect();
            fields.retain(|field| field != "date: then" && field != "server: x");
            fields
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(written(None, new, true), ["content-length: 7"]);
        assert_eq!(written(Some(Length::Known(3)), new, true), ["content-length: 3"]);
        assert_eq!(written(Some(Length::Chunked), new, true), ["transfer-encoding: chunked"]);
        assert_eq!(written(Some(Length::UntilClose), old, false), ["connection: close"]);
        assert_eq!(written(Some(Length::Known(3)), old, true), ["content-length: 3", "connection: keep-alive"]);
        let mut out = BytesMut::new();
        write_date(&mut out);
        assert!(out.ends_with(b" GMT") && out.len() == 29, "{out:?}");
    }
}
