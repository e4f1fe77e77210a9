//! One element of a tensor in JSON form, read as its datatype says.

use serde_json::Value;

use crate::inference::Datatype;

/// An element that can be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Bytes(&'a str),
}

impl<'a> Element<'a> {
    /// `None` for a value that is not of this datatype, or out of its range.
    pub(super) fn read(value: &'a Value, datatype: Datatype) -> Option<Self> {
        match datatype {
            Datatype::Bool => bool_of(value).map(Self::Bool),
            Datatype::Bytes => value.as_str().map(Self::Bytes),
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bf16 => float_of(value).map(Self::Float),
            Datatype::Uint8 => integer_in(value, 0, u8::MAX.into()),
            Datatype::Uint16 => integer_in(value, 0, u16::MAX.into()),
            Datatype::Uint32 => integer_in(value, 0, u32::MAX.into()),
            Datatype::Uint64 => integer_in(value, 0, u64::MAX.into()),
            Datatype::Int8 => integer_in(value, i8::MIN.into(), i8::MAX.into()),
            Datatype::Int16 => integer_in(value, i16::MIN.into(), i16::MAX.into()),
            Datatype::Int32 => integer_in(value, i32::MIN.into(), i32::MAX.into()),
            Datatype::Int64 => integer_in(value, i64::MIN.into(), i64::MAX.into()),
        }
    }

    /// Whether `self`, an answer, is as close to `expected` as is allowed. Two NaN are equal here: a case may expect one.
    pub(super) fn is_close(self, expected: Self, (rtol, atol): (f64, f64)) -> bool {
        match (self, expected) {
            (Self::Float(actual), Self::Float(expected)) => {
                actual == expected
                    || actual.is_nan() && expected.is_nan()
                    || expected.is_finite() && (actual - expected).abs() <= atol + rtol * expected.abs()
            }
            _ => self == expected,
        }
    }
}

/// Some writers of JSON have no booleans in arrays of numbers.
fn bool_of(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    })
}

/// JSON has no number for what is not finite; the usual words and `null` stand for it.
fn float_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::String(word) => match word.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn integer_in<'a>(value: &Value, least: i128, most: i128) -> Option<Element<'a>> {
    // Up to 2^53 every integer has a float of its own, and some writers write `7.0`.
    let from_float = || {
        value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).map(|f| f as i128)
    };
    let integer = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from)).or_else(from_float)?;
    (least..=most).contains(&integer).then_some(Element::Integer(integer))
}

/// The elements of flat or nested data, row-major. Iterative: the depth is the sender's to choose.
pub(super) fn flatten(data: &[Value]) -> Vec<&Value> {
    let mut elements = Vec::with_capacity(data.len());
    let mut open = vec![data.iter()];
    while let Some(level) = open.last_mut() {
        match level.next() {
            Some(Value::Array(inner)) => open.push(inner.iter()),
            Some(element) => elements.push(element),
            None => drop(open.pop()),
        }
    }
    elements
}
