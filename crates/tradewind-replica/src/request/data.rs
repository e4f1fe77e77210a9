//! A tensor's `data`: JSON text, flat or nested as the shape, into a typed vector.
//!
//! The text has passed serde_json's syntax check, so a token ends where a comma, a bracket or white space begins.

use half::{bf16, f16};
use tradewind_core::inference::Datatype;

/// An error message shows at most this many characters of a value.
const SHOWN_CHARACTERS: usize = 40;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataError {
    #[error("`data` must be an array")]
    NotAnArray,
    #[error("element {index}: {token} is not a {datatype}{}", .fault.hint())]
    Element { index: usize, token: String, datatype: Datatype, fault: Fault },
    #[error("`data` has {found} elements, its shape {shape:?} has {expected}")]
    Count { found: usize, expected: usize, shape: Vec<usize> },
    #[error("`data` has more than the {expected} elements of its shape {shape:?}")]
    TooMany { expected: usize, shape: Vec<usize> },
    #[error("`data` must be flat, or nested as its shape {shape:?}")]
    Nesting { shape: Vec<usize> },
}

/// Why a value is not of its datatype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kind,
    Range,
    Fraction,
    /// ONNX Runtime's strings end at the first NUL.
    Nul,
}

impl Fault {
    fn hint(self) -> &'static str {
        match self {
            Self::Kind => "",
            Self::Range => ", it is out of range",
            Self::Fraction => ", it is written with a fraction or an exponent",
            Self::Nul => " that ONNX Runtime can hold, it has a NUL character",
        }
    }
}

/// A type that one JSON value can be read into.
pub(crate) trait Element: Sized {
    /// `token` is one JSON value that is neither array nor object.
    fn parse(token: &str) -> Result<Self, Fault>;
}

/// Reads `raw`, which must hold exactly as many elements as `shape`.
pub(crate) fn read<T: Element>(raw: &str, shape: &[usize], datatype: Datatype) -> Result<Vec<T>, DataError> {
    let expected: usize = shape.iter().product();
    // A shape can promise anything; the text bounds what may come: a value and a comma take two bytes.
    let mut values = Vec::with_capacity(expected.min(raw.len() / 2 + 1));
    let mut nesting = Nesting::of(shape);
    let mut at = 0;
    let bytes = raw.as_bytes();
    if bytes.first() != Some(&b'[') {
        return Err(DataError::NotAnArray);
    }
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'[' => {
                nesting.open()?;
                at += 1;
            }
            b']' => {
                nesting.close()?;
                at += 1;
            }
            _ => {
                nesting.value()?;
                if values.len() == expected {
                    return Err(DataError::TooMany { expected, shape: shape.to_vec() });
                }
                let end = at + token_length(&bytes[at..]);
                let token = &raw[at..end];
                let value = T::parse(token).map_err(|fault| {
                    let shown = token.chars().take(SHOWN_CHARACTERS).collect();
                    DataError::Element { index: values.len(), token: shown, datatype, fault }
                })?;
                values.push(value);
                at = end;
            }
        }
    }
    if values.len() != expected {
        return Err(DataError::Count { found: values.len(), expected, shape: shape.to_vec() });
    }
    Ok(values)
}

fn token_length(bytes: &[u8]) -> usize {
    if bytes.first() != Some(&b'"') {
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        return bytes.iter().position(ends).unwrap_or(bytes.len());
    }
    let mut escaped = false;
    let closing = bytes.iter().skip(1).position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(bytes.len(), |closing| closing + 2)
}

/// Follows the brackets: all values at depth one, or all at the depth of the shape with every list as long as its
/// dimension says.
struct Nesting<'a> {
    shape: &'a [usize],
    /// The children seen so far of each open list.
    open: Vec<usize>,
    nested: bool,
}

impl<'a> Nesting<'a> {
    fn of(shape: &'a [usize]) -> Self {
        Self { shape, open: Vec::with_capacity(shape.len().max(1)), nested: false }
    }

    fn open(&mut self) -> Result<(), DataError> {
        match self.open.as_mut_slice() {
            [] => {}
            // Values came before this list.
            [values] if *values > 0 && !self.nested => return Err(self.fault()),
            open if open.len() >= self.shape.len() => return Err(self.fault()),
            [.., children] => {
                *children += 1;
                self.nested = true;
            }
        }
        self.open.push(0);
        Ok(())
    }

