//! The answer to an inference, written as JSON straight from ONNX Runtime's memory.

use std::io::Write;

use half::{bf16, f16};
use ort::value::{DynValue, ValueType};
use serde::Serialize;
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

use crate::{engine::Outputs, request::Inference, signature::datatype};

/// Which model answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answering<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    pub(crate) signature: &'a Signature,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ResponseError {
    /// The model's doing, not the request's: a server error, so that monitors see a model that began to answer NaN.
    #[error("output `{output}` holds a value that JSON cannot carry (NaN or infinity)")]
    NotFinite { output: String },
    #[error("output `{output}` could not be written: {message}")]
    Output { output: String, message: String },
}

/// What remains of a request while the model runs.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: Option<String>,
    pub(crate) outputs: Vec<usize>,
}

impl Inference {
    /// Splits what the model needs from what the answer needs.
    pub(crate) fn split(self) -> (Vec<DynValue>, Asked) {
        (self.inputs, Asked { id: self.id, outputs: self.outputs })
    }
}

/// Elements in the outputs asked for: how much there is to write.
pub(crate) fn elements(asked: &Asked, outputs: &Outputs) -> usize {
    let values = asked.outputs.iter().filter_map(|&position| outputs.values.get(position));
    values.filter_map(|value| value.dtype().tensor_shape()).map(|shape| shape.num_elements()).sum()
}

pub(crate) fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
    let mut body = Vec::with_capacity(256 + 12 * elements(asked, outputs));
    body.extend_from_slice(b"{\"model_name\":");
    json(&mut body, answering.model);
    body.extend_from_slice(b",\"model_version\":");
    json(&mut body, answering.version);
    if let Some(id) = &asked.id {
        body.extend_from_slice(b",\"id\":");
        json(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (nth, &position) in asked.outputs.iter().enumerate() {
        if nth > 0 {
            body.push(b',');
        }
        let spec = &answering.signature.outputs[position];
        output(&mut body, spec, &outputs.values[position])?;
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

fn output(body: &mut Vec<u8>, spec: &TensorSpec, value: &DynValue) -> Result<(), ResponseError> {
    let failed = |message: String| ResponseError::Output { output: spec.name.clone(), message };
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(failed("it is no tensor".to_owned()));
    };
    let datatype = datatype(*ty).ok_or_else(|| failed(format!("the protocol has no {ty}")))?;
    body.extend_from_slice(b"{\"name\":");
    json(body, &spec.name);
    // Writing to a vector cannot fail.
    let _ = write!(body, ",\"datatype\":\"{datatype}\",\"shape\":");
    json(body, &shape[..]);
    body.extend_from_slice(b",\"data\":");
    let written = data(body, datatype, value).map_err(|error| failed(error.message().to_owned()))?;
    body.push(b'}');
    if written { Ok(()) } else { Err(ResponseError::NotFinite { output: spec.name.clone() }) }
}

/// False when a value is not finite.
fn data(body: &mut Vec<u8>, datatype: Datatype, value: &DynValue) -> Result<bool, ort::Error> {
    macro_rules! integers {
        ($type:ty) => {{
            json(body, value.try_extract_tensor::<$type>()?.1);
            Ok(true)
        }};
    }
    macro_rules! floats {
        ($type:ty, $widen:expr) => {{
            let values = value.try_extract_tensor::<$type>()?.1;
            let finite = values.iter().all(|value| value.is_finite());
            if finite {
                json(body, &$widen(values));
            }
            Ok(finite)
        }};
    }
    match datatype {
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
            json(body, &value.try_extract_strings()?.1);
            Ok(true)
        }
    }
}

fn json<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(body, value).expect("numbers, strings and lists of them always serialize");
}
