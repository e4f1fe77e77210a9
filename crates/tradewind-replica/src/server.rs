//! The life of a replica: listen at once, load, warm up, serve, drain.

mod failure;
mod infer;
mod routes;

use std::{
    future::IntoFuture,
    io,
    num::NonZeroUsize,
    path::PathBuf,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::serve::ListenerExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tradewind_core::{ModelName, VersionNumber};

use crate::{
    engine::{self, Engine, QUEUE_LIMIT},
    listen::{Listen, ListenError},
    metrics::Metrics,
    model::{ModelError, Source},
};

/// Requests that came before the shutdown have this long to be answered.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// The inference thread has this long to end after the drain.
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
    /// Threads of ONNX Runtime for one inference.
    pub threads: NonZeroUsize,
    pub listen: Listen,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("could not load {model} {version}")]
    Load { model: ModelName, version: VersionNumber, source: Box<ModelError> },
    #[error("could not start the inference thread")]
    Thread(#[source] io::Error),
    #[error("the inference thread ended unexpectedly")]
    ThreadEnded,
    #[error("could not serve requests")]
    Serve(#[source] io::Error),
}

/// What the routes share.
#[derive(Debug)]
struct Server {
    id: String,
    model: ModelName,
    version: VersionNumber,
    /// The version as the protocol spells it.
    version_text: String,
    /// Set once the model is loaded and warm.
    engine: OnceLock<Engine>,
    /// One permit per inference request, taken before its body is read: it bounds the memory of bodies too.
    admission: Arc<Semaphore>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

/// Runs a replica until `shutdown`, then answers what it has accepted. An `Err` means that this process cannot serve:
/// the model does not load, the socket is gone, the inference thread died.
pub async fn run(options: ReplicaOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let ReplicaOptions { id, model, version, bundle, model_file, threads, listen } = options;
    let listener = listen.open().await?;
    let starting =
        engine::start(move || Source::read(&bundle, &model_file)?.load(threads.get())).map_err(Error::Thread)?;
    let server = Arc::new(Server {
        id,
        version_text: version.to_string(),
        model,
        version,
        engine: OnceLock::new(),
        admission: Arc::new(Semaphore::new(QUEUE_LIMIT)),
        metrics: Metrics::default(),
        shutdown: shutdown.clone(),
    });
    let listener = listener.tap_io(|stream| {
        // An answer is written at once; waiting for more to send would only add delay.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
    });
    let serving = axum::serve(listener, routes::router(Arc::clone(&server)));
    let mut serving = pin!(serving.with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future());
    let engine::Starting { ready, ended } = starting;
    let mut ended = pin!(ended);
    let supervised = async {
        let loaded = ready.await.map_err(|_| Error::ThreadEnded)?;
        server.become_ready(loaded.map_err(|source| server.load_error(source))?);
        // Only an end sends something on this channel, by dropping it.
        let _ = ended.as_mut().await;
        Err::<(), Error>(Error::ThreadEnded)
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        result = supervised => return result,
        result = &mut serving => return result.map_err(Error::Serve),
    }
    match tokio::time::timeout(DRAIN_LIMIT, serving).await {
        Ok(result) => result.map_err(Error::Serve)?,
        Err(_) => tracing::warn!(limit_s = DRAIN_LIMIT.as_secs(), "requests were cut off, they outlasted the drain"),
    }
    server.stop(ended).await;
    Ok(())
}

impl Server {
    fn become_ready(&self, engine: Engine) {
        tracing::info!(replica = self.id, model = %self.model, version = %self.version, "ready");
        assert!(self.engine.set(engine).is_ok(), "a replica loads its model once");
    }

    fn load_error(&self, source: ModelError) -> Error {
        Error::Load { model: self.model.clone(), version: self.version, source: Box::new(source) }
    }

    fn is_ready(&self) -> bool {
        self.engine.get().is_some() && !self.shutdown.is_cancelled()
    }

    async fn stop(&self, ended: impl Future) {
        let Some(engine) = self.engine.get() else { return };
        let stopped = async {
            engine.stop().await;
            ended.await;
        };
        if tokio::time::timeout(ENGINE_STOP_LIMIT, stopped).await.is_err() {
            tracing::warn!("an inference is still running, it ends with the process");
        }
    }
}
