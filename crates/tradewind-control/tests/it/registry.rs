//! Models, versions and blobs.

use http::{StatusCode, header};
use serde_json::json;
use tradewind_api::{Client, Code, client::http_client};
use tradewind_core::{
    VersionNumber,
    bundle::{BundleFile, BundleIndex, Lineage, Runtime, lineage},
};

use crate::control::{Control, digest, model, problem};

const MANIFEST: &str = "name = \"digits\"\n";
const CASE: &str = r#"{"request": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]},
    "expect": {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [3]}]}}"#;

#[tokio::test]
async fn a_bundle_goes_in_and_comes_out() {
    let control = Control::start().await;
    let files = [("tradewind.toml", MANIFEST), ("model.onnx", "weights"), ("cases/001.json", CASE)];
    let digests: Vec<_> = files.iter().map(|(_, content)| digest(content)).collect();
    assert_eq!(control.admin.missing_blobs(digests.clone()).await.unwrap(), digests);

    let pushed = control.push("digits", &files).await.unwrap();
    assert!(pushed.created);
    assert_eq!(pushed.version.version, VersionNumber(1));
    assert_eq!(pushed.version.cases, ["cases/001.json"]);
    assert_eq!(pushed.version.signature.inputs[0].to_string(), "x FP32 [N,2]");
    assert_eq!(control.admin.missing_blobs(digests).await.unwrap(), []);

    // The same content is the same version; other content is the next one.
    let again = control.push("digits", &files).await.unwrap();
    assert!(!again.created);
    assert_eq!(again.version, pushed.version);
    let next = control.push("digits", &[("model.onnx", "other weights")]).await.unwrap();
    assert_eq!((next.created, next.version.version), (true, VersionNumber(2)));

    let models = control.admin.models().await.unwrap().models;
    assert_eq!((models.len(), models[0].latest, models[0].versions), (1, VersionNumber(2), 2));
    let detail = control.admin.model(&model("digits")).await.unwrap();
    let versions: Vec<u64> = detail.versions.iter().map(|version| version.version.0).collect();
    assert_eq!(versions, [2, 1]);
    let agent = control.client("agent/us-east1");
    assert_eq!(agent.version(&model("digits"), VersionNumber(1)).await.unwrap(), pushed.version);
    assert_eq!(blob(&agent, "weights", 0).await, "weights");
    control.stop().await;
}

async fn blob(client: &Client, content: &str, offset: u64) -> String {
    client.get_blob(&digest(content), offset).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn the_name_in_the_path_wins() {
    let control = Control::start().await;
    let pushed = control.push("numbers", &[("tradewind.toml", MANIFEST), ("model.onnx", "weights")]).await.unwrap();
    assert_eq!(pushed.version.name, model("numbers"));
    // The same content under another name is another model.
    assert!(control.push("digits", &[("tradewind.toml", MANIFEST), ("model.onnx", "weights")]).await.unwrap().created);
    control.stop().await;
}

#[tokio::test]
async fn bundles_that_cannot_serve_are_refused() {
    let control = Control::start().await;
    let wrong_case = CASE.replace("[1, 1]", "[1, 7]");
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("model.onnx", "refused")], "model.onnx is not an ONNX model"),
        (&[("model.onnx", "crashes")], "loading model.onnx crashed the process that tried it (signal 11)"),
        (&[("../model.onnx", "weights")], "the bundle may not contain `../model.onnx`"),
        (&[("model.onnx", "weights"), ("stray", "x")], "`stray` is in the bundle, but"),
        (&[("tradewind.toml", "modle = 1"), ("model.onnx", "weights")], "tradewind.toml line 1: unknown field `modle`"),
        (&[("tradewind.toml", "model = \"other.onnx\""), ("model.onnx", "x")], "tradewind.toml lists `other.onnx`"),
        (&[("model.onnx", "weights"), ("cases/a.json", &wrong_case)], "golden case cases/a.json cannot hold"),
        (&[("model.onnx", "weights"), ("cases/a.json", "{}")], "golden case cases/a.json cannot hold"),
        (
            &[("tradewind.toml", "[signature]\ninputs = []\noutputs = []"), ("model.onnx", "weights")],
            "tradewind.toml states another signature than the model has",
        ),
    ];
    for (files, expected) in cases {
        let problem = problem(control.push("digits", files).await);
        assert_eq!(problem.code, Code::InvalidBundle, "{problem:?}");
        assert!(problem.detail.starts_with(expected), "{problem:?}");
    }
    assert!(control.admin.models().await.unwrap().models.is_empty());
    control.stop().await;
}

