//! A request of gRPC: tensors raw, one beside each input, or typed, within the inputs; not both. Outputs are always
//! wanted raw: clients such as `tritonclient.grpc` read nothing else.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message;
use tradewind_api::grpc::{
    message::{InferParameter, ModelInferRequest},
    target,
};
use tradewind_core::bundle::Signature;

use super::{Data, EXTENSIONS, Form, Given, Inference, RequestError, arrange, select, shorten, urgency};

/// A message with more inputs, outputs or raw contents is not decoded: two bytes of it would become hundreds.
const ENTRIES_LIMIT: usize = 1 << 10;
/// The repeated fields of a request, as they are numbered.
const REPEATED: [(u32, &str); 4] = [(4, "parameters"), (5, "inputs"), (OUTPUTS, "outputs"), (7, "raw contents")];
/// Of a request, among its parameters.
const PRIORITY: &str = "priority";
const OUTPUTS: u32 = 6;
const OUTPUT_PARAMETERS: u32 = 2;

/// Raw contents stay parts of `message`.
pub(crate) fn decode(message: Bytes) -> Result<ModelInferRequest, RequestError> {
    let malformed = |error: &dyn std::error::Error| RequestError::Message(error.to_string());
    let counts = target::count_fields(&message, REPEATED.map(|(number, _)| number)).map_err(|e| malformed(&e))?;
    if let Some((count, (_, what))) = counts.into_iter().zip(REPEATED).find(|&(count, _)| count > ENTRIES_LIMIT) {
        return Err(RequestError::TooMany { what, count });
    }
    let extension = target::nested_key(&message, OUTPUTS, OUTPUT_PARAMETERS, &EXTENSIONS).map_err(|e| malformed(&e))?;
    if let Some(extension) = extension {
        return Err(RequestError::Extension(extension));
    }
    ModelInferRequest::decode(message).map_err(|error| malformed(&error))
}

pub(crate) fn check(request: ModelInferRequest, signature: &Signature) -> Result<Inference, RequestError> {
    let named = request.outputs.iter().map(|output| (output.name.as_str(), Form::Raw));
    let outputs = select(named, Form::Raw, signature)?;
    let urgency = urgency(request.parameters.get(PRIORITY).and_then(InferParameter::number));
    let (tensors, raw) = (request.inputs.len(), request.raw_input_contents.len());
    if raw > 0 && raw != tensors {
        return Err(RequestError::RawCount { tensors, raw });
    }
    let mut raw = request.raw_input_contents.into_iter();
    let given = request.inputs.into_iter().map(|input| {
        let data = match (raw.next(), input.contents) {
            (Some(_), Some(_)) => return Err(RequestError::RawAndTyped(shorten(&input.name))),
            (Some(bytes), None) => Data::Raw(bytes),
            // Without any contents it may be a tensor of no elements.
            (None, contents) => Data::Typed(contents.unwrap_or_default()),
        };
        let (name, datatype, shape) = (Cow::from(input.name), Cow::from(input.datatype), Cow::from(input.shape));
        Ok(Given { name, datatype, shape, data })
    });
    let inputs = arrange(given.collect::<Result<_, _>>()?, signature)?;
    Ok(Inference { id: Some(request.id).filter(|id| !id.is_empty()), urgency, inputs, outputs })
}

#[cfg(test)]
mod tests {
    use tradewind_api::grpc::message::ParameterChoice::{self, Bool, Int64, Uint64};
    use tradewind_core::bundle::Signature;

    use super::*;

    #[test]
    fn a_priority_is_a_parameter() {
        let urgency = |choice: ParameterChoice| {
            let parameters = [(PRIORITY.to_owned(), InferParameter { choice: Some(choice) })].into();
            let message = ModelInferRequest { parameters, ..Default::default() }.encode_to_vec();
            check(decode(message.into()).unwrap(), &Signature::default()).unwrap().urgency
        };
        let found = [Uint64(1), Int64(3), Uint64(0), Int64(-1), Bool(true), Uint64(u64::MAX)].map(urgency);
        assert_eq!(found, [1, 3, 2, 2, 2, u32::MAX]);
    }
}
