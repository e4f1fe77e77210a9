//! Bodies and messages that come and go compressed: gzip, and deflate with zlib's header, as HTTP and gRPC both mean
//! them. What is small compressed may be anything once it is not, so whoever decompresses says how much he takes.

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The codings in the words of `accept-encoding`, the one that more clients have first.
pub const ACCEPTED: &str = "gzip, deflate";
/// Decompressed at once.
const PIECE_BYTES: usize = 64 << 10;
/// The window of gzip: always the largest.
const WINDOW_BITS: u8 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("it has more than {0} bytes once it is decompressed")]
    TooLarge(usize),
    #[error("it is not compressed as it says: {0}")]
    Malformed(&'static str),
}

/// What the beginning of something compressed says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    pub bytes: Vec<u8>,
    /// Nothing follows these bytes.
    pub whole: bool,
}

/// Admits so many bytes.
pub fn at_most(limit: usize) -> impl Fn(usize) -> Result<(), DecompressError> {
    move |bytes| if bytes > limit { Err(DecompressError::TooLarge(limit)) } else { Ok(()) }
}

impl Coding {
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    /// `None` for one that is not had here, `identity` included.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let name = name.trim_ascii();
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// What a client with this `accept-encoding` likes best of [`Self::ALL`]; `None` if none of them.
    pub fn accepted(accept_encoding: &[u8]) -> Option<Self> {
        let weighed = accept_encoding.split(|byte| *byte == b',').filter_map(|offer| {
            let mut parts = offer.split(|byte| *byte == b';');
            let coding = Self::from_name(parts.next()?)?;
            let weight = parts.find_map(|part| part.trim_ascii().strip_prefix(b"q="));
            let weight = weight.map_or(Some(1.0), |weight| str::from_utf8(weight).ok()?.trim().parse::<f32>().ok())?;
            (weight > 0.0).then_some((coding, weight))
        });
        // The first of those that are liked as much.
        let best = weighed.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(coding, _)| coding)
    }

    /// Adds what `compressed` holds to `plain`, as long as `admit` has room for so many bytes of it in all.
    pub fn decompress<E: From<DecompressError>>(
        self,
        compressed: &[u8],
        plain: &mut BytesMut,
        mut admit: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = plain.len();
        let mut reader = Reader::new(self, compressed);
        while let Some(piece) = reader.next()? {
            admit(plain.len() - before + piece.len())?;
            plain.put_slice(piece);
        }
        match reader.end {
            Some(0) => Ok(()),
            Some(_) => Err(DecompressError::Malformed("something follows its end").into()),
            None => Err(DecompressError::Malformed("it is cut off").into()),
        }
    }

    /// As much as can be told of something of which no more than `compressed` has come; about `limit` bytes at most.
    pub fn beginning(self, compressed: &[u8], limit: usize) -> Result<Beginning, DecompressError> {
        let mut reader = Reader::new(self, compressed);
        let mut bytes = Vec::new();
        while bytes.len() < limit
            && let Some(piece) = reader.next()?
        {
            bytes.extend_from_slice(piece);
        }
        Ok(Beginning { bytes, whole: reader.end.is_some() })
    }

    /// As fast as it goes: whoever waits for it gains less from the last tenth.
    pub fn compress(self, plain: &[u8]) -> Vec<u8> {
        let mut compressor = match self {
            Self::Gzip => Compress::new_gzip(Compression::fast(), WINDOW_BITS),
            Self::Deflate => Compress::new(Compression::fast(), true),
        };
        let mut compressed = Vec::with_capacity(plain.len() / 2 + 64);
        loop {
            let rest = usize::try_from(compressor.total_in()).map_or(&[][..], |taken| &plain[taken..]);
            let status = compressor.compress_vec(rest, &mut compressed, FlushCompress::Finish);
            match status.expect("a compressor that was not told otherwise takes all bytes") {
                Status::StreamEnd => return compressed,
                Status::Ok | Status::BufError => compressed.reserve(PIECE_BYTES),
            }
        }
    }
}

/// Decompresses piece by piece.
struct Reader<'a> {
    decompressor: Decompress,
    rest: &'a [u8],
    piece: Box<[u8]>,
    /// How many bytes follow it, once its end has come.
    end: Option<usize>,
}

impl<'a> Reader<'a> {
    fn new(coding: Coding, compressed: &'a [u8]) -> Self {
        let decompressor = match coding {
            Coding::Gzip => Decompress::new_gzip(WINDOW_BITS),
            Coding::Deflate => Decompress::new(true),
        };
        Self { decompressor, rest: compressed, piece: vec![0; PIECE_BYTES].into_boxed_slice(), end: None }
    }

