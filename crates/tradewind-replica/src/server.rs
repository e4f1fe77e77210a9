//! The life of a replica: listen at once, load, warm up, serve, drain.

mod body;
mod coding;
mod conversation;
mod failure;
mod grpc;
mod infer;
pub(crate) mod places;
mod repository;
mod rest;
mod routes;

use std::{
    io,
    num::NonZeroUsize,
    path::PathBuf,
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    gateway::PROBE_HEADER,
    replica::INFERENCE_LIMIT,
    server::{self, Limits, Windows},
};
use tradewind_core::{ModelName, VersionNumber, batch::BatchOptions, names::NAME_LIMIT};
use tradewind_traces::Kind;

use self::{
    failure::Failure,
    places::{BYTES_LIMIT, Places, REQUESTS_LIMIT},
};
use crate::{
    engine::{self, Ended, Engine},
    listen::{Listen, ListenError},
    metrics::{Metrics, Reason},
    model::{ModelError, Sessions, Source},
    stats::Statistics,
};

/// The most connections at once.
const CONNECTIONS_LIMIT: usize = 4096;
/// What may be under way to here on one HTTP/2 stream: small enough for many, large enough that a large tensor does not
/// wait for leave to be sent.
const WINDOWS: Windows = Windows { stream: 4 << 20, connection: 16 << 20 };
/// The inference threads have this long to end after the drain.
const ENGINE_STOP_LIMIT: Duration = Duration::from_secs(1);

/// What one replica serves, and where.
#[derive(Debug)]
pub struct ReplicaOptions {
    /// Unique on the machine; the agent finds its replicas by it.
    pub id: String,
    pub model: ModelName,
    pub version: VersionNumber,
    /// The installed bundle.
    pub bundle: PathBuf,
    /// Relative to the bundle.
    pub model_file: String,
    /// Golden cases that it is warmed up on, relative to the bundle. One that the model does not take is a model that does
    /// not load.
    pub cases: Vec<String>,
    /// Threads of ONNX Runtime for one inference.
    pub threads: NonZeroUsize,
    /// Inferences that run side by side, each in a session of its own.
    pub instances: NonZeroUsize,
    pub batching: BatchOptions,
    pub listen: Listen,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("could not load {model} {version}")]
    Load { model: ModelName, version: VersionNumber, source: Box<ModelError> },
    #[error("could not start an inference thread")]
    Thread(#[source] io::Error),
    #[error("an inference thread ended unexpectedly")]
    ThreadEnded,
}

/// What the routes share.
#[derive(Debug)]
struct Server {
    id: String,
    model: ModelName,
    version: VersionNumber,
    /// The version as the protocol spells it.
    version_text: String,
    /// Relative to the bundle.
    model_file: String,
    /// Set once the model is loaded and warm.
    engine: OnceLock<Engine>,
    /// How long that took, set with it.
    loaded_in: OnceLock<Duration>,
    /// An inference request has one before its body is read.
    places: Places,
    metrics: Metrics,
    statistics: Statistics,
    shutdown: CancellationToken,
}

/// Runs a replica until `shutdown`, then answers what it has accepted. An `Err` means that this process cannot serve:
/// the model does not load, the socket is gone, the inference thread died.
pub async fn run(options: ReplicaOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let ReplicaOptions { id, model, version, bundle, model_file, cases, threads, instances, batching, listen } =
        options;
    let listener = listen.open().await?;
    let file = model_file.clone();
    let mut loading = tradewind_traces::child("load", Kind::Internal, tradewind_traces::started_in());
    let began = Instant::now();
    let sessions = Sessions { count: instances.get(), threads: threads.get() };
    let load = move || Source::read(&bundle, &file)?.load(sessions, &cases);
    let starting = engine::start(load, batching).map_err(Error::Thread)?;
    let server = Arc::new(Server {
        id,
        version_text: version.to_string(),
        model,
        version,
        model_file,
        engine: OnceLock::new(),
        loaded_in: OnceLock::new(),
        places: Places::new(REQUESTS_LIMIT, BYTES_LIMIT),
        metrics: Metrics::new(),
        statistics: Statistics::default(),
        shutdown: shutdown.clone(),
    });
    let service = routes::service(Arc::clone(&server));
    let mut serving = pin!(server::run(listener, service, limits(), shutdown.clone()));
    let engine::Starting { ready, mut ended } = starting;
    let supervised = async {
        let loaded = ready.await.map_err(|_| Error::ThreadEnded)?;
        if let (Some(span), Err(error)) = (&mut loading, &loaded) {
            span.fail(error.to_string());
        }
        drop(loading);
        server.become_ready(loaded.map_err(|source| server.load_error(source))?, began.elapsed());
        ended.any().await;
        Err::<(), Error>(Error::ThreadEnded)
    };
    tokio::select! {
        result = supervised => return result,
        // It ends after the shutdown alone, with the last request or the time for it.
        () = &mut serving => {}
    }
    server.stop(ended).await;
    Ok(())
}

/// Requests that came before the shutdown are answered as long as anybody waits for them.
fn limits() -> Limits {
    Limits { http2: Some(WINDOWS), ..Limits::new(CONNECTIONS_LIMIT, INFERENCE_LIMIT) }
}

impl Server {
    fn become_ready(&self, engine: Engine, loaded_in: Duration) {
        tracing::info!(replica = self.id, model = %self.model, version = %self.version, "ready");
        self.loaded_in.get_or_init(|| loaded_in);
        assert!(self.engine.set(engine).is_ok(), "a replica loads its model once");
    }

    fn load_error(&self, source: ModelError) -> Error {
        Error::Load { model: self.model.clone(), version: self.version, source: Box::new(source) }
    }

    /// A 404 unless the names are those of what this replica serves.
    fn check_name(&self, model: &str, version: Option<&str>) -> Result<(), Failure> {
        let shorten = |text: &str| text.chars().take(NAME_LIMIT).collect::<String>();
        let unknown = |message| Err(Failure::new(StatusCode::NOT_FOUND, Reason::UnknownModel, message));
        if model != self.model.as_str() {
            return unknown(format!("this replica serves `{}`, not `{}`", self.model, shorten(model)));
        }
        match version {
            Some(version) if version != self.version_text => {
                unknown(format!("this replica serves version {}, not `{}`", self.version, shorten(version)))
            }
            _ => Ok(()),
        }
    }

    /// Counts an inference, unless it is a probe.
    fn came(&self, headers: &HeaderMap) {
        if !headers.contains_key(PROBE_HEADER) {
            self.metrics.request();
        }
    }

    /// Counts an inference that was answered, unless it is a probe.
    fn answered(&self, headers: &HeaderMap, took: Duration) {
        if !headers.contains_key(PROBE_HEADER) {
            self.metrics.answer(took);
        }
    }

    /// Counts an inference that came to nothing, unless it is a probe.
    fn failed(&self, headers: &HeaderMap, failure: &Failure) {
        if !headers.contains_key(PROBE_HEADER) {
            self.metrics.error(failure.reason);
        }
    }

    fn is_ready(&self) -> bool {
        self.engine.get().is_some() && !self.shutdown.is_cancelled()
    }

    async fn stop(&self, mut ended: Ended) {
        let Some(engine) = self.engine.get() else { return };
        engine.stop();
        if tokio::time::timeout(ENGINE_STOP_LIMIT, ended.all()).await.is_err() {
            tracing::warn!("an inference is still running, it ends with the process");
        }
    }
}
