//! The reconcilers: level-triggered, woken by watches, reports and timers. They take no input; they read state, ask the
//! planner what to do, and record it. One worker per deployment, while this control plane leads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tradewind_core::ModelName;
use tradewind_store::{Event, Update, list_then_watch};

use crate::{hub::Hub, keys, repository::Repository};

mod leader;
mod sweep;
mod worker;
mod working;

pub use leader::Term;

/// After the store failed, it is asked again so much later.
const STORE_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Reconcilers {
    repository: Repository,
    hub: Arc<Hub>,
}

impl Reconcilers {
    pub fn new(repository: Repository, hub: Arc<Hub>) -> Self {
        Self { repository, hub }
    }

    /// Leads whenever it can, until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let Some(leadership) = leader::acquire(self.repository.store(), &shutdown).await else { return };
            let term = shutdown.child_token();
            let workers = self.lead(leadership.term(), term.clone());
            tokio::select! {
                () = workers => {}
                () = leadership.keep(&shutdown) => term.cancel(),
            }
        }
    }

    /// Runs a worker for each deployment there is.
    async fn lead(&self, term: Term, shutdown: CancellationToken) {
        let mut workers = JoinSet::new();
        let mut wakers: BTreeMap<ModelName, Arc<Notify>> = BTreeMap::new();
        let mut deployments = list_then_watch(self.repository.store().clone(), keys::DEPLOYMENTS);
        loop {
            let update = tokio::select! {
                () = shutdown.cancelled() => break,
                ended = workers.join_next(), if !workers.is_empty() => {
                    if let Some(Ok(model)) = ended {
                        wakers.remove(&model);
                    }
                    continue;
                }
                update = deployments.next() => update,
            };
            let changed = match update {
                None => break,
                Some(Ok(update)) => changed_models(&update),
                Some(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "watching deployments failed");
                    break;
                }
            };
            for model in changed {
                if let Some(waker) = wakers.get(&model) {
                    waker.notify_one();
                    continue;
                }
                let waker = Arc::new(Notify::new());
                let worker = worker::Worker::new(
                    self.repository.clone(),
                    self.hub.clone(),
                    term.clone(),
                    model.clone(),
                    waker.clone(),
                );
                wakers.insert(model, waker);
                workers.spawn(worker.run(shutdown.clone()));
            }
        }
        shutdown.cancel();
        while workers.join_next().await.is_some() {}
    }
}

fn changed_models(update: &Update) -> Vec<ModelName> {
    let keys: Vec<&str> = match update {
        Update::List(listing) | Update::Reset(listing) => listing.kvs.iter().map(|kv| kv.key.as_str()).collect(),
        Update::Batch(batch) => batch.events.iter().map(Event::key).collect(),
    };
    keys.iter().filter_map(|key| key.strip_prefix(keys::DEPLOYMENTS)?.parse().ok()).collect()
}
