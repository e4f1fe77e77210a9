//! The answer to an inference, written straight from ONNX Runtime's memory in the form of each protocol.

pub(crate) mod grpc;
pub(crate) mod json;
mod raw;

use std::borrow::Cow;

use ort::value::{DynValue, PrimitiveTensorElementType, ValueType};
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

use crate::{
    engine::{Outputs, Share},
    request::{Form, Inference, Wanted},
    signature::datatype,
    tensor::Input,
};

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
    #[error("output `{output}` holds a value that JSON cannot carry (NaN or infinity); ask for it as binary data")]
    NotFinite { output: String },
    #[error("output `{output}` could not be written: {message}")]
    Output { output: String, message: String },
    #[error("the outputs have {0} bytes, an answer has at most {ANSWER_BYTES_LIMIT}")]
    TooLarge(usize),
    #[error("the outputs have {0} elements, an answer in JSON has at most {ANSWER_NUMBERS_LIMIT}; ask for binary data")]
    TooMany(usize),
}

/// Raw outputs of an answer. A request that makes the model answer with more must not take the replica's memory.
const ANSWER_BYTES_LIMIT: usize = 256 << 20;
/// Elements of an answer in JSON, each of some ten bytes.
const ANSWER_NUMBERS_LIMIT: usize = 16 << 20;

/// Refuses to write what is too large, before anything of it is written. How long strings are shows as they are read.
fn check_size(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<(), ResponseError> {
    let numbers = elements(asked, outputs, Form::Json);
    if numbers > ANSWER_NUMBERS_LIMIT {
        return Err(ResponseError::TooMany(numbers));
    }
    let raw = asked.outputs.iter().filter(|wanted| wanted.form == Form::Raw).map(|wanted| {
        let size = answering.signature.outputs[wanted.position].datatype.size().unwrap_or(size_of::<u32>());
        elements_of(outputs, *wanted).saturating_mul(size)
    });
    match raw.fold(0, usize::saturating_add) {
        bytes if bytes > ANSWER_BYTES_LIMIT => Err(ResponseError::TooLarge(bytes)),
        _ => Ok(()),
    }
}

/// What remains of a request while the model runs.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) id: Option<String>,
    pub(crate) outputs: Vec<Wanted>,
}

impl Inference {
    /// Splits what the model needs from what the answer needs.
    pub(crate) fn split(self) -> (Vec<Input>, Asked) {
        (self.inputs, Asked { id: self.id, outputs: self.outputs })
    }
}

/// One output that is asked for, as the model made it.
#[derive(Debug)]
struct Output<'a> {
    spec: &'a TensorSpec,
    datatype: Datatype,
    /// As it is, where the signature may leave it open.
    shape: Cow<'a, [i64]>,
    value: &'a DynValue,
    /// Which of its rows; `None`: all.
    share: Option<Share>,
    form: Form,
}

impl<'a> Output<'a> {
    fn of(wanted: Wanted, answering: Answering<'a>, outputs: &'a Outputs) -> Result<Self, ResponseError> {
        let (spec, value) = (&answering.signature.outputs[wanted.position], &outputs.values[wanted.position]);
        let failed = |message: String| ResponseError::Output { output: spec.name.clone(), message };
        let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
            return Err(failed("it is no tensor".to_owned()));
        };
        let datatype = datatype(*ty).ok_or_else(|| failed(format!("the protocol has no {ty}")))?;
        let share = outputs.share;
        let shape = share.map_or(Cow::Borrowed(&**shape), |share| share.of_shape(shape));
        Ok(Self { spec, datatype, shape, value, share, form: wanted.form })
    }

    fn elements<T: PrimitiveTensorElementType>(&self) -> Result<&'a [T], ort::Error> {
        let elements = self.value.try_extract_tensor::<T>()?.1;
        Ok(self.share.map_or(elements, |share| share.of_elements(elements)))
    }

    fn failed(&self, error: &ort::Error) -> ResponseError {
        ResponseError::Output { output: self.spec.name.clone(), message: error.message().to_owned() }
    }
}

/// Elements in the outputs asked for.
fn elements(asked: &Asked, outputs: &Outputs, form: Form) -> usize {
    asked.outputs.iter().filter(|wanted| wanted.form == form).map(|wanted| elements_of(outputs, *wanted)).sum()
}

/// Elements of one output that are the request's.
fn elements_of(outputs: &Outputs, wanted: Wanted) -> usize {
    let shape = outputs.values.get(wanted.position).and_then(|value| value.dtype().tensor_shape());
    let all = shape.map_or(0, |shape| shape.num_elements());
    outputs.share.map_or(all, |share| share.part_of(all))
}

/// How long it takes to write the outputs asked for, in units of one number in JSON: a raw one is copied, unless it is
/// compressed.
pub(crate) fn cost(asked: &Asked, outputs: &Outputs, compressed: bool) -> usize {
    let raw = elements(asked, outputs, Form::Raw);
    elements(asked, outputs, Form::Json) + if compressed { raw } else { raw / 64 }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use ort::value::Tensor;

    use super::*;

    #[test]
    fn a_requests_share_of_a_batch_is_what_counts_for_its_answer() {
        if let Err(error) = crate::runtime::environment() {
            panic!("{error}");
        }
        let row = 160 << 20;
        let spec = TensorSpec { name: "y".to_owned(), datatype: Datatype::Uint8, shape: vec![-1, row] };
        let signature = Signature { inputs: Vec::new(), outputs: vec![spec] };
        let answering = Answering { model: "m", version: "1", signature: &signature };
        // Nobody reads it, so it takes no memory.
        let value = Tensor::from_array((vec![2, row], vec![0_u8; 2 * row as usize])).unwrap().into_dyn();
        let values = Arc::new(vec![value]);
        let check = |share, form| {
            let asked = Asked { id: None, outputs: vec![Wanted { position: 0, form }] };
            let (values, time) = (Arc::clone(&values), Duration::ZERO);
            check_size(answering, &asked, &Outputs { values, share, took: time, queued: time, batch: None })
        };
        let half = Some(Share { first: 1, rows: 1, of: 2 });
        assert!(check(half, Form::Raw).is_ok());
        assert!(matches!(check(None, Form::Raw), Err(ResponseError::TooLarge(_))));
        assert!(matches!(check(half, Form::Json), Err(ResponseError::TooMany(_))));
    }
}
