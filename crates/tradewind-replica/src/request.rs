//! An inference request, checked against the model's signature. Each protocol parses its own form of one; what they
//! have in common, names, datatypes, shapes and data, is checked here.

mod data;
mod error;
#[cfg(test)]
mod fuzz;
pub(crate) mod grpc;
pub(crate) mod json;
mod raw;
mod typed;

use std::{borrow::Cow, fmt::Debug};

use bytes::Bytes;
use ort::value::PrimitiveTensorElementType;
use serde_json::value::RawValue;
use tradewind_api::grpc::message::InferTensorContents;
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

pub(crate) use error::RequestError;

use crate::tensor::{Input, with_element};

/// Parameters by which an output is asked for as something else than a tensor in the answer.
const EXTENSIONS: [&str; 2] = ["classification", "shared_memory_region"];

/// A request that the model can run.
#[derive(Debug)]
pub(crate) struct Inference {
    pub(crate) id: Option<String>,
    /// Smaller is sooner.
    pub(crate) urgency: u32,
    /// In the order of the signature.
    pub(crate) inputs: Vec<Input>,
    /// In the order asked for.
    pub(crate) outputs: Vec<Wanted>,
}

/// What a request without a priority has: 1 is before it, 3 and more are behind it.
const USUAL_URGENCY: u32 = 2;

/// Which of the requests that wait are first: those of the smallest priority; 0 is the usual one.
fn urgency(priority: Option<u64>) -> u32 {
    match priority {
        None | Some(0) => USUAL_URGENCY,
        Some(priority) => u32::try_from(priority).unwrap_or(u32::MAX),
    }
}

/// An output that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Among the signature's outputs.
    pub(crate) position: usize,
    pub(crate) form: Form,
}

/// How an output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Raw,
}

/// One input as a request gives it.
struct Given<'a> {
    name: Cow<'a, str>,
    datatype: Cow<'a, str>,
    shape: Cow<'a, [i64]>,
    data: Data<'a>,
}

/// A tensor's elements, in the form that they came in.
enum Data<'a> {
    /// JSON text, which stays text until it is read straight into a typed vector: numbers are rounded once, and no tree
    /// of values is ever built.
    Json(&'a RawValue),
    /// Little-endian memory, part of the body.
    Raw(Bytes),
    /// The one element of a BYTES tensor.
    LoneString(Bytes),
    Typed(InferTensorContents),
}

/// Puts inputs into the order of the signature and makes tensors of them.
fn arrange(inputs: Vec<Given<'_>>, signature: &Signature) -> Result<Vec<Input>, RequestError> {
    let mut given: Vec<Option<Given<'_>>> = signature.inputs.iter().map(|_| None).collect();
    for input in inputs {
        let position = signature.inputs.iter().position(|spec| spec.name == input.name);
        let slot = position.and_then(|position| given.get_mut(position));
        let slot = slot.ok_or_else(|| RequestError::UnknownInput(shorten(&input.name)))?;
        if slot.is_some() {
            return Err(RequestError::DuplicateInput(input.name.into_owned()));
        }
        *slot = Some(input);
    }
    let pairs = given.into_iter().zip(&signature.inputs);
    let inputs = pairs.map(|(input, spec)| {
        let input = input.ok_or_else(|| RequestError::MissingInput(spec.name.clone()))?;
        tensor(input, spec)
    });
    inputs.collect()
}

/// Finds outputs by name. None named means all of them, in the form `otherwise`.
fn select<'a>(
    named: impl Iterator<Item = (&'a str, Form)>,
    otherwise: Form,
    signature: &Signature,
) -> Result<Vec<Wanted>, RequestError> {
    let mut selected: Vec<Wanted> = Vec::new();
    for (name, form) in named {
        let position = signature.outputs.iter().position(|spec| spec.name == name);
        let position = position.ok_or_else(|| RequestError::UnknownOutput(shorten(name)))?;
        if selected.iter().any(|wanted| wanted.position == position) {
            return Err(RequestError::DuplicateOutput(name.to_owned()));
        }
        selected.push(Wanted { position, form });
    }
    if selected.is_empty() {
        selected.extend((0..signature.outputs.len()).map(|position| Wanted { position, form: otherwise }));
    }
    Ok(selected)
}

