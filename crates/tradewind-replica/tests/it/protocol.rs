//! The routes besides inference.

use reqwest::StatusCode;
use serde_json::json;
use tradewind_api::replica::LoadedModel;

use crate::replica::{Replica, models};

#[tokio::test]
async fn health_and_metadata_follow_the_protocol() {
    let replica = Replica::start("add").await;
    for (path, expected) in [
        ("/v2/health/live", json!({"live": true})),
        ("/healthz", json!({"live": true})),
        ("/v2/health/ready", json!({"ready": true})),
        ("/readyz", json!({"ready": true})),
        ("/v2/models/add/ready", json!({"name": "add", "ready": true})),
        ("/v2/models/add/versions/3/ready", json!({"name": "add", "ready": true})),
        (
            "/v2",
            json!({
                "name": "tradewind",
                "version": env!("CARGO_PKG_VERSION"),
                "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
            }),
        ),
    ] {
        let answer = replica.get(path).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected), "{path}");
    }
    let tensor = |name| json!({"name": name, "datatype": "FP32", "shape": [-1, 3]});
    let metadata = json!({
        "name": "add",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [tensor("a"), tensor("b")],
        "outputs": [tensor("sum"), tensor("difference")],
    });
    assert_eq!(replica.get("/v2/models/add").await.json(), metadata);
    assert_eq!(replica.get("/v2/models/add/versions/3").await.json(), metadata);
    replica.stop().await;
}

#[tokio::test]
async fn what_is_not_served_is_a_404_in_the_protocols_form() {
    let replica = Replica::start("add").await;
    for path in [
        "/v2/models/other",
        "/v2/models/other/ready",
        "/v2/models/add/versions/4",
        "/v2/models/add/versions/x/ready",
        "/v2/models/other/tradewind",
        "/v2/models",
        "/nowhere",
    ] {
        let answer = replica.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!answer.error().is_empty(), "{path}");
    }
    let answer = replica.infer("other", "{}").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.error(), "this replica serves `add`, not `other`");
    let answer = replica.get("/v2/models/add/infer").await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, "the route has no such method")
    );
    replica.stop().await;
}

#[tokio::test]
async fn it_proves_which_files_it_loaded() {
    let replica = Replica::start("external").await;
    let loaded: LoadedModel =
        serde_json::from_value(replica.get("/v2/models/external/tradewind").await.json()).unwrap();
    assert_eq!((loaded.replica.as_str(), loaded.version.0), ("test", 3));
    let expected = ["external.bin", "external.onnx"].map(|name| {
        let bytes = std::fs::read(models().join(name)).unwrap();
        (name.to_owned(), bytes.len() as u64, *blake3::hash(&bytes).as_bytes())
    });
    let files: Vec<_> =
        loaded.files.into_iter().map(|(path, file)| (path, file.size, *file.digest.as_bytes())).collect();
    assert_eq!(files, expected);
    assert_eq!(loaded.signature.inputs[0].to_string(), "x FP32 [N,3]");
    replica.stop().await;
}

#[tokio::test]
async fn metrics_count_users_and_leave_probes_out() {
    let replica = Replica::start("identity_fp32").await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}).to_string();
    assert_eq!(replica.infer("identity_fp32", body.clone()).await.status, StatusCode::OK);
    assert_eq!(replica.infer("identity_fp32", "{").await.status, StatusCode::BAD_REQUEST);
    let probe = replica.client.post(replica.url("/v2/models/identity_fp32/infer")).body(body);
    let probe = probe.header(tradewind_api::gateway::PROBE_HEADER, "1");
    assert_eq!(crate::replica::answer(probe).await.status, StatusCode::OK);
    let answer = replica.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "tradewind_replica_ready{LABELS} 1",
        "tradewind_replica_requests_in_flight{LABELS} 0",
        "tradewind_replica_requests_total{LABELS} 2",
        "tradewind_replica_errors_total{LABELS,reason=\"invalid\"} 1",
        "tradewind_replica_errors_total{LABELS,reason=\"inference\"} 0",
        "tradewind_replica_request_duration_seconds_count{LABELS} 1",
        "tradewind_replica_inference_duration_seconds_count{LABELS} 1",
    ] {
        let line = line.replace("LABELS", "model=\"identity_fp32\",version=\"3\"");
        assert!(answer.text.lines().any(|found| found == line), "{line} is not in\n{}", answer.text);
    }
    replica.stop().await;
}
