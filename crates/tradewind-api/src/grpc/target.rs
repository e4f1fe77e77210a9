//! Which model a request is for, read from the beginning of its message, before the tensors have come.

/// A message may make its reader wait this long for the model's name.
pub const TARGET_BYTES_LIMIT: usize = 16 << 10;

/// Model and version as the first two fields of `ModelInferRequest`, `ModelReadyRequest` and `ModelMetadataRequest` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Target<'a> {
    pub model: &'a str,
    /// Empty when any will do.
    pub version: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the message is not a protocol buffer")]
    Malformed,
    #[error("the model's name does not come within the first {TARGET_BYTES_LIMIT} bytes of the message")]
    TooLate,
}

/// `received` is what has come of a message of `length` bytes; `None` asks for more of it.
///
/// Every known encoder writes fields in the order of their numbers, so a name that is followed by a field beyond the
/// version stands.
pub fn target(received: &[u8], length: usize) -> Result<Option<Target<'_>>, TargetError> {
    let whole = received.len() >= length;
    let mut fields = Fields { rest: received };
    let mut target = Target::default();
    loop {
        match fields.key() {
            Ok(Some(key)) if key.number > VERSION && !target.model.is_empty() => return Ok(Some(target)),
            Ok(Some(key)) => match fields.value(key) {
                Ok(value) if key.number == MODEL => target.model = text(value)?,
                Ok(value) if key.number == VERSION => target.version = text(value)?,
                Ok(_) => {}
                Err(fault) => return fault.unless(whole, received.len()),
            },
            Ok(None) if whole => return Ok(Some(target)),
            Ok(None) => return Fault::Cut.unless(whole, received.len()),
            Err(fault) => return fault.unless(whole, received.len()),
        }
    }
}

/// How often each field of `numbers` occurs at the top level of a whole message. Cheap to ask before a message is
/// decoded: two bytes of it can become hundreds in memory.
pub fn count_fields<const N: usize>(message: &[u8], numbers: [u32; N]) -> Result<[usize; N], TargetError> {
    let mut fields = Fields { rest: message };
    let mut counts = [0; N];
    while let Some(key) = fields.key().map_err(|_| TargetError::Malformed)? {
        fields.value(key).map_err(|_| TargetError::Malformed)?;
        if let Some(position) = numbers.iter().position(|&number| number == key.number) {
            counts[position] += 1;
        }
    }
    Ok(counts)
}