fn tensor(input: Given<'_>, spec: &TensorSpec) -> Result<Input, RequestError> {
    if input.datatype != spec.datatype.as_str() {
        let (input, given) = (spec.name.clone(), shorten(&input.datatype));
        return Err(RequestError::Datatype { input, given, expected: spec.datatype });
    }
    let shape = check_shape(&input.shape, spec)?;
    let in_raw = |source| RequestError::Raw { input: spec.name.clone(), source };
    match input.data {
        Data::Json(text) => {
            with_element!(spec.datatype, T => numbers::<T>(text, shape, spec), Bytes => strings(text, shape, spec))
        }
        Data::Raw(bytes) => raw::tensor(bytes, shape, spec.datatype).map_err(in_raw),
        Data::LoneString(bytes) => raw::lone_string(&bytes, shape).map_err(in_raw),
        Data::Typed(contents) => typed::tensor(contents, shape, spec.datatype)
            .map_err(|source| RequestError::Typed { input: spec.name.clone(), source }),
    }
}

fn numbers<T>(text: &RawValue, shape: Vec<usize>, spec: &TensorSpec) -> Result<Input, RequestError>
where
    T: data::Element + PrimitiveTensorElementType + Clone + Debug + 'static,
{
    let values = read::<T>(text, &shape, spec)?;
    Input::from_values(values, shape).map_err(|error| refused(spec, &error))
}

fn strings(text: &RawValue, shape: Vec<usize>, spec: &TensorSpec) -> Result<Input, RequestError> {
    let values = read::<String>(text, &shape, spec)?;
    Input::from_strings(&values, shape).map_err(|error| refused(spec, &error))
}

fn read<T: data::Element>(text: &RawValue, shape: &[usize], spec: &TensorSpec) -> Result<Vec<T>, RequestError> {
    let named = |source| RequestError::Data { input: spec.name.clone(), source };
    data::read(text.get(), shape, spec.datatype).map_err(named)
}

fn refused(spec: &TensorSpec, error: &ort::Error) -> RequestError {
    RequestError::Tensor { input: spec.name.clone(), message: error.message().to_owned() }
}

/// The shape as sizes, once it fits the signature and its number of elements can be counted at all.
fn check_shape(given: &[i64], spec: &TensorSpec) -> Result<Vec<usize>, RequestError> {
    let fits = given.len() == spec.shape.len()
        && given.iter().zip(&spec.shape).all(|(&given, &dim)| given >= 0 && (dim < 0 || given == dim));
    if !fits {
        let given = given.iter().copied().take(SHOWN_DIMS).collect();
        let expected = dimensions(&spec.shape);
        return Err(RequestError::Shape { input: spec.name.clone(), given, expected });
    }
    let too_many = || RequestError::TooManyElements { input: spec.name.clone(), given: given.to_vec() };
    let sizes: Vec<usize> = given.iter().filter_map(|&dim| usize::try_from(dim).ok()).collect();
    // A zero must not hide an overflow of the others: strides are computed from them too.
    let bytes = sizes.iter().try_fold(ELEMENT_BYTES_LIMIT, |product, &dim| product.checked_mul(dim.max(1)));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(too_many());
    }
    Ok(sizes)
}

/// `N,64`
fn dimensions(shape: &[i64]) -> String {
    let dims: Vec<_> = shape.iter().map(|&dim| if dim < 0 { "N".to_owned() } else { dim.to_string() }).collect();
    dims.join(",")
}

/// No element is larger than this; `checked_mul` begins with it so that sizes in bytes are safe too.
const ELEMENT_BYTES_LIMIT: usize = 8;
/// An error message shows at most this many dimensions and characters of what was sent.
const SHOWN_DIMS: usize = 8;
const SHOWN_CHARACTERS: usize = 60;

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}
