//! Configuration, statistics and the repository, by REST and by gRPC.

use reqwest::StatusCode;
use serde_json::json;
use tradewind_api::grpc::{
    Code, Method,
    message::{
        DataType, ModelConfigRequest, ModelConfigResponse, ModelInferResponse, ModelStatisticsRequest,
        ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
        RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
    },
};

use crate::{
    grpc::{Client, add},
    replica::Replica,
};

#[tokio::test]
async fn the_configuration_says_what_is_served_and_how() {
    let replica = Replica::start("add").await;
    let tensor = |name| json!({"name": name, "data_type": "TYPE_FP32", "dims": [-1, 3]});
    let expected = json!({
        "name": "add",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [3]}},
        "max_batch_size": 0,
        "input": [tensor("a"), tensor("b")],
        "output": [tensor("sum"), tensor("difference")],
        "instance_group": [{"name": "add", "kind": "KIND_CPU", "count": 1}],
        "default_model_filename": "add.onnx",
    });
    for path in ["/v2/models/add/config", "/v2/models/add/versions/3/config"] {
        assert_eq!(replica.get(path).await.json(), expected);
    }
    assert_eq!(replica.get("/v2/models/add/versions/4/config").await.status, StatusCode::NOT_FOUND);
    let client = Client::of(&replica).await;
    let asked = ModelConfigRequest { name: "add".to_owned(), version: String::new() };
    let config = client.call(Method::ModelConfig, &asked).await.decode::<ModelConfigResponse>().config.unwrap();
    assert_eq!((config.name.as_str(), config.backend.as_str(), config.max_batch_size), ("add", "onnxruntime", 0));
    assert_eq!(config.version_policy.unwrap().specific.unwrap().versions, [3]);
    let inputs: Vec<_> = config.input.iter().map(|input| (&*input.name, input.data_type(), &*input.dims)).collect();
    assert_eq!(inputs, [("a", DataType::Fp32, &[-1, 3][..]), ("b", DataType::Fp32, &[-1, 3])]);
    let other = ModelConfigRequest { name: "other".to_owned(), ..asked };
    client.call(Method::ModelConfig, &other).await.failed(Code::NotFound);
    replica.stop().await;
    let text = Replica::start("identity_bytes").await;
    let config = text.get("/v2/models/identity_bytes/config").await.json();
    assert_eq!(config["input"][0]["data_type"], "TYPE_STRING");
    text.stop().await;
}

#[tokio::test]
async fn statistics_count_users_and_leave_probes_out() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    for _ in 0..3 {
        client.call(Method::ModelInfer, &add()).await.decode::<ModelInferResponse>();
    }
    let tensor =
        |name, rows: usize| json!({"name": name, "datatype": "FP32", "shape": [rows, 3], "data": vec![1; 3 * rows]});
    let body = |a, b| json!({"inputs": [tensor("a", a), tensor("b", b)]}).to_string();
    let probe = replica.client.post(replica.url("/v2/models/add/infer")).body(body(1, 1));
    let probe = probe.header(tradewind_api::gateway::PROBE_HEADER, "1");
    assert_eq!(crate::replica::answer(probe).await.status, StatusCode::OK);
    // One is refused before the model is asked, one by the model itself.
    assert_eq!(replica.infer("add", "{").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(replica.infer("add", body(2, 3)).await.status, StatusCode::BAD_REQUEST);

    let asked = ModelStatisticsRequest { name: "add".to_owned(), version: "3".to_owned() };
    let told: ModelStatisticsResponse = client.call(Method::ModelStatistics, &asked).await.decode();
    let all = ModelStatisticsRequest::default();
    assert_eq!(client.call(Method::ModelStatistics, &all).await.decode::<ModelStatisticsResponse>(), told);
    let [model] = &told.model_stats[..] else { panic!("{told:?}") };
    assert_eq!((model.name.as_str(), model.version.as_str()), ("add", "3"));
    assert_eq!((model.inference_count, model.execution_count), (3, 3));
    assert!(model.last_inference > 1_700_000_000_000, "{model:?}");
    let stats = model.inference_stats.unwrap();
    assert_eq!([stats.success, stats.fail, stats.queue].map(|sum| sum.unwrap().count), [3, 1, 3]);
    let (success, queue) = (stats.success.unwrap(), stats.queue.unwrap());
    let phases = [stats.compute_input, stats.compute_infer, stats.compute_output].map(Option::unwrap);
    assert_eq!(phases.map(|phase| phase.count), [3; 3]);
    assert!(phases.iter().all(|phase| phase.ns > 0), "{phases:?}");
    assert!(success.ns >= queue.ns + phases.iter().map(|phase| phase.ns).sum::<u64>(), "{stats:?}");
    let [batch] = model.batch_stats[..] else { panic!("{model:?}") };
    assert_eq!((batch.batch_size, batch.compute_infer), (1, stats.compute_infer));
    // JSON says the same in the same words.
    for path in ["/v2/models/stats", "/v2/models/add/stats", "/v2/models/add/versions/3/stats"] {
        assert_eq!(replica.get(path).await.json(), serde_json::to_value(&told).unwrap(), "{path}");
    }
    assert_eq!(replica.get("/v2/models/other/stats").await.status, StatusCode::NOT_FOUND);
    replica.stop().await;
}

