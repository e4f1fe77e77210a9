//! Whatever a client sends: it is refused, or it is the inputs of the model.

use prost::Message;
use tradewind_api::grpc::message::{InferInputTensor, ModelInferRequest};
use tradewind_fuzz::fuzz;

use super::*;

/// Stands before a body for what `Inference-Header-Content-Length` says; all ones for nothing.
const HEADER_BYTES: usize = 2;

fn signature() -> Signature {
    serde_json::from_str(
        r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},{"name":"s","datatype":"BYTES","shape":[-1]},
        {"name":"f","datatype":"BOOL","shape":[]},{"name":"i","datatype":"INT8","shape":[1]}],
        "outputs":[{"name":"y","datatype":"FP32","shape":[-1]},{"name":"z","datatype":"BYTES","shape":[-1]}]}"#,
    )
    .expect("a signature")
}

fn lone(datatype: &str, shape: &str) -> Signature {
    let spec = format!(r#"{{"inputs":[{{"name":"a","datatype":"{datatype}","shape":{shape}}}],"outputs":[]}}"#);
    serde_json::from_str(&spec).expect("a signature")
}

fn seed(header_length: u16, body: &[&[u8]]) -> Vec<u8> {
    [&header_length.to_le_bytes()[..], &body.concat()].concat()
}

/// ONNX Runtime makes the tensors.
fn check(inference: &Inference, signature: &Signature) {
    crate::runtime::environment().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(inference.inputs.len(), signature.inputs.len());
    assert!(inference.inputs.iter().all(|input| input.session_value().is_ok()));
    assert!(inference.outputs.iter().all(|wanted| wanted.position < signature.outputs.len()));
}

#[test]
fn rest() {
    crate::runtime::environment().unwrap_or_else(|error| panic!("{error}"));
    let plain = br#"{"id":"1","inputs":[{"name":"a","datatype":"FP32","shape":[2,2],"data":[[1,2.5],[-3e2,0]]},
        {"name":"s","datatype":"BYTES","shape":[2],"data":["a\u00e9","\\,]"]},{"name":"f","datatype":"BOOL","shape":[],"data":[true]},
        {"name":"i","datatype":"INT8","shape":[1],"data":[-128]}],"outputs":[{"name":"z","parameters":{"binary_data":true}}]}"#;
    let binary = br#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},
        {"name":"s","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":11}},
        {"name":"f","datatype":"BOOL","shape":[],"parameters":{"binary_data_size":1}},
        {"name":"i","datatype":"INT8","shape":[1],"data":[1]}],"parameters":{"binary_data_output":true}}"#;
    let tail = b"\0\0\x80\x3f\0\0\0\x40\x01\0\0\0a\x02\0\0\0bc\x01";
    let seeds = [
        seed(u16::MAX, &[plain]),
        seed(u16::try_from(binary.len()).expect("short"), &[binary, tail]),
        seed(0, &[b"\0\0\x80\x3f\0\0\0\x40"]),
    ];
    let signatures = [signature(), lone("FP32", "[-1,2]"), lone("BYTES", "[1]"), lone("UINT64", "[1]")];
    let mut taken = [0; 4];
    fuzz(&seeds, |input| {
        let Some((length, body)) = input.split_first_chunk::<HEADER_BYTES>() else { return };
        let length = Some(u16::from_le_bytes(*length)).filter(|length| *length != u16::MAX).map(usize::from);
        for (signature, taken) in signatures.iter().zip(&mut taken) {
            match json::parse(Bytes::copy_from_slice(body), length, signature) {
                Ok(inference) => {
                    check(&inference, signature);
                    *taken += 1;
                }
                Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
            }
        }
    });
    assert!(taken.iter().all(|taken| *taken > 0), "{taken:?} of the seeds' kinds were taken");
}

#[test]
fn grpc() {
    crate::runtime::environment().unwrap_or_else(|error| panic!("{error}"));
    let tensor = |name: &str, datatype: &str, shape: &[i64], contents: Option<InferTensorContents>| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
    };
    let contents = InferTensorContents::default;
    let typed = [
        tensor("a", "FP32", &[1, 2], Some(InferTensorContents { fp32_contents: vec![1.0, -2.5], ..contents() })),
        tensor(
            "s",
            "BYTES",
            &[1],
            Some(InferTensorContents { bytes_contents: vec![b"ab".to_vec().into()], ..contents() }),
        ),
        tensor("f", "BOOL", &[], Some(InferTensorContents { bool_contents: vec![true], ..contents() })),
        tensor("i", "INT8", &[1], Some(InferTensorContents { int_contents: vec![-128], ..contents() })),
    ];
    let of = |inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]| {
        let raw_input_contents = raw.iter().map(|raw| Bytes::from_static(raw)).collect();
        let names = ("digits".to_owned(), "3".to_owned());
        ModelInferRequest {
            model_name: names.0,
            model_version: names.1,
            inputs,
            raw_input_contents,
            ..Default::default()
        }
    };
    let bare = typed.clone().map(|tensor| InferInputTensor { contents: None, ..tensor });
    let raw: [&[u8]; 4] = [b"\0\0\x80\x3f\0\0\0\x40", b"\x01\0\0\0a", b"\x01", b"\x80"];
    let seeds = [of(typed.to_vec(), &[]), of(bare.to_vec(), &raw)].map(|request| request.encode_to_vec());
    let signature = signature();
    let mut taken = 0;
    fuzz(&seeds, |message| {
        let Ok(request) = super::grpc::decode(Bytes::copy_from_slice(message)) else { return };
        match super::grpc::check(request, &signature) {
            Ok(inference) => {
                check(&inference, &signature);
                taken += 1;
            }
            Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
        }
    });
    assert!(taken > 2, "{taken} were taken");
}

#[test]
fn json_data() {
    let shapes: [&[usize]; 5] = [&[], &[2], &[2, 2], &[0, 3], &[1, 4, 1]];
    fuzz(
        &["[[1,2],[3,-4]]", "[ 1 ,2,\n3,4]", "[\"a\\\"]\",\"b\"]", "[[],[]]", "[true,false]", "[[[1],[2],[3],[4]]]"],
        |text| {
            let Some(text) = std::str::from_utf8(text).ok() else { return };
            let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
            for shape in shapes {
                let count: usize = shape.iter().product();
                if let Ok(read) = data::read::<i64>(raw.get(), shape, Datatype::Int64) {
                    assert_eq!(read.len(), count);
                    let flat = serde_json::to_string(&read).expect("numbers");
                    assert_eq!(data::read::<i64>(&flat, shape, Datatype::Int64), Ok(read));
                }
                if let Ok(read) = data::read::<String>(raw.get(), shape, Datatype::Bytes) {
                    let flat = serde_json::to_string(&read).expect("strings");
                    assert_eq!(data::read::<String>(&flat, shape, Datatype::Bytes), Ok(read));
                }
            }
        },
    );
}
