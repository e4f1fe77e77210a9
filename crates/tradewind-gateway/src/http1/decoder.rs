//! Where a body ends that comes on an HTTP/1 connection (RFC 9112, 6 and 7).

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// The most bytes of a body that say nothing of it: extensions of chunks, and trailers.
const BESIDE_LIMIT: usize = 16 << 10;
/// The most digits of a chunk's size.
const DIGITS_LIMIT: usize = 16;

/// Takes one body out of what has been read, over as many reads as it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// It ends with the connection.
    UntilClose,
    Ended,
}

/// A body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunked {
    next: Part,
    /// How many more bytes may come that nobody is told of.
    beside: usize,
}

/// What comes next of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Size,
    Data(u64),
    /// The end of the line behind the data.
    DataEnd,
    Trailers,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// Nothing yet: more has to be read.
    More,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(super) &'static str);

impl Decoder {
    pub(super) const CHUNKED: Self = Self::Chunked(Chunked { next: Part::Size, beside: BESIDE_LIMIT });

    pub(super) fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Ended } else { Self::Length(bytes) }
    }

    /// How much is left, where that is known.
    pub(super) fn left(self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(left),
            Self::Ended => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Nothing more will be read; whether the body may end so.
    pub(super) fn close(&mut self) -> bool {
        let may = matches!(self, Self::UntilClose | Self::Ended);
        *self = Self::Ended;
        may
    }

    /// Takes the next piece from the front of what has been read.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Ended => Ok(Piece::End),
            _ if read.is_empty() => Ok(Piece::More),
            Self::UntilClose => Ok(Piece::Data(read.split().freeze())),
            Self::Length(left) => {
                let (data, left) = split(read, *left);
                *self = Self::length(left);
                Ok(Piece::Data(data))
            }
            Self::Chunked(chunked) => {
                let piece = chunked.take(read)?;
                if piece == Piece::End {
                    *self = Self::Ended;
                }
                Ok(piece)
            }
        }
    }
}

impl Chunked {
    fn take(&mut self, read: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            self.next = match self.next {
                Part::Data(_) if read.is_empty() => return Ok(Piece::More),
                Part::Data(left) => {
                    let (data, left) = split(read, left);
                    self.next = if left == 0 { Part::DataEnd } else { Part::Data(left) };
                    return Ok(Piece::Data(data));
                }
                Part::Size => {
                    let Some(line) = line(read, self.beside + DIGITS_LIMIT)? else { return Ok(Piece::More) };
                    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
                    self.beside = self.beside.checked_sub(line.len() - digits).ok_or(TOO_LONG)?;
                    match chunk_size(&line).ok_or(Malformed("a chunk's size is no number"))? {
                        0 => Part::Trailers,
                        size => Part::Data(size),
                    }
                }
                Part::DataEnd => match line(read, 0)? {
                    None => return Ok(Piece::More),
                    Some(_) => Part::Size,
                },
                Part::Trailers => match line(read, self.beside)? {
                    None => return Ok(Piece::More),
                    Some(line) if line.is_empty() => return Ok(Piece::End),
                    Some(line) => {
                        self.beside = self.beside.saturating_sub(line.len() + CRLF.len());
                        Part::Trailers
                    }
                },
            };
        }
    }
}

const TOO_LONG: Malformed = Malformed("a body in chunks says too much beside its data");

const CRLF: &[u8] = b"\r\n";

/// Up to `left` bytes of what has been read, and how many are left then.
fn split(read: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let here = usize::try_from(left).map_or(read.len(), |left| left.min(read.len()));
    (read.split_to(here).freeze(), left - here as u64)
}

/// The next line without its end, of at most `limit` bytes; `None` as long as its end has not come.
fn line(read: &mut BytesMut, limit: usize) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = memchr(b'\n', read) else {
        return if read.len() > limit + 1 { Err(TOO_LONG) } else { Ok(None) };
    };
    let mut line = read.split_to(end + 1);
    let Some(length) = line.strip_suffix(CRLF).map(<[u8]>::len) else {
        return Err(Malformed("a line of a body in chunks does not end as it should"));
    };
    if length > limit {
        return Err(TOO_LONG);
    }
    line.truncate(length);
    Ok(Some(line))
}

