//! Where HTTP/1 requests begin and end, looked at before hyper does. hyper lets shapes pass that others read in another
//! way, which is how a request is smuggled past whoever is in front: lines without a carriage return, and lengths that
//! are said twice (RFC 9112, 2.2 and 6.3). They are not answered here: a byte that no request may hold is put in the
//! place of one that must be there, so hyper refuses the request with 400 and closes the connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::BUFFER_LIMIT;

/// Stands in no line of a request.
const POISON: u8 = 0;

/// A connection whose requests are looked at as they are read.
#[derive(Debug)]
pub(super) struct Inspected<S> {
    stream: S,
    framing: Framing,
}

impl<S> Inspected<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, framing: Framing { part: Part::RequestLine, line: Vec::new() } }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inspected<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.framing.take_in(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inspected<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows requests over the reads that they come in.
#[derive(Debug)]
struct Framing {
    part: Part,
    /// What has come of a line whose end is still to come; mostly nothing.
    line: Vec<u8>,
}

/// What comes next. All but `Data` are lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    RequestLine,
    Fields(Body),
    Data {
        left: u64,
        then: Then,
    },
    ChunkSize,
    ChunkEnd,
    Trailers,
    /// Nothing that is to be looked at.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    RequestLine,
    ChunkEnd,
}

/// How a body is framed, as far as the head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Empty,
    Length(u64),
    Chunked,
}

impl Framing {
    fn take_in(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() && self.part != Part::Refused {
            if let Part::Data { left, then } = self.part {
                let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.part = data(left - here as u64, then);
                bytes = &mut bytes[here..];
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > BUFFER_LIMIT {
                    self.refuse(bytes);
                }
                return;
            };
            let (line, rest) = bytes.split_at_mut(end + 1);
            let next = if self.line.is_empty() {
                self.part.after(line)
            } else {
                self.line.extend_from_slice(line);
                self.part.after(&std::mem::take(&mut self.line))
            };
            match next {
                Some(part) => self.part = part,
                None => self.refuse(line),
            }
            bytes = rest;
        }
    }

    fn refuse(&mut self, read: &mut [u8]) {
        if let Some(last) = read.last_mut() {
            *last = POISON;
        }
        *self = Self { part: Part::Refused, line: Vec::new() };
    }
}

impl Part {
    /// What comes after this line; `None` when it may not be there.
    fn after(self, line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r\n")?;
        match self {
            // Clients of old send an empty line behind a body.
            Self::RequestLine if line.is_empty() => Some(Self::RequestLine),
            Self::RequestLine => Some(Self::Fields(Body::Empty)),
            Self::Fields(body) if line.is_empty() => Some(match body {
                Body::Empty => Self::RequestLine,
                Body::Length(length) => data(length, Then::RequestLine),
                Body::Chunked => Self::ChunkSize,
            }),
            Self::Fields(body) => body.with(line).map(Self::Fields),
            Self::ChunkSize => Some(match chunk_size(line)? {
                0 => Self::Trailers,
                size => data(size, Then::ChunkEnd),
            }),
            Self::ChunkEnd => line.is_empty().then_some(Self::ChunkSize),
            Self::Trailers => Some(if line.is_empty() { Self::RequestLine } else { Self::Trailers }),
            Self::Data { .. } | Self::Refused => None,
        }
    }
}

fn data(left: u64, then: Then) -> Part {
    match (left, then) {
        (0, Then::RequestLine) => Part::RequestLine,
        (0, Then::ChunkEnd) => Part::ChunkEnd,
        _ => Part::Data { left, then },
    }
}

impl Body {
    /// After one more header field; `None` when that says a length again, or one that is not clear. Nearly all are told
    /// by their first letter to say nothing of it.
    fn with(self, line: &[u8]) -> Option<Self> {
        let said = match line.first()? {
            b'c' | b'C' => value_of(line, b"content-length:").map(|value| number(value, 10).map(Self::Length)),
            b't' | b'T' => value_of(line, b"transfer-encoding:")
                .map(|value| value.eq_ignore_ascii_case(b"chunked").then_some(Self::Chunked)),
            // What begins with a space goes on with the line before (obs-fold).
            b' ' | b'\t' => return None,
            _ => None,
        };
        match said {
            None => Some(self),
            Some(said) => said.filter(|_| self == Self::Empty),
        }
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, value) = line.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The digits before an extension, if there is one.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?;
    number(size.trim_ascii_end(), 16)
}

