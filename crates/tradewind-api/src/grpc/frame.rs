//! A message on the wire: one byte that says whether it is compressed, its length, itself.

/// What stands before every message.
pub const HEADER_BYTES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub compressed: bool,
    /// Bytes of the message that follows.
    pub length: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message begins with 0 or 1, not with {0}")]
pub struct UnknownFlag(u8);

impl Header {
    /// Of an uncompressed message.
    pub fn plain(length: u32) -> Self {
        Self { compressed: false, length }
    }

    pub fn compressed(length: u32) -> Self {
        Self { compressed: true, length }
    }

    pub fn read(bytes: [u8; HEADER_BYTES]) -> Result<Self, UnknownFlag> {
        let [flag, length @ ..] = bytes;
        let compressed = match flag {
            0 => false,
            1 => true,
            other => return Err(UnknownFlag(other)),
        };
        Ok(Self { compressed, length: u32::from_be_bytes(length) })
    }

    pub fn write(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.length.to_be_bytes();
        [u8::from(self.compressed), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        for header in [Header::plain(0), Header::compressed(0x0102_0304), Header::plain(u32::MAX)] {
            assert_eq!(Header::read(header.write()), Ok(header));
        }
        assert_eq!(Header::plain(0x0102_0304).write(), [0, 1, 2, 3, 4]);
        assert_eq!(Header::read([2, 0, 0, 0, 0]), Err(UnknownFlag(2)));
    }
}
