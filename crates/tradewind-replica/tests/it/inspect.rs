//! What may become a version, and what is refused with which words.

use std::path::Path;

use tradewind_core::{bundle::Signature, inference::Datatype};
use tradewind_replica::{Inspection, inspect};

use crate::replica::models;

fn refused(directory: &Path, file: &str, listed: &[&str]) -> String {
    let listed: Vec<String> = listed.iter().map(|&name| name.to_owned()).collect();
    match inspect(directory, file, &listed) {
        Ok(inspection) => panic!("{file} was accepted: {inspection:?}"),
        Err(error) => error.to_string(),
    }
}

fn refused_bytes(bytes: &[u8]) -> String {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("model.onnx"), bytes).unwrap();
    refused(bundle.path(), "model.onnx", &[])
}

fn specs(signature: &Signature) -> Vec<String> {
    signature.inputs.iter().chain(&signature.outputs).map(ToString::to_string).collect()
}

#[test]
fn it_reads_the_signature_the_opset_and_the_producer() {
    let add = inspect(&models(), "add.onnx", &[]).unwrap();
    let expected = ["a FP32 [N,3]", "b FP32 [N,3]", "sum FP32 [N,3]", "difference FP32 [N,3]"];
    assert_eq!(specs(&add.signature), expected);
    assert_eq!(add.signature.inputs[0].shape, [-1, 3]);
    assert_eq!((add.opset, add.producer.as_str(), add.external_data.len()), (21, "tradewind-tests", 0));
    let scalar = inspect(&models(), "scalar.onnx", &[]).unwrap();
    assert_eq!(specs(&scalar.signature), ["x FP64 []", "y FP64 []"]);
    let json = serde_json::to_string(&add).unwrap();
    assert_eq!(serde_json::from_str::<Inspection>(&json).unwrap(), add);
}

#[test]
fn it_knows_every_datatype() {
    for datatype in Datatype::ALL {
        let file = format!("identity_{}.onnx", datatype.as_str().to_lowercase());
        let signature = inspect(&models(), &file, &[]).unwrap().signature;
        assert_eq!((signature.inputs[0].datatype, signature.outputs[0].datatype), (datatype, datatype));
    }
}

#[test]
fn external_data_must_be_listed_and_stay_inside() {
    let listed = ["external.bin".to_owned()];
    assert_eq!(inspect(&models(), "external.onnx", &listed).unwrap().external_data, listed);
    let unlisted =
        "external data `external.bin` is not among the bundle's files; list it under `files` in tradewind.toml";
    assert_eq!(refused(&models(), "external.onnx", &[]), unlisted);
    for (file, location) in [
        ("escaping.onnx", "../secret.bin"),
        ("absolute.onnx", "/etc/passwd"),
        ("escaping_subgraph.onnx", "../secret.bin"),
    ] {
        let expected = format!("external data `{location}` must be a relative path inside the bundle, without `..`");
        assert_eq!(refused(&models(), file, &[location]), expected);
    }
}

#[test]
fn external_data_must_be_a_regular_file_and_long_enough() {
    let bundle = tempfile::tempdir().unwrap();
    let (model, data) = (bundle.path().join("external.onnx"), bundle.path().join("external.bin"));
    std::fs::copy(models().join("external.onnx"), model).unwrap();
    let check = || refused(bundle.path(), "external.onnx", &["external.bin"]);
    let irregular = "external data `external.bin` is not a regular file inside the bundle";
    assert_eq!(check(), irregular, "missing");
    std::os::unix::fs::symlink("/etc/hostname", &data).unwrap();
    assert_eq!(check(), irregular, "a link");
    std::fs::remove_file(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    assert_eq!(check(), irregular, "a directory");
    std::fs::remove_dir(&data).unwrap();
    std::fs::write(&data, [0; 4]).unwrap();
    assert!(check().starts_with("ONNX Runtime refused the model: "), "{}", check());
}

#[test]
fn what_is_not_onnx_is_named() {
    let pickle = "model.onnx is a Python pickle, which can run any code when it is loaded; export the model to ONNX";
    assert_eq!(refused_bytes(b"\x80\x04\x95rest"), pickle);
    let archive = "model.onnx is a zip archive, such as PyTorch's .pt, which can run any code when it is loaded; export \
                   the model to ONNX";
    assert_eq!(refused_bytes(b"PK\x03\x04rest"), archive);
    assert_eq!(refused_bytes(b""), "model.onnx is empty");
    assert!(refused_bytes(b"\x20\0\0\0ORTMrest").contains("ORT format"));
    assert!(refused_bytes(b"<!DOCTYPE html>").starts_with("model.onnx is not an ONNX model: "));
    assert_eq!(refused_bytes(b"\x08\x0a"), "model.onnx is not an ONNX model: it has no graph");
    assert_eq!(refused(&models(), "../models/add.onnx", &[]).split('`').nth(1), Some("../models/add.onnx"));
    assert!(refused(&models(), "none.onnx", &[]).starts_with("could not read "));
}

#[test]
fn a_truncated_model_is_refused_at_every_length() {
    let whole = std::fs::read(models().join("add.onnx")).unwrap();
    for length in 0..whole.len() {
        let message = refused_bytes(&whole[..length]);
        assert!(!message.is_empty(), "{length} bytes");
    }
}

#[test]
fn outputs_that_are_no_tensors_come_with_a_remedy() {
    let expected = "output `output_probability` is a sequence, and the Open Inference Protocol carries tensors only; a \
                    classifier of scikit-learn is exported with plain probabilities by `to_onnx(model, X, \
                    options={\"zipmap\": False})`";
    assert_eq!(refused(&models(), "zipmap.onnx", &[]), expected);
}