/// The digits before an extension, if there is one.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?;
    number(size.trim_ascii_end(), 16)
}

/// Digits and nothing else: not even a sign, which Rust would read.
pub(super) fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and what comes behind it, in reads of `size` bytes; `Err(None)` when it does not end.
    fn decode(mut decoder: Decoder, bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize), Option<Malformed>> {
        let (mut read, mut body, mut reads) = (BytesMut::new(), Vec::new(), bytes.chunks(size));
        loop {
            match decoder.take(&mut read).map_err(Some)? {
                Piece::Data(data) => body.extend_from_slice(&data),
                Piece::End => return Ok((body, read.len() + reads.map(<[u8]>::len).sum::<usize>())),
                Piece::More => match reads.next() {
                    Some(more) => read.extend_from_slice(more),
                    None if decoder.close() => return Ok((body, 0)),
                    None => return Err(None),
                },
            }
        }
    }

    fn check(decoder: Decoder, bytes: &[u8], expected: &Result<(&[u8], usize), Option<()>>) {
        for size in 1..=bytes.len().max(1) {
            let decoded = decode(decoder, bytes, size);
            let decoded = decoded.as_ref().map(|(body, rest)| (&body[..], *rest)).map_err(|error| error.map(drop));
            assert_eq!(&decoded, expected, "{:?} in reads of {size} bytes", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        check(Decoder::length(0), b"rest", &Ok((b"", 4)));
        check(Decoder::length(3), b"abcrest", &Ok((b"abc", 4)));
        check(Decoder::length(3), b"ab", &Err(None));
        check(Decoder::UntilClose, b"abc", &Ok((b"abc", 0)));
        check(Decoder::CHUNKED, b"0\r\n\r\nrest", &Ok((b"", 4)));
        check(
            Decoder::CHUNKED,
            b"3\r\nabc\r\nA ; x=\"y\"\r\n0123\r\n6789\r\n0\r\nT: x\r\n\r\nHTTP",
            &Ok((b"abc0123\r\n6789", 4)),
        );
    }

    #[test]
    fn chunks_that_break_off_or_are_malformed_are_no_body() {
        for begun in [&b""[..], b"3", b"3\r\n", b"3\r\nab", b"3\r\nabc\r\n", b"0\r\n", b"0\r\nT: x\r\n"] {
            check(Decoder::CHUNKED, begun, &Err(None));
        }
        for bad in
            [&b"x\r\n"[..], b"-1\r\n", b"\r\n", b"3\nabc", b"3\r\nabcd\r\n", b"2\r\nab\n", b"10000000000000000\r\n"]
        {
            check(Decoder::CHUNKED, bad, &Err(Some(())));
        }
        for long in [
            [b"1;".as_slice(), &vec![b'x'; BESIDE_LIMIT], b"\r\n"].concat(),
            [b"1;".as_slice(), &vec![b'x'; 2 * BESIDE_LIMIT]].concat(),
            b"1;xxxxxxxx\r\nx\r\n".repeat(BESIDE_LIMIT / 9 + 1),
            [b"0\r\n".as_slice(), &b"name: value\r\n".repeat(BESIDE_LIMIT / 10)].concat(),
            [b'0'; 2 * BESIDE_LIMIT].to_vec(),
        ] {
            assert_eq!(decode(Decoder::CHUNKED, &long, 100).map_err(|error| error.is_some()), Err(true));
        }
    }

    #[test]
    fn reads_of_any_size_are_judged_alike() {
        let seeds =
            [&b"3\r\nabc\r\nA ; x=\"y\"\r\n0123\r\n6789\r\n0\r\nT: x\r\n\r\nHTTP"[..], b"00001\r\na\r\n0\r\n\r\n"];
        tradewind_fuzz::fuzz(&seeds, |bytes| {
            // What is wrong with it first may depend on how it is cut.
            let decode = |size| decode(Decoder::CHUNKED, bytes, size).map_err(|error| error.is_some());
            let whole = decode(bytes.len().max(1));
            for size in [1, 2, 3, 7, 64] {
                assert_eq!(decode(size), whole, "in reads of {size} bytes");
            }
        });
    }
}
