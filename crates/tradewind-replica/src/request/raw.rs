//! Raw tensors: elements one after the other, row-major, little-endian; each of BYTES after its length.

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};
use ort::value::PrimitiveTensorElementType;
use tradewind_core::inference::Datatype;

use crate::tensor::{Input, with_element};

/// Bytes of the length before each element of BYTES.
const LENGTH_BYTES: usize = 4;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RawError {
    #[error("its raw data has {found} bytes, its shape {shape:?} of {datatype} has {expected}")]
    Size { found: usize, expected: usize, shape: Vec<usize>, datatype: Datatype },
    #[error("element {index}: {value} is not a BOOL, which is 0 or 1")]
    Bool { index: usize, value: u8 },
    #[error("element {index}: it ends after {found} of its {expected} bytes")]
    Cut { index: usize, found: usize, expected: usize },
    #[error("its raw data has {left} bytes after the {expected} elements of its shape {shape:?}")]
    TooMany { left: usize, expected: usize, shape: Vec<usize> },
    #[error("element {index} is not UTF-8, which ONNX Runtime's strings are")]
    Encoding { index: usize },
    #[error("element {index} has a NUL character, at which ONNX Runtime's strings end")]
    Nul { index: usize },
    #[error("{0}")]
    Tensor(String),
}

/// `shape` has passed the check that its size in bytes can be counted.
pub(crate) fn tensor(bytes: Bytes, shape: Vec<usize>, datatype: Datatype) -> Result<Input, RawError> {
    let elements: usize = shape.iter().product();
    if let Some(size) = datatype.size()
        && bytes.len() != elements * size
    {
        return Err(RawError::Size { found: bytes.len(), expected: elements * size, shape, datatype });
    }
    with_element!(datatype, T => T::input(bytes, shape), Bytes => {
        let strings = strings(&bytes, elements, &shape)?;
        Input::from_strings(&strings, shape).map_err(refused)
    })
}

/// One element that is all of `bytes`, without its length.
pub(crate) fn lone_string(bytes: &[u8], shape: Vec<usize>) -> Result<Input, RawError> {
    Input::from_strings(&[string(bytes, 0)?.to_owned()], shape).map_err(refused)
}

fn refused(error: ort::Error) -> RawError {
    RawError::Tensor(error.message().to_owned())
}

/// A type whose elements have a size.
trait Element: Sized {
    /// `bytes` has the size of `shape`.
    fn input(bytes: Bytes, shape: Vec<usize>) -> Result<Input, RawError>;
}

macro_rules! plain {
    ($($type:ty),+) => {
        $(impl Element for $type {
            fn input(bytes: Bytes, shape: Vec<usize>) -> Result<Input, RawError> {
                plain::<Self>(bytes, shape)
            }
        })+
    };
}

plain!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

fn plain<T: Pod + PrimitiveTensorElementType + std::fmt::Debug>(
    bytes: Bytes,
    shape: Vec<usize>,
) -> Result<Input, RawError> {
    Input::from_bytes::<T>(bytes, shape).map_err(refused)
}

impl Element for bool {
    fn input(bytes: Bytes, shape: Vec<usize>) -> Result<Input, RawError> {
        if let Some(index) = bytes.iter().position(|&byte| byte > 1) {
            return Err(RawError::Bool { index, value: bytes[index] });
        }
        Input::from_values(bytes.iter().map(|&byte| byte == 1).collect(), shape).map_err(refused)
    }
}

fn strings(bytes: &[u8], expected: usize, shape: &[usize]) -> Result<Vec<String>, RawError> {
    // A shape can promise anything; the bytes bound what may come.
    let mut strings = Vec::with_capacity(expected.min(bytes.len() / LENGTH_BYTES));
    let mut rest = bytes;
    for index in 0..expected {
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(RawError::Cut {
            index,
            found: rest.len(),
            expected: LENGTH_BYTES,
        })?;
        let length = usize::try_from(u32::from_le_bytes(*length)).expect("a usize has 32 bits or more");
        let cut = RawError::Cut { index, found: after.len(), expected: length };
        let (element, after) = after.split_at_checked(length).ok_or(cut)?;
        strings.push(string(element, index)?.to_owned());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(RawError::TooMany { left: rest.len(), expected, shape: shape.to_vec() });
    }
    Ok(strings)
}

pub(super) fn string(bytes: &[u8], index: usize) -> Result<&str, RawError> {
    if bytes.contains(&0) {
        return Err(RawError::Nul { index });
    }
    std::str::from_utf8(bytes).map_err(|_| RawError::Encoding { index })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_after_their_lengths() {
        let bytes = b"\x02\0\0\0ab\0\0\0\0\x02\0\0\0\xc3\xa9";
        assert_eq!(strings(bytes, 3, &[3]), Ok(vec!["ab".to_owned(), String::new(), "é".to_owned()]));
        assert_eq!(strings(b"", 0, &[0]), Ok(vec![]));
        let cut = |index, found, expected| Err(RawError::Cut { index, found, expected });
        assert_eq!(strings(b"\x02\0\0", 1, &[1]), cut(0, 3, 4));
        assert_eq!(strings(b"", 1, &[1]), cut(0, 0, 4));
        assert_eq!(strings(b"\0\0\0\0\x03\0\0\0ab", 2, &[2]), cut(1, 2, 3));
        assert_eq!(strings(b"\xff\xff\xff\xffab", 1, &[1]), cut(0, 2, u32::MAX as usize));
        assert_eq!(strings(b"\x01\0\0\0a", usize::MAX, &[usize::MAX]), cut(1, 0, 4));
        assert_eq!(strings(b"\x01\0\0\0a\0", 1, &[1]), Err(RawError::TooMany { left: 1, expected: 1, shape: vec![1] }));
        assert_eq!(strings(b"\x01\0\0\0\0", 1, &[1]), Err(RawError::Nul { index: 0 }));
        assert_eq!(strings(b"\x01\0\0\0\xff", 1, &[1]), Err(RawError::Encoding { index: 0 }));
    }
}