    /// `None` at its end, or where `rest` ends.
    fn next(&mut self) -> Result<Option<&[u8]>, DecompressError> {
        while self.end.is_none() {
            let (taken, made) = (self.decompressor.total_in(), self.decompressor.total_out());
            let status = self.decompressor.decompress(self.rest, &mut self.piece, FlushDecompress::None);
            let status = status.map_err(|_| DecompressError::Malformed("its bytes make no sense"))?;
            let fits = "what was taken and made lies within the slices";
            let taken = usize::try_from(self.decompressor.total_in() - taken).expect(fits);
            let made = usize::try_from(self.decompressor.total_out() - made).expect(fits);
            self.rest = &self.rest[taken..];
            if status == Status::StreamEnd {
                self.end = Some(self.rest.len());
            }
            if made > 0 {
                return Ok(Some(&self.piece[..made]));
            }
            if taken == 0 {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompress(coding: Coding, compressed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut plain = BytesMut::from(&b"before"[..]);
        coding.decompress(compressed, &mut plain, at_most(limit))?;
        Ok(plain[6..].to_vec())
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for coding in Coding::ALL {
            for plain in [&b""[..], b"a", &noise, &[7; 1 << 20]] {
                let compressed = coding.compress(plain);
                assert_eq!(decompress(coding, &compressed, plain.len()).as_deref(), Ok(plain));
                let whole = Beginning { bytes: plain.to_vec(), whole: true };
                assert_eq!(coding.beginning(&compressed, usize::MAX), Ok(whole));
            }
        }
    }

    #[test]
    fn no_more_is_decompressed_than_the_limit() {
        for coding in Coding::ALL {
            let bomb = coding.compress(&vec![0; 8 << 20]);
            assert!(bomb.len() < 128 << 10, "{}", bomb.len());
            assert_eq!(decompress(coding, &bomb, 1 << 20), Err(DecompressError::TooLarge(1 << 20)));
            let beginning = coding.beginning(&bomb, 1000).unwrap();
            assert!(!beginning.whole && beginning.bytes.len() <= 1000 + PIECE_BYTES);
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let malformed = |why| Err(DecompressError::Malformed(why));
        for coding in Coding::ALL {
            let whole = coding.compress(b"hello, hello, hello");
            for length in 0..whole.len() {
                assert_eq!(
                    decompress(coding, &whole[..length], 100),
                    malformed("it is cut off"),
                    "{coding:?} {length}"
                );
                assert!(coding.beginning(&whole[..length], 100).is_ok_and(|beginning| !beginning.whole));
            }
            let longer = [&whole[..], b"x"].concat();
            assert_eq!(decompress(coding, &longer, 100), malformed("something follows its end"));
            assert_eq!(decompress(coding, b"hello, hello", 100), malformed("its bytes make no sense"));
            let mut sum = whole;
            *sum.last_mut().unwrap() ^= 1;
            assert_eq!(decompress(coding, &sum, 100), malformed("its bytes make no sense"));
        }
    }

    #[test]
    fn a_client_says_what_it_likes() {
        for (header, expected) in [
            ("gzip, deflate", Some(Coding::Gzip)),
            ("deflate, gzip;q=0.5", Some(Coding::Deflate)),
            ("deflate;q=0.2 , GZIP ; q=0.8, br", Some(Coding::Gzip)),
            ("gzip;q=0, deflate;q=0.0", None),
            ("gzip;q=much", None),
            ("x-gzip", Some(Coding::Gzip)),
            ("br, zstd, *", None),
            ("identity", None),
            ("", None),
        ] {
            assert_eq!(Coding::accepted(header.as_bytes()), expected, "{header}");
        }
        assert_eq!(Coding::ALL.map(Coding::name).join(", "), ACCEPTED);
    }

    #[test]
    fn whatever_comes_is_refused_or_decompressed_within_the_limit() {
        let seeds = Coding::ALL.map(|coding| coding.compress(b"a model, a model, {\"inputs\": []} and a model"));
        tradewind_fuzz::fuzz(&seeds, |compressed| {
            for coding in Coding::ALL {
                let whole = decompress(coding, compressed, 1000);
                assert!(whole.as_ref().is_ok_and(|plain| plain.len() <= 1000) || whole.is_err());
                if let (Ok(plain), Ok(beginning)) = (whole, coding.beginning(compressed, 1 << 20)) {
                    assert_eq!((beginning.bytes, beginning.whole), (plain, true));
                }
            }
        });
    }
}
