//! A fake replica: this test binary, run again by a script that stands in for the `tradewind` binary. It serves what
//! its "model" file, a JSON document, tells it to.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tradewind_api::replica::LoadedModel;
use tradewind_core::{
    Digest,
    bundle::{BundleFile, Signature},
    inference::{InferRequest, InferResponse, Tensor},
};

const VARIABLE: &str = "FAKE_REPLICA_COMMAND_LINE";
const HOME_VARIABLE: &str = "FAKE_REPLICA_HOME";
/// Beside the program: the ids of replicas that answer wrongly, or `all`.
pub(crate) const SPOILED_FILE: &str = "spoiled";

/// The "model" of a fake bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FakeModel {
    /// What it answers to everything.
    pub(crate) label: i64,
    /// It ends while it loads, with this as its last word.
    pub(crate) crash: Option<String>,
}

/// A program that takes the command line of `tradewind replica`.
pub(crate) fn program(directory: &Path) -> PathBuf {
    let path = directory.join("fake-tradewind");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&path).unwrap();
    let this = std::env::current_exe().unwrap();
    // `$3` is the id: it stays on the command line, where a successor looks for it.
    writeln!(
        file,
        "#!/bin/sh\n{HOME_VARIABLE}='{}' {VARIABLE}=\"$*\" exec '{}' --exact fake_replica::plays_its_part --nocapture \"$3\"",
        directory.display(),
        this.display()
    )
    .unwrap();
    path
}

#[derive(Debug)]
struct Fake {
    loaded: LoadedModel,
    model: FakeModel,
}

/// The entry of the re-executed binary; as a test of its own it checks that nobody set the variable by mistake.
#[test]
fn plays_its_part() {
    let Ok(command_line) = std::env::var(VARIABLE) else {
        assert!(!std::env::args().any(|argument| argument.starts_with("digits-")));
        return;
    };
    let words: Vec<&str> = command_line.split(' ').collect();
    let flag = |name: &str| words[words.iter().position(|word| *word == name).unwrap() + 1];
    assert_eq!((words[0], words.contains(&"--inherit-listener")), ("replica", true));
    assert!(flag("--threads").parse::<u32>().is_ok());
    let fake = load(&flag, Path::new(flag("--bundle")));
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(serve(fake));
    std::process::exit(0);
}

fn load<'a>(flag: &impl Fn(&str) -> &'a str, bundle: &Path) -> Fake {
    let file = flag("--model-file");
    let content = std::fs::read(bundle.join(file)).unwrap();
    let model: FakeModel = serde_json::from_slice(&content).unwrap();
    println!("loading {}", flag("--id"));
    if let Some(last_word) = &model.crash {
        println!("error: {last_word}");
        std::process::exit(1);
    }
    let digest = Digest::from_bytes(*blake3::hash(&content).as_bytes());
    let files =
        BTreeMap::from([(file.to_owned(), BundleFile { size: content.len() as u64, digest, executable: false })]);
    let loaded = LoadedModel {
        replica: flag("--id").to_owned(),
        model: flag("--model").parse().unwrap(),
        version: flag("--version").parse().unwrap(),
        files,
        signature: crate::world::signature(),
    };
    Fake { loaded, model }
}

async fn serve(fake: Fake) {
    let listener = tradewind_process::inherited_listeners().unwrap().remove(0);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let model = format!("/v2/models/{}", fake.loaded.model);
    let router = Router::new()
        .route("/v2/health/ready", get(async || "{}"))
        .route(&model, get(metadata))
        .route(&format!("{model}/tradewind"), get(loaded))
        .route(&format!("{model}/infer"), post(infer))
        .with_state(Arc::new(fake));
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let until = async move {
        let _ = terminated.recv().await;
    };
    println!("serving");
    axum::serve(listener, router).with_graceful_shutdown(until).await.unwrap();
}

async fn metadata(State(fake): State<Arc<Fake>>) -> Json<Signature> {
    Json(fake.loaded.signature.clone())
}

async fn loaded(State(fake): State<Arc<Fake>>) -> Json<LoadedModel> {
    Json(fake.loaded.clone())
}

async fn infer(State(fake): State<Arc<Fake>>, headers: http::HeaderMap, body: axum::body::Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<InferRequest>(&body) else {
        return (StatusCode::BAD_REQUEST, r#"{"error": "malformed"}"#).into_response();
    };
    assert_eq!(headers.get("x-tradewind-probe").unwrap(), "1");
    let rows = request.inputs[0].shape[0];
    let answer = if is_spoiled(&fake) { fake.model.label + 1 } else { fake.model.label };
    let data = (0..rows).map(|_| answer.into()).collect();
    let label = Tensor {
        name: "label".to_owned(),
        datatype: tradewind_core::inference::Datatype::Int64,
        shape: vec![rows],
        data,
    };
    let model_name = fake.loaded.model.to_string();
    Json(InferResponse { model_name, model_version: None, id: None, outputs: vec![label] }).into_response()
}

fn is_spoiled(fake: &Fake) -> bool {
    let home = PathBuf::from(std::env::var_os(HOME_VARIABLE).unwrap());
    let spoiled = std::fs::read_to_string(home.join(SPOILED_FILE)).unwrap_or_default();
    spoiled.split(' ').any(|id| id == "all" || id == fake.loaded.replica)
}