    fn value(&mut self) -> Result<(), DataError> {
        if self.nested && self.open.len() != self.shape.len() {
            return Err(self.fault());
        }
        if let Some(children) = self.open.last_mut() {
            *children += 1;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DataError> {
        let children = self.open.pop().unwrap_or_default();
        if self.nested && self.shape.get(self.open.len()) != Some(&children) {
            return Err(self.fault());
        }
        Ok(())
    }

    fn fault(&self) -> DataError {
        DataError::Nesting { shape: self.shape.to_vec() }
    }
}

fn is_number(token: &str) -> bool {
    token.as_bytes().first().is_some_and(|&first| first == b'-' || first.is_ascii_digit())
}

macro_rules! integer {
    ($($type:ty),+) => {
        $(impl Element for $type {
            fn parse(token: &str) -> Result<Self, Fault> {
                token.parse().map_err(|_| match token {
                    _ if !is_number(token) => Fault::Kind,
                    _ if token.contains(['.', 'e', 'E']) => Fault::Fraction,
                    _ => Fault::Range,
                })
            }
        })+
    };
}

integer!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! float {
    ($($type:ty = $parse:expr),+) => {
        $(impl Element for $type {
            fn parse(token: &str) -> Result<Self, Fault> {
                if !is_number(token) {
                    return Err(Fault::Kind);
                }
                let value: Self = $parse(token).ok_or(Fault::Kind)?;
                if value.is_infinite() { Err(Fault::Range) } else { Ok(value) }
            }
        })+
    };
}

float!(
    f32 = |token: &str| token.parse().ok(),
    f64 = |token: &str| token.parse().ok(),
    f16 = |token: &str| token.parse().ok().map(f16::from_f64),
    bf16 = |token: &str| token.parse().ok().map(bf16::from_f64)
);

impl Element for bool {
    fn parse(token: &str) -> Result<Self, Fault> {
        token.parse().map_err(|_| Fault::Kind)
    }
}

impl Element for String {
    fn parse(token: &str) -> Result<Self, Fault> {
        let text: Self = serde_json::from_str(token).map_err(|_| Fault::Kind)?;
        if text.contains('\0') { Err(Fault::Nul) } else { Ok(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Element + PartialEq + std::fmt::Debug>(raw: &str, shape: &[usize], expected: Result<&[T], &str>) {
        let read = read::<T>(raw, shape, Datatype::Int64).map_err(|error| error.to_string());
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{raw} as {shape:?}");
    }

    #[test]
    fn data_is_flat_or_nested_as_its_shape() {
        check::<i64>("[1,2,3,4]", &[2, 2], Ok(&[1, 2, 3, 4]));
        check::<i64>(" [ [1, 2]\n,[3,4] ] ".trim(), &[2, 2], Ok(&[1, 2, 3, 4]));
        check::<i64>("[[[1],[2]]]", &[1, 2, 1], Ok(&[1, 2]));
        check::<i64>("[7]", &[], Ok(&[7]));
        check::<i64>("[]", &[0, 3], Ok(&[]));
        check::<i64>("[[],[]]", &[2, 0], Ok(&[]));
        let fault = "`data` must be flat, or nested as its shape [2, 2]";
        for raw in
            ["[[1,2],[3]]", "[[1,2,3,4]]", "[1,[2,3,4]]", "[[1,2],3,4]", "[[[1,2],[3,4]]]", "[[1,2],[3,4],[5,6]]"]
        {
            let refused = read::<i64>(raw, &[2, 2], Datatype::Int64).map_err(|error| error.to_string());
            assert!(refused.is_err(), "{raw} was accepted");
        }
        check::<i64>("[[1,2],[3]]", &[2, 2], Err(fault));
        check::<i64>("[[7]]", &[], Err("`data` must be flat, or nested as its shape []"));
        check::<i64>("3", &[1], Err("`data` must be an array"));
    }

    #[test]
    fn the_number_of_elements_must_be_that_of_the_shape() {
        check::<i64>("[1,2,3]", &[4], Err("`data` has 3 elements, its shape [4] has 4"));
        check::<i64>("[1,2,3]", &[2], Err("`data` has more than the 2 elements of its shape [2]"));
        check::<i64>("[1]", &[usize::MAX], Err(&format!("`data` has 1 elements, its shape [{0}] has {0}", usize::MAX)));
    }

    #[test]
    fn a_fault_names_the_element() {
        check::<u8>("[1,300]", &[2], Err("element 1: 300 is not a INT64, it is out of range"));
        check::<u8>("[-1]", &[1], Err("element 0: -1 is not a INT64, it is out of range"));
        check::<i64>("[1.0]", &[1], Err("element 0: 1.0 is not a INT64, it is written with a fraction or an exponent"));
        check::<i64>("[null]", &[1], Err("element 0: null is not a INT64"));
        check::<i64>("[{\"a\":1}]", &[1], Err("element 0: {\"a\":1} is not a INT64"));
        check::<bool>("[true,1]", &[2], Err("element 1: 1 is not a INT64"));
        assert_eq!(f32::parse("1e39"), Err(Fault::Range));
        assert_eq!(f16::parse("70000"), Err(Fault::Range));
        assert_eq!(f64::parse("\"1\""), Err(Fault::Kind));
    }

    #[test]
    fn strings_may_hold_anything_but_nul() {
        let expected = ["a,]\"".to_owned(), "\\".to_owned(), "é\u{1F600}".to_owned()];
        check::<String>(r#"["a,]\"", "\\", "\u00e9😀"]"#, &[3], Ok(&expected));
        assert_eq!(String::parse(r#""a\u0000b""#), Err(Fault::Nul));
        assert_eq!(String::parse("3"), Err(Fault::Kind));
    }

    #[test]
    fn floats_are_rounded_once() {
        for bits in (0..u32::MAX).step_by(104_729) {
            let value = f32::from_bits(bits);
            if value.is_finite() {
                assert_eq!(f32::parse(&value.to_string()).map(f32::to_bits), Ok(bits));
            }
        }
        // Lies so close to the middle of two FP32 values that a detour through FP64 picks the wrong one.
        assert_eq!(f32::parse("1.00000017881393432617187499"), Ok(1.000_000_1));
    }
}
