//! Whatever a manifest or an index says: it is refused, or it means the same wherever it goes.

use std::{fs, path::Path};

use tradewind_artifacts::bundle::{check_contents, check_index, check_model_start, check_path, parse_manifest};
use tradewind_core::{
    Digest,
    bundle::{
        BundleFile, BundleIndex, Manifest,
        command::{Values, fill},
    },
};
use tradewind_fuzz::fuzz;

fn examples() -> Vec<String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let bundles = ["digits/v1", "digits/v2", "digits/v3-broken", "tokens/v1", "litserve/v1"];
    let mut found: Vec<_> = bundles
        .iter()
        .map(|bundle| fs::read_to_string(examples.join(bundle).join("tradewind.toml")).unwrap())
        .collect();
    found.push(
        "name = \"a\"\nruntime = \"onnx\"\nmodel = \"m/é.onnx\"\nfiles = [\"w*.bin\"]\ncases = [\"cases/*.json\"]\n\
         [signature]\ninputs = [{ name = \"x\", datatype = \"FP32\", shape = [-1, 64] }]\noutputs = []\n\
         [verify]\nlatency_budget = \"1m30s\"\n"
            .to_owned(),
    );
    found
}

#[test]
fn manifests() {
    let file = BundleFile { size: 1, digest: Digest::from_bytes([1; 32]), executable: false };
    let files = ["model.onnx", "tradewind.toml", "cases/001.json", "server.py", "w1.bin"];
    let index = BundleIndex { files: files.iter().map(|path| ((*path).to_owned(), file.clone())).collect() };
    let examples = examples();
    assert!(examples.iter().all(|text| parse_manifest(text).is_ok_and(|manifest| manifest.check().is_ok())));
    fuzz(&examples, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let manifest = match parse_manifest(text) {
            Ok(manifest) => manifest,
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("tradewind.toml line ") && !message.contains('\n'), "{message:?}");
                return;
            }
        };
        let travelled: Manifest = serde_json::from_slice(&serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(travelled, manifest);
        let sound = manifest.check().is_ok();
        if let Ok(cases) = check_contents(&index, &manifest) {
            assert!(cases.iter().all(|case| index.files.contains_key(case)), "{cases:?}");
        }
        if let Some(command) = manifest.server().filter(|_| sound) {
            let values = Values { port: 1, host: "h", bundle: "/b", model: "m" };
            assert!(!command.run.is_empty());
            for word in &command.run {
                let filled = fill(word, &values);
                assert!(!filled.contains("{port}") && !filled.contains('\0'), "{filled}");
            }
            assert!(check_path(&command.root()).is_ok() || command.root().is_empty(), "{}", command.root());
        }
    });
}

#[test]
fn indexes() {
    let file = r#"{"size":1,"digest":"blake3:1111111111111111111111111111111111111111111111111111111111111111"}"#;
    let seed = format!("{{\"files\":{{\"model.onnx\":{file},\"a/B.json\":{file},\"a/b/c\":{file}}}}}");
    fuzz(&[seed], |json| {
        let Ok(index) = serde_json::from_slice::<BundleIndex>(json) else { return };
        if check_index(&index).is_ok() {
            assert!(index.files.keys().all(|path| check_path(path).is_ok()));
            let travelled: BundleIndex = serde_json::from_slice(&serde_json::to_vec(&index).unwrap()).unwrap();
            assert_eq!(travelled, index);
        }
    });
    fuzz(&[crate::ONNX_START, b"PK\x03\x04", b"\x80\x04\x95", b"(dp0\nS'a'\n", b"version https://git-lfs"], |start| {
        let longer = [start, &[b'x'; 100][..]].concat();
        let judged = |start: &[u8]| check_model_start("m", start).is_ok();
        assert!(start.len() < 64 || judged(start) == judged(&longer), "the beginning decides");
    });
}
