//! What every request handler has at hand.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tradewind_api::{Code, Problem, auth::Authority, ndjson};
use tradewind_artifacts::BlobStore;
use tradewind_core::{Timestamp, region::Region};
use tradewind_store::Incarnation;

use crate::{
    api::metrics::Requests,
    assignments::AssignmentChanges,
    events::EventLog,
    fleet::Published,
    hub::Hub,
    keys,
    members::Members,
    monitoring::{Couriers, Ledger},
    publish::Publisher,
    repository::{self, Repository},
    view::sight::{Regions, Sight},
};

/// The most streams at a time: agents, gateways, watchers and followers together.
pub(crate) const STREAMS_LIMIT: usize = 20_000;

#[derive(Debug)]
pub(crate) struct App {
    pub data_dir: PathBuf,
    pub repository: Repository,
    pub hub: Arc<Hub>,
    pub authority: Authority,
    pub mesh_token: String,
    pub incarnation: Incarnation,
    pub assignments: Arc<AssignmentChanges>,
    pub blobs: BlobStore,
    /// Of pinned users.
    pub tables: BlobStore,
    pub publisher: Publisher,
    pub events: Arc<EventLog>,
    pub members: Arc<Members>,
    pub ledger: Arc<Ledger>,
    pub couriers: Arc<Couriers>,
    pub published: watch::Receiver<Arc<Published>>,
    /// To fetch logs from agents.
    pub http: reqwest::Client,
    pub requests: Requests,
    /// Whether the reconcilers run.
    pub reconciling: AtomicBool,
    pub streams: Arc<Semaphore>,
    pub shutdown: CancellationToken,
}

impl App {
    pub(crate) fn is_reconciling(&self) -> bool {
        self.reconciling.load(Ordering::Relaxed)
    }

    pub(crate) async fn regions(&self) -> repository::Result<Regions> {
        let regions = self.repository.list::<Region>(keys::REGIONS).await?.values();
        Ok(regions.into_iter().map(|region| (region.name.clone(), region)).collect())
    }

    /// Looks at the world as it is now. The hub is held meanwhile, so `look` makes a document and no more.
    pub(crate) fn look<T>(&self, regions: &Regions, look: impl FnOnce(&Sight<'_>) -> T) -> T {
        let seen = self.hub.seen();
        look(&Sight::new(regions, &seen, Timestamp::now()))
    }

    /// As [`look`](Self::look), for what takes longer: at a copy, so that no report waits for it.
    pub(crate) fn study<T>(&self, regions: &Regions, study: impl FnOnce(&Sight<'_>) -> T) -> T {
        let seen = self.hub.seen().clone();
        study(&Sight::new(regions, &seen, Timestamp::now()))
    }

    /// Answers with a stream that ends when the control plane stops.
    ///
    /// A task of its own makes the items, so that a client that does not read holds up no read of the store, and has at
    /// most two items waiting.
    pub(crate) fn stream<T: Serialize + Send + 'static>(
        &self,
        items: impl Stream<Item = T> + Send + 'static,
    ) -> Result<axum::response::Response, Problem> {
        let permit = self.stream_permit()?;
        let shutdown = self.shutdown.clone();
        let (sender, receiver) = mpsc::channel(1);
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            let _permit = permit;
            let mut items = std::pin::pin!(items.take_until(shutdown.cancelled_owned()));
            while let Some(item) = items.next().await {
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        }));
        Ok(ndjson::respond(ReceiverStream::new(receiver).map(move |item| {
            // The task lives as long as the one who reads.
            let _ = &task;
            item
        })))
    }

    /// The right to one stream, for as long as it is held.
    pub(crate) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Problem::new(Code::Unavailable, format!("{STREAMS_LIMIT} streams are open, and that is the limit"))
                .hint("try again later, or watch less")
        })
    }
}
