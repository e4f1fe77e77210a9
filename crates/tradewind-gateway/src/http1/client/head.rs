//! Heads of requests as they are written, and of answers as they are read.

use std::mem::MaybeUninit;

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode};
use httparse::{ParserConfig, Status};
use memchr::memmem;

use crate::{
    headers::Headers,
    http1::{
        FIELDS_LIMIT, Fields, HEAD_END, HEAD_LIMIT,
        decoder::{Decoder, Malformed, number},
        make_room,
        sending::{Length, size_of, write_field},
        version,
    },
};

/// What a request says before its body. How long that is, the connection adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    /// With the query.
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    /// Neither `host` nor what says how the body is framed.
    pub(crate) headers: &'a Headers,
}

impl RequestHead<'_> {
    pub(super) fn write(&self, length: Length, out: &mut BytesMut) {
        make_room(out, 64 + self.path.len() + self.host.len() + size_of(self.headers) + length.copied());
        for part in [self.method.as_str(), " ", self.path, " HTTP/1.1\r\nhost: ", self.host, "\r\n"] {
            out.put_slice(part.as_bytes());
        }
        // Who is sent no body by a method that has none is not told of it either.
        let expected = matches!(*self.method, Method::POST | Method::PUT | Method::PATCH);
        if length != Length::Known(0) || expected {
            length.write(out);
        }
        for (name, value) in self.headers.iter() {
            write_field(out, name, value);
        }
        out.put_slice(b"\r\n");
    }
}

/// What an answer says before its body.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) body: Decoder,
    /// Whether the upstream keeps the connection open behind it.
    pub(super) stays_open: bool,
}

impl ResponseHead {
    /// Takes the head of the answer to a request of that method from the front of what has been read; `None` as long as
    /// it has not come whole. Those of interim answers are taken and not told of.
    pub(super) fn take(read: &mut BytesMut, method: &Method) -> Result<Option<Self>, Malformed> {
        loop {
            let Some(head) = Self::take_any(read, method)? else { return Ok(None) };
            if !head.status.is_informational() {
                return Ok(Some(head));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Malformed("the protocol was switched unasked"));
            }
        }
    }

    fn take_any(read: &mut BytesMut, method: &Method) -> Result<Option<Self>, Malformed> {
        let Some(end) = memmem::find(read, HEAD_END) else {
            return if read.len() > HEAD_LIMIT { Err(Malformed("its head is too long")) } else { Ok(None) };
        };
        let bytes = read.split_to(end + HEAD_END.len()).freeze();
        let mut parsed = [const { MaybeUninit::uninit() }; FIELDS_LIMIT];
        let mut response = httparse::Response::new(&mut []);
        match ParserConfig::default().parse_response_with_uninit_headers(&mut response, &bytes, &mut parsed) {
            Ok(Status::Complete(length)) if length == bytes.len() => {}
            _ => return Err(Malformed("its head does not parse")),
        }
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Malformed("its status is none"))?;
        let version = version(response.version);
        let fields = Fields::read(&bytes, response.headers).ok_or(Malformed("a field of its head does not parse"))?;
        let (body, clear) = body(status, &fields, method)?;
        let stays_open = clear && fields.stays_open(version);
        Ok(Some(Self { status, headers: fields.headers, body, stays_open }))
    }
}