/// Digits and nothing else: not even a sign, which Rust would read.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let all = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let text = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v2/models/digits/infer HTTP/1.1\r\nHost: a\r\n";

    /// Whether the bytes pass, in reads of `size` bytes.
    fn passes(bytes: &[u8], size: usize) -> bool {
        let mut framing = Framing { part: Part::RequestLine, line: Vec::new() };
        let mut passed = Vec::new();
        for read in bytes.chunks(size) {
            let mut read = read.to_vec();
            framing.take_in(&mut read);
            passed.extend(read);
        }
        let changed = bytes.iter().zip(&passed).filter(|(before, after)| before != after).count();
        assert_eq!(changed, usize::from(framing.part == Part::Refused), "one byte tells hyper");
        changed == 0
    }

    fn check(bytes: &str, expected: bool) {
        for size in 1..=bytes.len() {
            assert_eq!(passes(bytes.as_bytes(), size), expected, "{bytes:?} in reads of {size} bytes");
        }
    }

    #[test]
    fn clean_requests_pass_untouched_one_behind_the_other() {
        check(&format!("{HEAD}\r\n{HEAD}\r\n"), true);
        check(&format!("{HEAD}Content-Length: 5\r\n\r\na\nb\nc{HEAD}CONTENT-LENGTH:0\r\n\r\n{HEAD}\r\n"), true);
        let chunks = "a;name=value\r\n\n123456789\r\n0\r\nTrailer: x\r\n\r\n";
        check(&format!("{HEAD}Transfer-Encoding: Chunked\r\n\r\n{chunks}{HEAD}\r\n"), true);
        check(&format!("\r\n{HEAD}Content-Length: 1\r\n\r\nx\r\n{HEAD}\r\n"), true);
    }

    #[test]
    fn what_others_may_read_in_another_way_does_not() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "Content-Length: +5\r\n\r\n",
            "Content-Length: 5, 5\r\n\r\n",
            "Content-Length: 99999999999999999999\r\n\r\n",
            "Content-Length:\r\n\r\n",
            "Transfer-Encoding: chunked, identity\r\n\r\n",
            "Transfer-Encoding: xchunked\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "X: a\n\r\n",
            "X: a\r\n\n",
            "X: a\r\n folded\r\n\r\n",
            "X: a\r\n\tfolded\r\n\r\n",
        ] {
            check(&format!("{HEAD}{fields}"), false);
            check(&format!("{HEAD}Content-Length: 3\r\n\r\nabc{HEAD}{fields}"), false);
        }
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", false);
        for chunks in [
            "x\r\n",
            "-1\r\n",
            "5\nabcde\r\n",
            "2\r\nabc\r\n",
            "2\r\nab\n",
            "10000000000000000\r\n",
            "\r\n",
            "0\r\nX: a\n",
        ] {
            check(&format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}"), false);
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_without_an_end() {
        assert!(!passes(&vec![b'a'; BUFFER_LIMIT + 2], 8 << 10));
    }

    #[test]
    fn reads_of_any_size_are_judged_alike() {
        let seeds = [
            format!("{HEAD}Content-Length: 5\r\n\r\na\nb\nc{HEAD}\r\n"),
            format!(
                "{HEAD}Transfer-Encoding: chunked\r\n\r\na;n=v\r\n\n123456789\r\n0\r\nTrailer: x\r\n\r\n{HEAD}\r\n"
            ),
            format!("{HEAD}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ];
        tradewind_fuzz::fuzz(&seeds, |bytes| {
            let whole = passes(bytes, bytes.len().max(1));
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(passes(bytes, size), whole, "in reads of {size} bytes");
            }
        });
    }
}
