//! A replica of several models, which clients load and unload.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tradewind_api::grpc::{
    Code, Method,
    message::{
        ModelInferRequest, ModelInferResponse, ModelReadyRequest, ModelReadyResponse, RepositoryModelLoadRequest,
        RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    },
};
use tradewind_replica::Models;

use crate::{
    grpc::{Client, add},
    replica::{Replica, models, options},
};

const ADD: &str = r#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,3],"data":[1,2,3]},
    {"name":"b","datatype":"FP32","shape":[1,3],"data":[1,1,1]}]}"#;
const SMALL: &str = r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[7]}]}"#;

pub(crate) async fn start(names: &[&str]) -> Replica {
    Replica::spawn(Models::Many(names.iter().map(|name| options(name)).collect())).await
}

impl Replica {
    pub(crate) async fn ask(&self, what: &str, model: &str) -> StatusCode {
        self.post(&format!("/v2/repository/models/{model}/{what}"), "{}").await.status
    }

    /// The state of each model, with its reason.
    async fn states(&self) -> Vec<(String, String, String)> {
        let index = self.post("/v2/repository/index", "{}").await.json();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let entries = index.as_array().unwrap().iter();
        entries.map(|entry| (text(entry, "name"), text(entry, "state"), text(entry, "reason"))).collect()
    }

    fn state(name: &str, state: &str, reason: &str) -> (String, String, String) {
        (name.to_owned(), state.to_owned(), reason.to_owned())
    }
}

#[tokio::test]
async fn each_model_answers_under_its_name() {
    let replica = start(&["identity_uint8", "add"]).await.ready().await;
    let client = Client::of(&replica).await;
    assert_eq!(replica.infer("add", ADD).await.json()["outputs"][0]["data"], json!([2.0, 3.0, 4.0]));
    assert_eq!(replica.infer("identity_uint8", SMALL).await.json()["outputs"][0]["data"], json!([7]));
    assert_eq!(client.call(Method::ModelInfer, &add()).await.decode::<ModelInferResponse>().model_name, "add");
    let other = replica.infer("other", ADD).await;
    assert_eq!(
        (other.status, other.error()),
        (StatusCode::NOT_FOUND, "this replica serves 2 others, not `other`".to_owned())
    );
    let unknown = ModelInferRequest { model_name: "other".to_owned(), ..add() };
    client.call(Method::ModelInfer, &unknown).await.failed(Code::NotFound);
    let index = [Replica::state("add", "READY", ""), Replica::state("identity_uint8", "READY", "")];
    assert_eq!(replica.states().await, index);
    let counts = |stats: &Value| -> Vec<(String, u64)> {
        let models = stats["model_stats"].as_array().unwrap().iter();
        models.map(|one| (one["name"].as_str().unwrap().to_owned(), one["inference_count"].as_u64().unwrap())).collect()
    };
    let all = counts(&replica.get("/v2/models/stats").await.json());
    assert_eq!(all, [("add".to_owned(), 2), ("identity_uint8".to_owned(), 1)]);
    assert_eq!(counts(&replica.get("/v2/models/add/stats").await.json()), [("add".to_owned(), 2)]);
    let text = replica.get("/metrics").await.text;
    for line in
        ["requests_total{model=\"add\",version=\"3\"} 2", "requests_total{model=\"identity_uint8\",version=\"3\"} 1"]
    {
        assert!(text.contains(&format!("tradewind_replica_{line}\n")), "{line}: {text}");
    }
    replica.stop().await;
}

