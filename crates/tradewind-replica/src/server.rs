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
mod served;

use std::{io, pin::pin, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    gateway::PROBE_HEADER,
    replica::INFERENCE_LIMIT,
    server::{self, Limits, Windows},
};
use tradewind_core::{ModelName, VersionNumber, causes::chain, names::NAME_LIMIT};

pub use self::served::ModelOptions;
use self::{
    failure::Failure,
    places::{BYTES_LIMIT, Places, REQUESTS_LIMIT},
    served::{Served, State, Threads, Visit},
};
use crate::{
    listen::{Listen, ListenError},
    metrics::Reason,
    model::ModelError,
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
    pub models: Models,
    pub listen: Listen,
}

/// Which models, and who decides that they are loaded.
#[derive(Debug)]
pub enum Models {
    /// One, decided by who started the replica. It ends if that does not load.
    One(ModelOptions),
    /// Any number of different names, which clients load and unload. One that does not load leaves the others alone.
    Many(Vec<ModelOptions>),
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
    /// In the order of their names.
    models: Vec<Arc<Served>>,
    /// Whether clients load and unload.
    open: bool,
    threads: Threads,
    /// An inference request has one before its body is read.
    places: Places,
    shutdown: CancellationToken,
}

/// Runs a replica until `shutdown`, then answers what it has accepted. An `Err` means that this process cannot serve:
/// its one model does not load, the socket is gone, an inference thread died.
pub async fn run(options: ReplicaOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let listener = options.listen.open()?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(replica = options.id, %address, "listening");
    }
    let (threads, mut deaths) = Threads::new();
    let server = Arc::new(Server::new(options.id, options.models, threads, shutdown.clone()));
    let service = routes::service(Arc::clone(&server));
    let mut serving = pin!(server::run(listener, service, limits(), shutdown));
    let supervised = async {
        for served in &server.models {
            match served.load(&server.threads).await {
                Ok(()) => {}
                Err(error) if server.open => tracing::error!(error = %chain(&error), "a model is left out"),
                Err(error) => return Err(error),
            }
        }
        // There is a sender as long as there is a server.
        deaths.recv().await;
        Err(Error::ThreadEnded)
    };
    tokio::select! {
        result = supervised => return result,
        // It ends after the shutdown alone, with the last request or the time for it.
        () = &mut serving => {}
    }
    server.stop().await;
    Ok(())
}

/// Requests that came before the shutdown are answered as long as anybody waits for them.
fn limits() -> Limits {
    Limits { http2: Some(WINDOWS), ..Limits::new(CONNECTIONS_LIMIT, INFERENCE_LIMIT) }
}

impl Server {
    fn new(id: String, models: Models, threads: Threads, shutdown: CancellationToken) -> Self {
        let (mut models, open) = match models {
            Models::One(model) => (vec![model], false),
            Models::Many(models) => (models, true),
        };
        models.sort_by(|a, b| a.model.cmp(&b.model));
        let models = models.into_iter().map(|model| Arc::new(Served::new(model))).collect();
        Self { id, models, open, threads, places: Places::new(REQUESTS_LIMIT, BYTES_LIMIT), shutdown }
    }

    /// The model of this name and, if one is named, version; else a 404.
    fn find(&self, model: &str, version: Option<&str>) -> Result<&Arc<Served>, Failure> {
        let shorten = |text: &str| text.chars().take(NAME_LIMIT).collect::<String>();
        let unknown = |message| Failure::new(StatusCode::NOT_FOUND, Reason::UnknownModel, message);
        let position = self.models.binary_search_by(|served| served.name().cmp(model)).map_err(|_| {
            let served = match &self.models[..] {
                [only] => format!("`{}`", only.name()),
                models => format!("{} others", models.len()),
            };
            unknown(format!("this replica serves {served}, not `{}`", shorten(model)))
        })?;
        let served = &self.models[position];
        match version {
            Some(version) if version != served.version => {
                Err(unknown(format!("this replica serves version {}, not `{}`", served.version, shorten(version))))
            }
            _ => Ok(served),
        }
    }

    /// The model that every request means, where there is no other.
    fn only(&self) -> Option<&Arc<Served>> {
        match &self.models[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// A request that has just come.
    fn visit(&self, headers: &HeaderMap) -> Visit {
        let mut visit = Visit::new(headers.contains_key(PROBE_HEADER));
        if let Some(only) = self.only() {
            visit.is_to(only);
        }
        visit
    }

    /// Whether all models are loaded that should be.
    fn is_ready(&self) -> bool {
        let is_well = |served: &Arc<Served>| matches!(&**served.state(), State::Ready(_) | State::Unloaded(None));
        !self.shutdown.is_cancelled() && self.models.iter().all(is_well)
    }

    async fn stop(&self) {
        self.models.iter().for_each(|served| served.stop());
        if tokio::time::timeout(ENGINE_STOP_LIMIT, self.threads.ended()).await.is_err() {
            tracing::warn!("an inference is still running, it ends with the process");
        }
    }
}