/// How an answer's body is framed, and whether so clearly that another answer may follow (RFC 9112, 6.3).
fn body(status: StatusCode, fields: &Fields<'_>, method: &Method) -> Result<(Decoder, bool), Malformed> {
    let Fields { lengths, codings, .. } = fields;
    if *method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Ok((Decoder::Ended, true));
    }
    if let Some(coding) = codings.value {
        if codings.times > 1 || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed("its transfer coding is not known"));
        }
        // Whoever says a length as well may mean either.
        return Ok((Decoder::CHUNKED, lengths.times == 0));
    }
    let Some(length) = lengths.value else { return Ok((Decoder::UntilClose, false)) };
    if lengths.differs {
        return Err(Malformed("it has two lengths"));
    }
    let length = number(length, 10).ok_or(Malformed("its length is no number"))?;
    Ok((Decoder::length(length), true))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    type Read = Result<Option<(u16, Decoder, bool, usize)>, Malformed>;

    /// What is read of a head in reads of so many bytes.
    fn read_in(size: usize, method: &Method, bytes: &[u8]) -> Read {
        let mut read = BytesMut::new();
        for (n, part) in bytes.chunks(size).enumerate() {
            read.extend_from_slice(part);
            if let Some(head) = ResponseHead::take(&mut read, method)? {
                let rest = read.len() + bytes.len().saturating_sub((n + 1) * size);
                return Ok(Some((head.status.as_u16(), head.body, head.stays_open, rest)));
            }
        }
        Ok(None)
    }

    /// The same in reads of every size.
    fn read(method: &Method, bytes: &str) -> Read {
        let first = read_in(1, method, bytes.as_bytes());
        for size in 2..=bytes.len() {
            assert_eq!(read_in(size, method, bytes.as_bytes()), first, "{bytes:?} in reads of {size} bytes");
        }
        first
    }

    #[test]
    fn reads_of_any_size_are_judged_alike() {
        let seeds = [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x\r\n\r\nabc",
            "HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        ];
        tradewind_fuzz::fuzz(&seeds, |bytes| {
            let whole = read_in(bytes.len().max(1), &Method::POST, bytes);
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(read_in(size, &Method::POST, bytes), whole, "in reads of {size} bytes");
            }
        });
    }

    #[test]
    fn a_head_says_how_the_body_is_framed_and_whether_the_connection_goes_on() {
        use Decoder::{Ended, Length, UntilClose};
        let check = |method: Method, head: &str, body: Decoder, stays_open: bool| {
            let status = head[9..12].parse().unwrap();
            assert_eq!(
                read(&method, &format!("{head}\r\n\r\nrest")),
                Ok(Some((status, body, stays_open, 4))),
                "{head}"
            );
        };
        check(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3", Length(3), true);
        check(Method::GET, "HTTP/1.1 200\r\nContent-Length: 3\r\nContent-Length: 3", Length(3), true);
        check(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 0", Ended, true);
        check(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close", Length(3), false);
        check(Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 3", Length(3), false);
        check(Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive", Length(3), true);
        check(Method::GET, "HTTP/1.1 200 OK\r\nX: y", UntilClose, false);
        check(Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", Decoder::CHUNKED, true);
        check(
            Method::GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
            Decoder::CHUNKED,
            false,
        );
        check(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3", Ended, true);
        check(Method::GET, "HTTP/1.1 204 No Content\r\nContent-Length: 3", Ended, true);
        check(Method::GET, "HTTP/1.1 304 Not Modified", Ended, true);
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(read(&Method::POST, &format!("{interim}{head}")), Ok(Some((200, Decoder::Length(3), true, 0))));
        assert_eq!(read(&Method::POST, interim), Ok(None));
        assert!(read(&Method::POST, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n").is_err());
    }

    #[test]
    fn what_is_no_clear_head_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(read(&Method::GET, head).is_err(), "{head}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(HEAD_LIMIT));
        assert!(ResponseHead::take(&mut BytesMut::from(long.as_bytes()), &Method::GET).is_err());
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_LIMIT + 1));
        assert!(ResponseHead::take(&mut BytesMut::from(many.as_bytes()), &Method::GET).is_err());
    }

    #[test]
    fn a_request_is_written_as_it_is_meant() {
        let mut headers = Headers::default();
        headers.insert(&header::ACCEPT, HeaderValue::from_static("*/*"));
        let written = |method: Method, length| {
            let mut out = BytesMut::new();
            RequestHead { method: &method, path: "/a?b", host: "h:1", headers: &headers }.write(length, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let head =
            |begin: &str, length: &str| format!("{begin} /a?b HTTP/1.1\r\nhost: h:1\r\n{length}accept: */*\r\n\r\n");
        assert_eq!(written(Method::GET, Length::Known(0)), head("GET", ""));
        assert_eq!(written(Method::POST, Length::Known(0)), head("POST", "content-length: 0\r\n"));
        assert_eq!(written(Method::POST, Length::Known(12)), head("POST", "content-length: 12\r\n"));
        assert_eq!(written(Method::POST, Length::Chunked), head("POST", "transfer-encoding: chunked\r\n"));
    }
}
