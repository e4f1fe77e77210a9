//! An answer of REST: JSON, and after it the outputs that are wanted as binary data, in its order.

use std::io::Write;

use half::{bf16, f16};
use serde::Serialize;
use tradewind_core::inference::Datatype;

use super::{Answering, Asked, Output, ResponseError, check_size, elements, raw::Raw};
use crate::{engine::Outputs, request::Form};

#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// Bytes of the JSON, when something follows it.
    pub(crate) header_length: Option<usize>,
}

pub(crate) fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Encoded, ResponseError> {
    check_size(answering, asked, outputs)?;
    let mut body = Vec::with_capacity(256 + 12 * elements(asked, outputs, Form::Json));
    let mut tail: Vec<Raw<'_>> = Vec::new();
    body.extend_from_slice(b"{\"model_name\":");
    json(&mut body, answering.model);
    body.extend_from_slice(b",\"model_version\":");
    json(&mut body, answering.version);
    if let Some(id) = &asked.id {
        body.extend_from_slice(b",\"id\":");
        json(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (nth, &wanted) in asked.outputs.iter().enumerate() {
        if nth > 0 {
            body.push(b',');
        }
        tail.extend(output(&mut body, &Output::of(wanted, answering, outputs)?)?);
    }
    body.extend_from_slice(b"]}");
    let header_length = (!tail.is_empty()).then_some(body.len());
    body.reserve_exact(tail.iter().map(Raw::size).sum());
    tail.iter().try_for_each(|raw| raw.write(&mut body))?;
    Ok(Encoded { body, header_length })
}

/// What of the output has to follow the JSON.
fn output<'a>(body: &mut Vec<u8>, output: &Output<'a>) -> Result<Option<Raw<'a>>, ResponseError> {
    body.extend_from_slice(b"{\"name\":");
    json(body, &output.spec.name);
    // Writing to a vector cannot fail.
    let _ = write!(body, ",\"datatype\":\"{}\",\"shape\":", output.datatype);
    json(body, &*output.shape);
    if output.form == Form::Raw {
        let raw = Raw::of(output)?;
        let _ = write!(body, ",\"parameters\":{{\"binary_data_size\":{}}}}}", raw.size());
        return Ok(Some(raw));
    }
    body.extend_from_slice(b",\"data\":");
    let written = data(body, output).map_err(|error| output.failed(&error))?;
    body.push(b'}');
    if written { Ok(None) } else { Err(ResponseError::NotFinite { output: output.spec.name.clone() }) }
}

/// False when a value is not finite.
fn data(body: &mut Vec<u8>, output: &Output<'_>) -> Result<bool, ort::Error> {
    macro_rules! integers {
        ($type:ty) => {{
            json(body, output.elements::<$type>()?);
            Ok(true)
        }};
    }
    macro_rules! floats {
        ($type:ty, $widen:expr) => {{
            let values = output.elements::<$type>()?;
            let finite = values.iter().all(|value| value.is_finite());
            if finite {
                json(body, &$widen(values));
            }
            Ok(finite)
        }};
    }
    match output.datatype {
        Datatype::Bool => integers!(bool),
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp32 => floats!(f32, |values| values),
        Datatype::Fp64 => floats!(f64, |values| values),
        Datatype::Fp16 => floats!(f16, |values: &[f16]| values.iter().map(|v| v.to_f32()).collect::<Vec<_>>()),
        Datatype::Bf16 => floats!(bf16, |values: &[bf16]| values.iter().map(|v| v.to_f32()).collect::<Vec<_>>()),
        Datatype::Bytes => {
            json(body, &output.value.try_extract_strings()?.1);
            Ok(true)
        }
    }
}

fn json<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(body, value).expect("numbers, strings and lists of them always serialize");
}