/// The first of `keys` that the map in field `map` has, of any of the messages in field `outer` of a whole message.
/// Nothing is decoded for it either.
pub fn nested_key<'k>(message: &[u8], outer: u32, map: u32, keys: &[&'k str]) -> Result<Option<&'k str>, TargetError> {
    let mut outers = Fields { rest: message };
    while let Some(inner) = outers.next_in(outer)? {
        let mut entries = Fields { rest: inner };
        while let Some(entry) = entries.next_in(map)? {
            let key = Fields { rest: entry }.next_in(MAP_KEY)?.unwrap_or_default();
            if let Some(found) = keys.iter().find(|wanted| wanted.as_bytes() == key) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The key in an entry of a map.
const MAP_KEY: u32 = 1;
const MODEL: u32 = 1;
const VERSION: u32 = 2;

fn text(value: &[u8]) -> Result<&str, TargetError> {
    std::str::from_utf8(value).map_err(|_| TargetError::Malformed)
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The bytes end within a field.
    Cut,
    Malformed,
}

impl Fault {
    /// A message that is cut off goes on, unless it is whole already or it has gone on for too long.
    fn unless<T>(self, whole: bool, received: usize) -> Result<Option<T>, TargetError> {
        match self {
            Self::Cut if !whole && received < TARGET_BYTES_LIMIT => Ok(None),
            Self::Cut if !whole => Err(TargetError::TooLate),
            Self::Cut | Self::Malformed => Err(TargetError::Malformed),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Key {
    number: u32,
    wire: Wire,
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint,
    Fixed(usize),
    Delimited,
}

/// The fields of a message, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The value of the next field of that number; `None` where there is no further one.
    fn next_in(&mut self, number: u32) -> Result<Option<&'a [u8]>, TargetError> {
        while let Some(key) = self.key().map_err(|_| TargetError::Malformed)? {
            let value = self.value(key).map_err(|_| TargetError::Malformed)?;
            if key.number == number {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// `None` at the end of the bytes.
    fn key(&mut self) -> Result<Option<Key>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed(8),
            2 => Wire::Delimited,
            5 => Wire::Fixed(4),
            _ => return Err(Fault::Malformed),
        };
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or(Fault::Malformed)?;
        Ok(Some(Key { number, wire }))
    }

    /// The bytes of a delimited field, nothing of the others.
    fn value(&mut self, key: Key) -> Result<&'a [u8], Fault> {
        let length = match key.wire {
            Wire::Varint => {
                self.varint()?;
                return Ok(&[]);
            }
            Wire::Fixed(length) => length,
            Wire::Delimited => usize::try_from(self.varint()?).map_err(|_| Fault::Malformed)?,
        };
        let (value, rest) = self.rest.split_at_checked(length).ok_or(Fault::Cut)?;
        self.rest = rest;
        Ok(if matches!(key.wire, Wire::Delimited) { value } else { &[] })
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        const BYTES_LIMIT: usize = 10;
        let mut value = 0_u64;
        for nth in 0..BYTES_LIMIT {
            let (&byte, rest) = self.rest.split_first().ok_or(Fault::Cut)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f).unbounded_shl(7 * nth as u32);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::grpc::message::{InferInputTensor, ModelInferRequest, ModelReadyRequest};

    fn request(model: &str, version: &str) -> ModelInferRequest {
        ModelInferRequest {
            model_name: model.to_owned(),
            model_version: version.to_owned(),
            inputs: vec![InferInputTensor { name: "x".to_owned(), ..Default::default() }; 2],
            raw_input_contents: vec![Bytes::from(vec![7; 40_000]); 2],
            ..Default::default()
        }
    }

    #[test]
    fn the_beginning_of_a_message_says_its_model() {
        for (model, version) in [("digits", "3"), ("digits", "")] {
            let bytes = request(model, version).encode_to_vec();
            let expected = Target { model, version };
            let enough = (0..bytes.len()).find(|&received| target(&bytes[..received], bytes.len()) != Ok(None));
            let enough = enough.expect("it is found before the end");
            assert!(enough <= 2 + model.len() + 2 + version.len() + 1, "{enough}");
            for received in enough..=bytes.len() {
                assert_eq!(target(&bytes[..received], bytes.len()), Ok(Some(expected)));
            }
        }
    }

    #[test]
    fn a_message_without_more_than_the_model_is_read_to_its_end() {
        let bytes = ModelReadyRequest { name: "digits".to_owned(), version: String::new() }.encode_to_vec();
        let expected = Target { model: "digits", version: "" };
        assert_eq!(target(&bytes, bytes.len()), Ok(Some(expected)));
        assert_eq!(target(&bytes[..bytes.len() - 1], bytes.len()), Ok(None));
        assert_eq!(target(&[], 0), Ok(Some(Target::default())));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let late = request("", "").encode_to_vec();
        assert_eq!(target(&late[..TARGET_BYTES_LIMIT], late.len()), Err(TargetError::TooLate));
        for garbage in [&[0x0a, 5, b'a'][..], &[0x0b], &[0x00, 0], &[0xff; 11], &[0x0a, 1, 0xff], &[0x0a]] {
            assert_eq!(target(garbage, garbage.len()), Err(TargetError::Malformed), "{garbage:?}");
        }
    }

    #[test]
    fn keys_of_maps_are_found_without_decoding() {
        let entry =
            |key: &str| [&[0x12, key.len() as u8 + 4, 0x0a, key.len() as u8][..], key.as_bytes(), &[0x12, 0]].concat();
        let output = [entry("binary_data"), entry("classification")].concat();
        let mut message = request("digits", "1").encode_to_vec();
        message.extend([0x32, output.len() as u8]);
        message.extend(&output);
        assert_eq!(nested_key(&message, 6, 2, &["shared", "classification"]), Ok(Some("classification")));
        assert_eq!(nested_key(&message, 6, 2, &["class"]), Ok(None));
        assert_eq!(nested_key(&message, 5, 2, &["classification"]), Ok(None));
        assert_eq!(nested_key(&message[..message.len() - 1], 6, 2, &["x"]), Err(TargetError::Malformed));
    }

    #[test]
    fn fields_are_counted_without_decoding() {
        let bytes = request("digits", "1").encode_to_vec();
        assert_eq!(count_fields(&bytes, [5, 6, 7]), Ok([2, 0, 2]));
        assert_eq!(count_fields(&bytes[..bytes.len() - 1], [5]), Err(TargetError::Malformed));
    }
}
