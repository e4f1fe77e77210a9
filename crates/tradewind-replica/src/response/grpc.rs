//! An answer of gRPC: a framed `ModelInferResponse`, its outputs raw.

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use tradewind_api::grpc::{
    frame::{HEADER_BYTES, Header},
    message::{InferOutputTensor, ModelInferResponse},
};

use super::{Answering, Asked, Output, ResponseError, raw::Raw};
use crate::engine::Outputs;

/// `ModelInferResponse.raw_output_contents`, its last field.
const RAW_OUTPUT_CONTENTS: u32 = 6;

/// The raw outputs are appended by hand, so that they are copied but once, from ONNX Runtime's memory to the body.
pub(crate) fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
    let mut tensors = Vec::with_capacity(asked.outputs.len());
    let mut contents = Vec::with_capacity(asked.outputs.len());
    for &wanted in &asked.outputs {
        let output = Output::of(wanted, answering, outputs)?;
        tensors.push(InferOutputTensor {
            name: output.spec.name.clone(),
            datatype: output.datatype.as_str().to_owned(),
            shape: output.shape.to_vec(),
        });
        contents.push(Raw::of(&output)?);
    }
    let head = ModelInferResponse {
        model_name: answering.model.to_owned(),
        model_version: answering.version.to_owned(),
        id: asked.id.clone().unwrap_or_default(),
        outputs: tensors,
        raw_output_contents: Vec::new(),
    };
    let field = |raw: &Raw<'_>| 1 + encoded_len_varint(raw.size() as u64) + raw.size();
    let length = head.encoded_len() + contents.iter().map(field).sum::<usize>();
    let framed = u32::try_from(length).map_err(|_| ResponseError::TooLarge(length))?;
    let mut body = Vec::with_capacity(HEADER_BYTES + length);
    body.extend_from_slice(&Header::plain(framed).write());
    head.encode_raw(&mut body);
    for raw in &contents {
        encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut body);
        encode_varint(raw.size() as u64, &mut body);
        raw.write(&mut body)?;
    }
    Ok(body)
}