const SERVER: &str = "runtime = \"command\"\n[command]\nrun = [\"python3\", \"server.py\", \"{port}\"]\n";

#[tokio::test]
async fn a_server_is_a_version_without_being_run() {
    let control = Control::start().await;
    let case = r#"{"http": {"path": "/"}, "expect": {"contains": "hello"}}"#;
    let files = [("tradewind.toml", SERVER), ("server.py", "print()"), ("cases/1.json", case)];
    let pushed = control.push("hello", &files).await.unwrap().version;
    assert_eq!(pushed.manifest.runtime, Runtime::Command);
    assert_eq!(pushed.cases, ["cases/1.json"]);
    assert_eq!((pushed.signature.inputs.len(), pushed.signature.outputs.len()), (0, 0));

    let signature = "[[signature.inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
                     [[signature.outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 1]\n";
    let stated = format!("{SERVER}{signature}");
    let files = [("tradewind.toml", stated.as_str()), ("server.py", "print()"), ("cases/1.json", CASE)];
    let pushed = control.push("hello", &files).await.unwrap().version;
    assert_eq!(pushed.signature.inputs[0].to_string(), "x FP32 [N,2]");

    for (case, expected) in [
        (CASE, "needs a `signature`"),
        (r#"{"http": {"path": "/"}, "expect": {}}"#, "nothing is expected"),
        (r#"{"http": {"pth": "/"}, "expect": {}}"#, "unknown field `pth`"),
    ] {
        let files = [("tradewind.toml", SERVER), ("server.py", "print()"), ("cases/1.json", case)];
        let problem = problem(control.push("hello", &files).await);
        assert_eq!((problem.code, &*problem.detail), (Code::InvalidBundle, "golden case cases/1.json cannot hold"));
        assert!(problem.causes.iter().any(|cause| cause.contains(expected)), "{problem:?}");
    }
    let http = [("model.onnx", "weights"), ("cases/1.json", r#"{"http": {"path": "/"}, "expect": {"status": 200}}"#)];
    let problem = problem(control.push("digits", &http).await);
    assert!(problem.causes.iter().any(|cause| cause.contains("is for the runtime `command`")), "{problem:?}");
    control.stop().await;
}

fn index(size: u64, content: &str) -> BundleIndex {
    let file = BundleFile { size, digest: digest(content), executable: false };
    BundleIndex { files: [("model.onnx".to_owned(), file)].into() }
}

fn lineage() -> Lineage {
    let deepest = (0..lineage::DEPTH_LIMIT).fold(json!(1), |inner, _| json!([inner]));
    serde_json::from_value(json!({
        "pipeline": "digits", "run": 12, "by": "ada@build-7",
        "started_at": "2026-11-03T14:12:07Z", "finished_at": "2026-11-03T14:32:07Z",
        "data": { "files": 3, "bytes": 4096, "batches": { "cut": "by file", "total": 3, "held_out": 1 } },
        "parameters": { "rate": 0.1, "deepest": deepest },
        "metrics": { "accuracy": 0.971 },
        "gate": ["accuracy 0.971000, at least 0.95"],
    }))
    .unwrap()
}

#[tokio::test]
async fn a_version_keeps_where_it_comes_from() {
    let control = Control::start().await;
    control.admin.put_blob(&digest("weights"), 7, "weights".into()).await.unwrap();
    let digits = model("digits");
    let publish = |lineage| control.admin.publish(&digits, index(7, "weights"), Some(lineage));

    let refused = problem(publish(Lineage { by: String::new(), ..lineage() }).await);
    assert_eq!((refused.code, refused.detail.as_str()), (Code::Invalid, "the lineage cannot be kept with a version"));
    assert_eq!(refused.causes, ["`by`: a text is empty"]);

    let pushed = publish(lineage()).await.unwrap();
    assert_eq!((pushed.created, pushed.version.lineage), (true, Some(lineage())));
    // What was said of it first stays.
    let again = publish(Lineage { run: Some(13), ..lineage() }).await.unwrap();
    assert_eq!((again.created, again.version.lineage), (false, Some(lineage())));

    let control = control.restart().await;
    assert_eq!(control.admin.version(&digits, VersionNumber(1)).await.unwrap().lineage, Some(lineage()));
    assert_eq!(control.admin.model(&digits).await.unwrap().versions[0].lineage, Some(lineage()));
    control.stop().await;
}

#[tokio::test]
async fn an_index_must_tell_the_truth_about_its_blobs() {
    let control = Control::start().await;
    let missing = problem(control.admin.publish(&model("digits"), index(7, "not there"), None).await);
    assert_eq!(missing.detail, "the content of `model.onnx` has not been uploaded");
    control.admin.put_blob(&digest("weights"), 7, "weights".into()).await.unwrap();
    let wrong = problem(control.admin.publish(&model("digits"), index(8, "weights"), None).await);
    assert_eq!(wrong.detail, "`model.onnx` has 7 bytes, and the index says 8");
    control.stop().await;
}

#[tokio::test]
async fn a_blob_that_is_not_its_digest_is_not_kept() {
    let control = Control::start().await;
    let expected = digest("weights");
    let refused = problem(control.admin.put_blob(&expected, 7, "WEIGHTS".into()).await);
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.detail.contains("has the digest"), "{refused:?}");
    assert_eq!(control.admin.missing_blobs(vec![expected]).await.unwrap(), [expected]);
    assert_eq!(problem(control.admin.get_blob(&expected, 0).await).code, Code::NotFound);
    control.stop().await;
}

#[tokio::test]
async fn a_blob_is_read_from_an_offset_on() {
    let control = Control::start().await;
    control.admin.put_blob(&digest("weights"), 7, "weights".into()).await.unwrap();
    // Twice is once.
    control.admin.put_blob(&digest("weights"), 7, "weights".into()).await.unwrap();
    assert_eq!(blob(&control.admin, "weights", 3).await, "ghts");
    assert_eq!(blob(&control.admin, "weights", 7).await, "");

    let url = format!("{}/v1/blobs/{}", control.url, digest("weights").to_hex());
    let get = |range: &'static str| {
        let request = http_client().build().unwrap().get(&url).bearer_auth(control.token("admin"));
        request.header(header::RANGE, range).send()
    };
    let part = get("bytes=1-3").await.unwrap();
    assert_eq!(
        (part.status(), &part.headers()["content-range"]),
        (StatusCode::PARTIAL_CONTENT, &"bytes 1-3/7".parse().unwrap())
    );
    assert_eq!(part.text().await.unwrap(), "eig");
    assert_eq!(get("bytes=8-").await.unwrap().status(), StatusCode::RANGE_NOT_SATISFIABLE);
    control.stop().await;
}

#[tokio::test]
async fn names_that_nobody_knows_come_with_the_nearest_one() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let unknown = problem(control.admin.model(&model("digit")).await);
    assert_eq!(unknown.detail, "no model is called `digit`");
    assert_eq!(unknown.hint.as_deref(), Some("did you mean `digits`? models here: digits"));
    let unknown = problem(control.admin.version(&model("digits"), VersionNumber(9)).await);
    assert_eq!(
        (unknown.detail.as_str(), unknown.hint.as_deref()),
        ("digits has no version 9", Some("its versions: 1"))
    );
    control.stop().await;
}

#[tokio::test]
async fn a_removed_version_is_gone_and_its_number_is_not_given_again() {
    let control = Control::start().await;
    for content in ["one", "two"] {
        control.push("digits", &[("model.onnx", content)]).await.unwrap();
    }
    control.admin.remove_version(&model("digits"), VersionNumber(2)).await.unwrap();
    assert_eq!(problem(control.admin.remove_version(&model("digits"), VersionNumber(2)).await).code, Code::NotFound);
    let again = control.push("digits", &[("model.onnx", "two")]).await.unwrap();
    assert_eq!((again.created, again.version.version), (true, VersionNumber(3)));
    control.stop().await;
}

#[tokio::test]
async fn versions_pushed_at_once_get_numbers_of_their_own() {
    let control = Control::start().await;
    let contents: Vec<String> = (0..8).map(|n| format!("weights {n}")).collect();
    let files: Vec<_> = contents.iter().map(|content| [("model.onnx", content.as_str())]).collect();
    let pushes = files.iter().map(|files| control.push("digits", files));
    let mut numbers: Vec<u64> = futures_util::future::join_all(pushes)
        .await
        .into_iter()
        .map(|pushed| pushed.unwrap().version.version.0)
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    control.stop().await;
}
