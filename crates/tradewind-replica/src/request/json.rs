//! A request of REST: JSON, and after it, where `Inference-Header-Content-Length` says how long the JSON is, binary
//! tensors in the order of its inputs. A JSON of no length at all makes the whole body the one input's raw tensor.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tradewind_core::{
    bundle::{Signature, TensorSpec},
    inference::Datatype,
};

use super::{
    Data, EXTENSIONS, Form, Given, Inference, RequestError, Wanted, arrange, dimensions, select, shorten, urgency,
};

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<Output<'a>>>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    binary_data_output: Option<bool>,
    priority: Option<u64>,
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
    binary_data_size: Option<u64>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

impl OutputParameters {
    /// Whoever asks for something else than a tensor here is not given a tensor.
    fn check(&self) -> Result<(), RequestError> {
        let asked = [self.classification.is_some(), self.shared_memory_region.is_some()];
        match EXTENSIONS.into_iter().zip(asked).find(|(_, asked)| *asked) {
            Some((extension, _)) => Err(RequestError::Extension(extension)),
            None => Ok(()),
        }
    }
}

/// `header_length` is what `Inference-Header-Content-Length` says, if it was sent.
pub(crate) fn parse(
    body: Bytes,
    header_length: Option<usize>,
    signature: &Signature,
) -> Result<Inference, RequestError> {
    if header_length == Some(0) {
        return lone_tensor(body, signature);
    }
    let length = header_length.unwrap_or(body.len());
    if body.is_empty() {
        return Err(RequestError::Empty);
    }
    let beyond = RequestError::HeaderBeyondBody { announced: length, length: body.len() };
    let (json, tail) = body.split_at_checked(length).ok_or(beyond)?;
    let request: Request<'_> = serde_json::from_str(std::str::from_utf8(json)?)?;
    let outputs = wanted(&request, signature)?;
    let mut tail = Tail { announced: header_length.is_some(), rest: body.slice_ref(tail) };
    let given = request.inputs.into_iter().map(|input| {
        let data = tail.data_of(&input)?;
        Ok(Given { name: input.name, datatype: input.datatype, shape: Cow::Owned(input.shape), data })
    });
    let given = given.collect::<Result<Vec<_>, RequestError>>()?;
    if !tail.rest.is_empty() {
        return Err(RequestError::TailLong(tail.rest.len()));
    }
    let urgency = urgency(request.parameters.and_then(|parameters| parameters.priority));
    Ok(Inference { id: request.id, urgency, inputs: arrange(given, signature)?, outputs })
}

fn wanted(request: &Request<'_>, signature: &Signature) -> Result<Vec<Wanted>, RequestError> {
    let form = |binary: bool| if binary { Form::Raw } else { Form::Json };
    let parameters = request.outputs.iter().flatten().filter_map(|output| output.parameters.as_ref());
    parameters.into_iter().try_for_each(OutputParameters::check)?;
    let binary = request.parameters.as_ref().and_then(|parameters| parameters.binary_data_output).unwrap_or(false);
    let named = request.outputs.iter().flatten().map(|output| {
        let own = output.parameters.as_ref().and_then(|parameters| parameters.binary_data);
        (output.name.as_ref(), form(own.unwrap_or(binary)))
    });
    select(named, form(binary), signature)
}

/// What is left of the bytes after the JSON.
struct Tail {
    announced: bool,
    rest: Bytes,
}

impl Tail {
    fn data_of<'a>(&mut self, input: &Input<'a>) -> Result<Data<'a>, RequestError> {
        let size = input.parameters.as_ref().and_then(|parameters| parameters.binary_data_size);
        let name = || shorten(&input.name);
        match (input.data, size) {
            (Some(data), None) => Ok(Data::Json(data)),
            (None, Some(_)) if !self.announced => Err(RequestError::HeaderMissing(name())),
            (None, Some(announced)) => {
                let size = usize::try_from(announced).ok().filter(|&size| size <= self.rest.len());
                let short = || RequestError::TailShort { input: name(), announced, left: self.rest.len() };
                let size = size.ok_or_else(short)?;
                Ok(Data::Raw(self.rest.split_to(size)))
            }
            (Some(_), Some(_)) => Err(RequestError::TwoForms(name())),
            (None, None) => Err(RequestError::NoData(name())),
        }
    }
}

/// All outputs of it are wanted raw too.
fn lone_tensor(body: Bytes, signature: &Signature) -> Result<Inference, RequestError> {
    let [spec] = signature.inputs.as_slice() else { return Err(RequestError::LoneInput(signature.inputs.len())) };
    let unclear =
        || RequestError::LoneShape { input: spec.name.clone(), expected: dimensions(&spec.shape), length: body.len() };
    let shape = lone_shape(spec, body.len()).ok_or_else(unclear)?;
    let data = if spec.datatype == Datatype::Bytes { Data::LoneString(body) } else { Data::Raw(body) };
    let (name, datatype) = (Cow::from(spec.name.as_str()), Cow::from(spec.datatype.as_str()));
    let given = Given { name, datatype, shape: Cow::Owned(shape), data };
    let outputs = select(std::iter::empty(), Form::Raw, signature)?;
    Ok(Inference { id: None, urgency: urgency(None), inputs: arrange(vec![given], signature)?, outputs })
}

/// The only shape that so many bytes can have: at most one dimension is open. BYTES are one element.
fn lone_shape(spec: &TensorSpec, bytes: usize) -> Option<Vec<i64>> {
    let with_open = |size: i64| spec.shape.iter().map(|&dim| if dim < 0 { size } else { dim }).collect::<Vec<_>>();
    let Some(size) = spec.datatype.size() else {
        let shape = with_open(1);
        return shape.iter().all(|&dim| dim == 1).then_some(shape);
    };
    let open = spec.shape.iter().filter(|&&dim| dim < 0).count();
    let mut fixed = spec.shape.iter().filter(|&&dim| dim >= 0);
    let row = fixed.try_fold(size, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))?;
    match open {
        0 => (row == bytes).then(|| spec.shape.clone()),
        1 if row > 0 && bytes.is_multiple_of(row) => Some(with_open(i64::try_from(bytes / row).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_tensors_shape_follows_from_its_size() {
        let shape = |datatype, shape: &[i64], bytes| {
            lone_shape(&TensorSpec { name: "x".to_owned(), datatype, shape: shape.to_vec() }, bytes)
        };
        for (dims, bytes, expected) in [
            (&[-1, 3][..], 24, Some(vec![2, 3])),
            (&[-1, 3], 0, Some(vec![0, 3])),
            (&[-1, 3], 20, None),
            (&[2, 3], 24, Some(vec![2, 3])),
            (&[2, 3], 28, None),
            (&[-1, -1], 24, None),
            (&[-1, 0], 24, None),
            (&[], 4, Some(vec![])),
            (&[-1, i64::MAX, i64::MAX], 4, None),
        ] {
            assert_eq!(shape(Datatype::Fp32, dims, bytes), expected, "{dims:?} of {bytes} bytes");
        }
        assert_eq!(shape(Datatype::Bytes, &[-1, 1], 9), Some(vec![1, 1]));
        assert_eq!(shape(Datatype::Bytes, &[2], 9), None);
    }
}
