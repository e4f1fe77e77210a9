//! A V2 inference request in JSON: parsed in one pass, checked against the model's signature.
//!
//! serde_json checks the syntax and finds the pieces; tensor data stays text until `data` reads it straight into a
//! typed vector, so numbers are rounded once and no tree of values is ever built.

mod data;

use std::borrow::Cow;

use ort::value::{DynValue, Tensor};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

/// A request that the model can run.
#[derive(Debug)]
pub(crate) struct Inference {
    pub(crate) id: Option<String>,
    /// In the order of the signature.
    pub(crate) inputs: Vec<DynValue>,
    /// Indices into the signature's outputs, in the order asked for.
    pub(crate) outputs: Vec<usize>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("the request has no body")]
    Empty,
    #[error("the request is not UTF-8: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    #[error("the request is not a valid inference request: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the model has no input `{0}`")]
    UnknownInput(String),
    #[error("input `{0}` is given twice")]
    DuplicateInput(String),
    #[error("input `{0}` is missing")]
    MissingInput(String),
    #[error("the model has no output `{0}`")]
    UnknownOutput(String),
    #[error("output `{0}` is asked for twice")]
    DuplicateOutput(String),
    #[error("binary tensors are not supported yet, send `data` in JSON")]
    Binary,
    #[error("input `{0}` has no `data`")]
    NoData(String),
    #[error("input `{input}` has datatype {given}, the model takes {expected}")]
    Datatype { input: String, given: String, expected: Datatype },
    #[error("input `{input}` has shape {given:?}, the model takes [{expected}]")]
    Shape { input: String, given: Vec<i64>, expected: String },
    #[error("input `{input}` has a shape of too many elements: {given:?}")]
    TooManyElements { input: String, given: Vec<i64> },
    #[error("input `{input}`: {source}")]
    Data { input: String, source: data::DataError },
    #[error("input `{input}`: {message}")]
    Tensor { input: String, message: String },
}

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Vec<i64>,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct InputParameters {
    binary_data_size: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Parses `body` and checks it against `signature`.
pub(crate) fn parse(body: &[u8], signature: &Signature) -> Result<Inference, RequestError> {
    if body.is_empty() {
        return Err(RequestError::Empty);
    }
    let request: Request<'_> = serde_json::from_str(std::str::from_utf8(body)?)?;
    let outputs = select_outputs(request.outputs.as_deref().unwrap_or_default(), signature)?;
    let mut given: Vec<Option<Input<'_>>> = signature.inputs.iter().map(|_| None).collect();
    for input in request.inputs {
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
        tensor(&input, spec)
    });
    Ok(Inference { id: request.id, inputs: inputs.collect::<Result<_, _>>()?, outputs })
}

/// None named means all of them.
fn select_outputs(asked: &[Output<'_>], signature: &Signature) -> Result<Vec<usize>, RequestError> {
    if asked.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let mut selected = Vec::new();
    for output in asked {
        let position = signature.outputs.iter().position(|spec| spec.name == output.name);
        let position = position.ok_or_else(|| RequestError::UnknownOutput(shorten(&output.name)))?;
        if selected.contains(&position) {
            return Err(RequestError::DuplicateOutput(output.name.clone().into_owned()));
        }
        selected.push(position);
    }
    Ok(selected)
}

fn tensor(input: &Input<'_>, spec: &TensorSpec) -> Result<DynValue, RequestError> {
    if input.datatype != spec.datatype.as_str() {
        let (input, given) = (spec.name.clone(), shorten(&input.datatype));
        return Err(RequestError::Datatype { input, given, expected: spec.datatype });
    }
    let shape = check_shape(&input.shape, spec)?;
    let Some(raw) = input.data else {
        let binary = input.parameters.as_ref().is_some_and(|parameters| parameters.binary_data_size.is_some());
        return Err(if binary { RequestError::Binary } else { RequestError::NoData(spec.name.clone()) });
    };
    match spec.datatype {
        Datatype::Bool => primitive::<bool>(raw, shape, spec),
        Datatype::Uint8 => primitive::<u8>(raw, shape, spec),
        Datatype::Uint16 => primitive::<u16>(raw, shape, spec),
        Datatype::Uint32 => primitive::<u32>(raw, shape, spec),
        Datatype::Uint64 => primitive::<u64>(raw, shape, spec),
        Datatype::Int8 => primitive::<i8>(raw, shape, spec),
        Datatype::Int16 => primitive::<i16>(raw, shape, spec),
        Datatype::Int32 => primitive::<i32>(raw, shape, spec),
        Datatype::Int64 => primitive::<i64>(raw, shape, spec),
        Datatype::Fp16 => primitive::<half::f16>(raw, shape, spec),
        Datatype::Bf16 => primitive::<half::bf16>(raw, shape, spec),
        Datatype::Fp32 => primitive::<f32>(raw, shape, spec),
        Datatype::Fp64 => primitive::<f64>(raw, shape, spec),
        Datatype::Bytes => strings(raw, shape, spec),
    }
}

fn primitive<T>(raw: &RawValue, shape: Vec<usize>, spec: &TensorSpec) -> Result<DynValue, RequestError>
where
    T: data::Element + ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    let values = read::<T>(raw, &shape, spec)?;
    Ok(Tensor::from_array((shape, values)).map_err(|error| refused(spec, &error))?.into_dyn())
}

fn strings(raw: &RawValue, shape: Vec<usize>, spec: &TensorSpec) -> Result<DynValue, RequestError> {
    let values = read::<String>(raw, &shape, spec)?;
    Ok(Tensor::from_string_array((shape, values.as_slice())).map_err(|error| refused(spec, &error))?.into_dyn())
}

fn read<T: data::Element>(raw: &RawValue, shape: &[usize], spec: &TensorSpec) -> Result<Vec<T>, RequestError> {
    let named = |source| RequestError::Data { input: spec.name.clone(), source };
    data::read(raw.get(), shape, spec.datatype).map_err(named)
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
        let expected: Vec<_> =
            spec.shape.iter().map(|&dim| if dim < 0 { "N".to_owned() } else { dim.to_string() }).collect();
        return Err(RequestError::Shape { input: spec.name.clone(), given, expected: expected.join(",") });
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

/// No element is larger than this; `checked_mul` begins with it so that sizes in bytes are safe too.
const ELEMENT_BYTES_LIMIT: usize = 8;
/// An error message shows at most this many dimensions and characters of what was sent.
const SHOWN_DIMS: usize = 8;
const SHOWN_CHARACTERS: usize = 60;

fn shorten(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}
