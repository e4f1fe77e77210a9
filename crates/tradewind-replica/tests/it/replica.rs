//! Starts replicas over the models beside these tests.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tradewind_core::batch::BatchOptions;
use tradewind_replica::{Error, Listen, ModelOptions, Models, ReplicaOptions, locate_onnxruntime, run};

/// Far beyond what anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn models() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/models")
}

/// A replica that runs in this process until it is stopped or dropped.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    pub(crate) shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The message of an error, which must have the protocol's form.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {}", self.text)).to_owned()
    }
}

impl Replica {
    /// Serves `<model>.onnx` of `bundle`; does not wait for it to load.
    pub(crate) async fn spawn_in(bundle: PathBuf, model: &str) -> Self {
        Self::spawn_with(model, |options| options.bundle = bundle).await
    }

    pub(crate) async fn spawn_with(model: &str, change: impl FnOnce(&mut ModelOptions)) -> Self {
        let mut options = options(model);
        change(&mut options);
        Self::spawn(Models::One(options)).await
    }

    pub(crate) async fn spawn(models: Models) -> Self {
        if let Err(error) = locate_onnxruntime() {
            panic!("{error}");
        }
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let options = ReplicaOptions { id: "test".to_owned(), models, listen: Listen::Bound(socket) };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(options, shutdown.clone()));
        Self { address, client: client(), shutdown, running }
    }

    /// Serves `model` and waits until it is ready.
    pub(crate) async fn start(model: &str) -> Self {
        Self::start_with(model, |_| {}).await
    }

    pub(crate) async fn start_with(model: &str, change: impl FnOnce(&mut ModelOptions)) -> Self {
        Self::spawn_with(model, change).await.ready().await
    }

    /// Waits until it is.
    pub(crate) async fn ready(self) -> Self {
        let replica = self;
        let ready = async {
            while replica.get("/v2/health/ready").await.status != StatusCode::OK {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.expect("the replica becomes ready");
        replica
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.client.get(self.url(path))).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.client.post(self.url(path)).body(body)).await
    }

    pub(crate) async fn infer(&self, model: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), body).await
    }

    /// Waits until so many inferences are being read, waiting or running.
    pub(crate) async fn in_flight(&self, expected: u64) {
        self.has("tradewind_replica_requests_in_flight", expected).await;
    }

    /// Waits until a metric has this value.
    pub(crate) async fn has(&self, metric: &str, expected: u64) {
        let reached = async {
            while self.metric(metric).await != expected {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{metric} never is {expected}"));
    }

    pub(crate) async fn metric(&self, metric: &str) -> u64 {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {metric}: {text}"))
    }

    /// What `run` returns.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(DEADLINE, self.running).await.expect("the replica ends").expect("without a panic")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await.expect("it stops cleanly");
    }
}

/// Version 3 of `model`, out of `<model>.onnx` beside these tests.
pub(crate) fn options(model: &str) -> ModelOptions {
    ModelOptions {
        model: model.parse().unwrap(),
        version: "3".parse().unwrap(),
        bundle: models(),
        model_file: format!("{model}.onnx"),
        cases: Vec::new(),
        threads: NonZeroUsize::MIN,
        instances: NonZeroUsize::MIN,
        batching: BatchOptions::default(),
    }
}

pub(crate) fn client() -> reqwest::Client {
    // reqwest asks for a provider even where nothing is encrypted; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.timeout(DEADLINE).send().await.expect("the replica answers");
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("the answer is text") }
}