#[tokio::test]
async fn models_are_unloaded_and_loaded_again() {
    let replica = start(&["add", "identity_uint8"]).await.ready().await;
    let client = Client::of(&replica).await;
    assert_eq!(replica.ask("unload", "add").await, StatusCode::OK);
    assert_eq!(replica.states().await[0], Replica::state("add", "UNAVAILABLE", "unloaded"));
    let refused = replica.infer("add", ADD).await;
    let hint = "`add` is not loaded: POST /v2/repository/models/add/load";
    assert_eq!((refused.status, refused.error().as_str()), (StatusCode::BAD_REQUEST, hint));
    assert_eq!(client.call(Method::ModelInfer, &add()).await.failed(Code::InvalidArgument), hint);
    assert_eq!(replica.get("/v2/models/add/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(replica.get("/v2/health/ready").await.status, StatusCode::OK, "what was unloaded is not missing");
    assert_eq!(replica.infer("identity_uint8", SMALL).await.status, StatusCode::OK);
    assert_eq!(replica.ask("unload", "add").await, StatusCode::OK, "once more changes nothing");

    let asked = RepositoryModelLoadRequest { model_name: "add".to_owned(), ..Default::default() };
    client.call(Method::RepositoryModelLoad, &asked).await.decode::<RepositoryModelLoadResponse>();
    let ready = ModelReadyRequest { name: "add".to_owned(), version: String::new() };
    assert!(client.call(Method::ModelReady, &ready).await.decode::<ModelReadyResponse>().ready);
    assert_eq!(replica.infer("add", ADD).await.status, StatusCode::OK);
    let asked = RepositoryModelUnloadRequest { model_name: "add".to_owned(), ..Default::default() };
    client.call(Method::RepositoryModelUnload, &asked).await.decode::<RepositoryModelUnloadResponse>();
    assert_eq!(replica.ask("load", "add").await, StatusCode::OK);
    assert_eq!(replica.ask("load", "other").await, StatusCode::NOT_FOUND);
    assert_eq!(replica.ask("unload", "other").await, StatusCode::NOT_FOUND);
    replica.stop().await;
}

#[tokio::test]
async fn a_model_that_does_not_load_leaves_the_others_alone() {
    let bundle = tempfile::tempdir().unwrap();
    let mut broken = options("add");
    (broken.model, broken.bundle) = ("broken".parse().unwrap(), bundle.path().to_owned());
    let path = bundle.path().join("add.onnx");
    std::fs::write(&path, "garbage").unwrap();
    let replica = Replica::spawn(Models::Many(vec![broken, options("identity_uint8")])).await;
    let (name, state, reason) = loop {
        let states = replica.states().await;
        if states.iter().all(|(_, state, _)| state != "LOADING") {
            break states[0].clone();
        }
    };
    assert_eq!((name.as_str(), state.as_str()), ("broken", "UNAVAILABLE"));
    assert!(reason.starts_with("could not load broken 3: add.onnx is not an ONNX model"), "{reason}");
    assert_eq!(replica.infer("identity_uint8", SMALL).await.status, StatusCode::OK);
    assert_eq!(replica.get("/v2/health/ready").await.status, StatusCode::SERVICE_UNAVAILABLE, "it is missing");

    // Once its file is mended it loads; a file that breaks again takes nothing away.
    std::fs::copy(models().join("add.onnx"), &path).unwrap();
    assert_eq!(replica.ask("load", "broken").await, StatusCode::OK);
    assert_eq!(replica.infer("broken", ADD).await.status, StatusCode::OK);
    assert_eq!(replica.get("/v2/health/ready").await.status, StatusCode::OK);
    std::fs::write(&path, "garbage").unwrap();
    let refused = replica.post("/v2/repository/models/broken/load", "").await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.error().contains("is not an ONNX model"), "{}", refused.text);
    assert_eq!(replica.infer("broken", ADD).await.status, StatusCode::OK);
    replica.stop().await;
}

#[tokio::test]
async fn what_was_asked_before_is_answered_while_models_come_and_go() {
    let replica = start(&["add"]).await.ready().await;
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let (client, url) = (replica.client.clone(), replica.url("/v2/models/add/infer"));
        asking.spawn(async move {
            let (mut answered, mut refused) = (0, 0);
            while answered < 200 || refused == 0 {
                let status = client.post(&url).body(ADD).send().await.unwrap().status();
                match status {
                    StatusCode::OK => answered += 1,
                    StatusCode::BAD_REQUEST | StatusCode::SERVICE_UNAVAILABLE => refused += 1,
                    other => panic!("{other}"),
                }
            }
        });
    }
    // Loading a model that is loaded takes nothing from anybody; unloading it refuses, and breaks nothing off.
    while !asking.is_empty() {
        assert_eq!(replica.ask("load", "add").await, StatusCode::OK);
        assert_eq!(replica.ask("unload", "add").await, StatusCode::OK);
        assert_eq!(replica.ask("load", "add").await, StatusCode::OK);
        while let Some(asked) = asking.try_join_next() {
            asked.unwrap();
        }
    }
    replica.stop().await;
}
