//! An answer of gRPC: a framed `ModelInferResponse`, its outputs raw; or the same in a `ModelStreamInferResponse`.

use std::collections::BTreeMap;

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use tradewind_api::grpc::{
    frame::{HEADER_BYTES, Header},
    message::{InferOutputTensor, InferParameter, ModelInferResponse},
};

use super::{Answering, Asked, Output, ResponseError, check_size, raw::Raw};
use crate::engine::Outputs;

/// `ModelInferResponse.raw_output_contents`, its last field.
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// `ModelStreamInferResponse.infer_response`.
const INFER_RESPONSE: u32 = 2;
/// By this, clients of Triton know that a request has no further answer.
const FINAL_RESPONSE: &str = "triton_final_response";

pub(crate) fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
    let (head, contents) = parts(answering, asked, outputs)?;
    let length = length(&head, &contents);
    let mut body = frame(length)?;
    write(&head, &contents, &mut body)?;
    Ok(body)
}

/// As one answer of a conversation.
pub(crate) fn encode_in_stream(
    answering: Answering<'_>,
    asked: &Asked,
    outputs: &Outputs,
) -> Result<Vec<u8>, ResponseError> {
    let (head, contents) = parts(answering, asked, outputs)?;
    let parameters = BTreeMap::from([(FINAL_RESPONSE.to_owned(), InferParameter::of_bool(true))]);
    let head = ModelInferResponse { parameters, ..head };
    let length = length(&head, &contents);
    let mut body = frame(field_length(length))?;
    encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut body);
    encode_varint(length as u64, &mut body);
    write(&head, &contents, &mut body)?;
    Ok(body)
}

/// The response without its raw outputs, which are appended by hand, so that they are copied but once, from ONNX
/// Runtime's memory to the body.
fn parts<'a>(
    answering: Answering<'a>,
    asked: &Asked,
    outputs: &'a Outputs,
) -> Result<(ModelInferResponse, Vec<Raw<'a>>), ResponseError> {
    check_size(answering, asked, outputs)?;
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
        ..Default::default()
    };
    Ok((head, contents))
}

/// A field of so many bytes, with what stands before it. The numbers of all fields here take one byte.
fn field_length(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn length(head: &ModelInferResponse, contents: &[Raw<'_>]) -> usize {
    head.encoded_len() + contents.iter().map(|raw| field_length(raw.size())).sum::<usize>()
}

/// Room for a message, behind its header.
fn frame(length: usize) -> Result<Vec<u8>, ResponseError> {
    let framed = u32::try_from(length).map_err(|_| ResponseError::TooLarge(length))?;
    let mut body = Vec::with_capacity(HEADER_BYTES + length);
    body.extend_from_slice(&Header::plain(framed).write());
    Ok(body)
}

fn write(head: &ModelInferResponse, contents: &[Raw<'_>], body: &mut Vec<u8>) -> Result<(), ResponseError> {
    head.encode_raw(body);
    for raw in contents {
        encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, body);
        encode_varint(raw.size() as u64, body);
        raw.write(body)?;
    }
    Ok(())
}