#[tokio::test]
async fn the_repository_is_the_one_version_and_nobody_changes_that() {
    let replica = Replica::start("add").await;
    let ready = json!([{"name": "add", "version": "3", "state": "READY", "reason": ""}]);
    for body in ["", "{}", r#"{"ready": true}"#, r#"{"ready": false}"#] {
        let answer = replica.post("/v2/repository/index", body).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, ready.clone()), "{body}");
    }
    let check = async |path: &str, body: &'static str, status: StatusCode, expected: &str| {
        let answer = replica.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        let said = if status == StatusCode::OK { answer.text } else { answer.error() };
        assert!(said.contains(expected), "{path} {body}: {said}");
    };
    check("/v2/repository/models/add/load", "", StatusCode::OK, "").await;
    check("/v2/repository/models/add/load", r#"{"parameters": {}}"#, StatusCode::OK, "").await;
    let overridden = r#"{"parameters": {"config": "{}"}}"#;
    check("/v2/repository/models/add/load", overridden, StatusCode::BAD_REQUEST, "a version is immutable").await;
    check("/v2/repository/models/other/load", "", StatusCode::NOT_FOUND, "this replica serves `add`").await;
    check("/v2/repository/models/add/unload", "", StatusCode::FORBIDDEN, "the agent that started this replica").await;
    check("/v2/repository/models/other/unload", "", StatusCode::NOT_FOUND, "this replica serves `add`").await;
    check("/v2/repository/index", "[1]x", StatusCode::BAD_REQUEST, "the request is not valid").await;
    let client = Client::of(&replica).await;
    let index: RepositoryIndexResponse =
        client.call(Method::RepositoryIndex, &RepositoryIndexRequest::default()).await.decode();
    let entries: Vec<_> = index.models.iter().map(|entry| [&*entry.name, &*entry.version, &*entry.state]).collect();
    assert_eq!(entries, [["add", "3", "READY"]]);
    let named = |name: &str| RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() };
    client.call(Method::RepositoryModelLoad, &named("add")).await.decode::<RepositoryModelLoadResponse>();
    client.call(Method::RepositoryModelLoad, &named("other")).await.failed(Code::NotFound);
    let unload = RepositoryModelUnloadRequest { model_name: "add".to_owned(), ..Default::default() };
    client.call(Method::RepositoryModelUnload, &unload).await.failed(Code::PermissionDenied);
    // It still serves.
    client.call(Method::ModelInfer, &add()).await.decode::<ModelInferResponse>();
    replica.stop().await;
}
