//! What a model file is, by its first bytes. An ONNX file is a bare protobuf message without a magic number, so this
//! finds what it certainly is not; whether it is a model is for ONNX Runtime to say.

use std::fmt;

use super::Error;

/// Enough of a file's beginning to tell.
pub(super) const START_BYTES: usize = 64;

/// What is mistaken for an ONNX model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Empty,
    Pickle,
    Zip,
    Gzip,
    Hdf5,
    Safetensors,
    Gguf,
    TensorFlowLite,
    GitLfsPointer,
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Pickle => "a Python pickle",
            Self::Zip => "a zip archive (PyTorch's .pt and Keras's .keras are such)",
            Self::Gzip => "a gzip archive",
            Self::Hdf5 => "an HDF5 file (Keras's .h5 is such)",
            Self::Safetensors => "a safetensors file",
            Self::Gguf => "a GGUF file",
            Self::TensorFlowLite => "a TensorFlow Lite model",
            Self::GitLfsPointer => "a Git LFS pointer, not the file itself",
            Self::Text => "a text file",
        })
    }
}

/// Refuses a model file that is plainly something else, by its first bytes (64 are enough).
pub fn check_model_start(path: &str, start: &[u8]) -> Result<(), Error> {
    match recognise(&start[..start.len().min(START_BYTES)]) {
        Some(found) => Err(Error::Format { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

fn recognise(start: &[u8]) -> Option<Format> {
    let text = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    Some(match start {
        [] => Format::Empty,
        // Protocols 2 to 5. As protobuf this would be a field that no ONNX model has.
        [0x80, 2..=5, ..] => Format::Pickle,
        [b'P', b'K', 3 | 5 | 7, ..] => Format::Zip,
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x89, b'H', b'D', b'F', ..] => Format::Hdf5,
        [b'G', b'G', b'U', b'F', ..] => Format::Gguf,
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Format::TensorFlowLite,
        // The header's length in 8 bytes, then its JSON.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Format::Safetensors,
        _ if start.starts_with(b"version https://git-lfs") => Format::GitLfsPointer,
        // Protocols 0 and 1 are text that begins with an opcode: a mark with a container, or a global.
        [b'(', b'd' | b'l' | b'i' | b't', b'p', ..] => Format::Pickle,
        [b'c', ..] if text(start) && start.iter().filter(|&&byte| byte == b'\n').count() >= 2 => Format::Pickle,
        _ if text(start) => Format::Text,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_model_is_recognised() {
        for (start, expected) in [
            (&b""[..], Some(Format::Empty)),
            (b"\x80\x04\x95\x10\0\0", Some(Format::Pickle)),
            (b"(dp0\nVx\n", Some(Format::Pickle)),
            (b"cposix\nsystem\n(Vid\ntR.", Some(Format::Pickle)),
            (b"PK\x03\x04\0\0", Some(Format::Zip)),
            (b"\x1f\x8b\x08", Some(Format::Gzip)),
            (b"\x89HDF\r\n\x1a\n", Some(Format::Hdf5)),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", Some(Format::Safetensors)),
            (b"version https://git-lfs.github.com/spec/v1\n", Some(Format::GitLfsPointer)),
            (b"<html>not found</html>", Some(Format::Text)),
            // ir_version 8, producer "pytorch"; and the same without ir_version.
            (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", None),
            (b"\x12\x07pytorch\x1a\x052.1.0", None),
        ] {
            assert_eq!(recognise(start), expected, "{start:?}");
        }
    }
}
