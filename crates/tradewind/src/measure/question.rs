//! A request as clients that care for speed send it: numbers raw, behind the JSON.

use bytes::Bytes;
use serde_json::{Value, json};
use tradewind_core::{
    ModelName,
    inference::{Datatype, InferRequest, Tensor},
};

use crate::failure::Failure;

/// Bytes of the JSON.
pub(crate) const HEADER_LENGTH: &str = "inference-header-content-length";

#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) path: String,
    pub(crate) body: Bytes,
    pub(crate) header_length: usize,
}

impl Question {
    pub(crate) fn of(model: &ModelName, request: &InferRequest) -> Result<Self, Failure> {
        let mut tail = Vec::new();
        let inputs = request.inputs.iter().map(|tensor| {
            let Tensor { name, datatype, shape, data } = tensor;
            match raw(tensor) {
                Some(bytes) => {
                    let size = bytes.len();
                    tail.extend(bytes);
                    let parameters = json!({ "binary_data_size": size });
                    json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": parameters })
                }
                None => json!({ "name": name, "datatype": datatype, "shape": shape, "data": data }),
            }
        });
        let inputs: Vec<Value> = inputs.collect();
        let mut body =
            json!({ "inputs": inputs, "parameters": { "binary_data_output": true } }).to_string().into_bytes();
        let header_length = body.len();
        body.extend(tail);
        Ok(Self { path: format!("/v2/models/{model}/infer"), body: body.into(), header_length })
    }
}

/// The elements as they lie in memory; `None` for what stays JSON: text, half floats, and what is no number at all.
fn raw(tensor: &Tensor) -> Option<Vec<u8>> {
    let mut elements = Vec::new();
    flatten(&tensor.data, &mut elements);
    let mut bytes = Vec::with_capacity(elements.len() * tensor.datatype.size()?);
    for element in elements {
        let (integer, unsigned) = (element.as_i64(), element.as_u64());
        match tensor.datatype {
            Datatype::Fp32 => bytes.extend((element.as_f64()? as f32).to_le_bytes()),
            Datatype::Fp64 => bytes.extend(element.as_f64()?.to_le_bytes()),
            Datatype::Bool => bytes.push(u8::from(element.as_bool().or(integer.map(|number| number != 0))?)),
            Datatype::Int8 => bytes.extend(i8::try_from(integer?).ok()?.to_le_bytes()),
            Datatype::Int16 => bytes.extend(i16::try_from(integer?).ok()?.to_le_bytes()),
            Datatype::Int32 => bytes.extend(i32::try_from(integer?).ok()?.to_le_bytes()),
            Datatype::Int64 => bytes.extend(integer?.to_le_bytes()),
            Datatype::Uint8 => bytes.extend(u8::try_from(unsigned?).ok()?.to_le_bytes()),
            Datatype::Uint16 => bytes.extend(u16::try_from(unsigned?).ok()?.to_le_bytes()),
            Datatype::Uint32 => bytes.extend(u32::try_from(unsigned?).ok()?.to_le_bytes()),
            Datatype::Uint64 => bytes.extend(unsigned?.to_le_bytes()),
            Datatype::Fp16 | Datatype::Bf16 | Datatype::Bytes => return None,
        }
    }
    Some(bytes)
}

fn flatten<'a>(values: &'a [Value], into: &mut Vec<&'a Value>) {
    for value in values {
        match value {
            Value::Array(inner) => flatten(inner, into),
            element => into.push(element),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(inputs: Value) -> (Value, Vec<u8>) {
        let request: InferRequest = serde_json::from_value(json!({ "inputs": inputs })).unwrap();
        let question = Question::of(&"digits".parse().unwrap(), &request).unwrap();
        assert_eq!(question.path, "/v2/models/digits/infer");
        let (head, tail) = question.body.split_at(question.header_length);
        (serde_json::from_slice(head).unwrap(), tail.to_vec())
    }

    #[test]
    fn numbers_follow_the_json_and_text_stays_in_it() {
        let (head, tail) = body(json!([
            {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [[1.5, -2]]},
            {"name": "b", "datatype": "BYTES", "shape": [1], "data": ["x"]},
            {"name": "c", "datatype": "INT16", "shape": [1], "data": [-2]},
            {"name": "d", "datatype": "BOOL", "shape": [2], "data": [true, 0]},
        ]));
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(head["inputs"][1]["data"], json!(["x"]));
        assert_eq!(head["parameters"]["binary_data_output"], true);
        let floats = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(tail, [floats.as_slice(), &(-2_i16).to_le_bytes(), &[1, 0]].concat());
    }

    #[test]
    fn what_does_not_fit_its_datatype_is_left_to_the_model_to_refuse() {
        let (head, tail) = body(json!([{"name": "a", "datatype": "UINT8", "shape": [1], "data": [300]}]));
        assert_eq!((&head["inputs"][0]["data"], tail.len()), (&json!([300]), 0));
    }
}
