//! Raw outputs: elements one after the other, row-major, little-endian; each of BYTES after its length.

use tradewind_core::inference::Datatype;

use super::{Output, ResponseError};
use crate::tensor::with_element;

/// An output's elements as they are sent.
#[derive(Debug)]
pub(super) enum Raw<'a> {
    /// Where ONNX Runtime keeps them.
    Memory(&'a [u8]),
    Strings(Vec<String>),
}

impl<'a> Raw<'a> {
    pub(super) fn of(output: &Output<'a>) -> Result<Self, ResponseError> {
        let value = output.value;
        let raw = with_element!(output.datatype, T => {
            output.elements::<T>().map(|values| Self::Memory(bytemuck::cast_slice(values)))
        }, Bytes => value.try_extract_strings().map(|(_, strings)| Self::Strings(strings)));
        raw.map_err(|error| output.failed(&error))
    }

    pub(super) fn size(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Strings(strings) => strings.iter().map(|string| size_of::<u32>() + string.len()).sum(),
        }
    }

    pub(super) fn write(&self, body: &mut Vec<u8>) -> Result<(), ResponseError> {
        match self {
            Self::Memory(bytes) => body.extend_from_slice(bytes),
            Self::Strings(strings) => {
                for string in strings {
                    let length = u32::try_from(string.len()).map_err(|_| ResponseError::TooLarge(string.len()))?;
                    body.extend_from_slice(&length.to_le_bytes());
                    body.extend_from_slice(string.as_bytes());
                }
            }
        }
        Ok(())
    }
}
