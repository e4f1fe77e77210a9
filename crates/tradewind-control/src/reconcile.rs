//! The reconcilers: level-triggered, woken by watches, reports and timers. They take no input; they read state, ask the
//! planner what to do, and record it. One worker per deployment, while this control plane leads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{sync::Notify, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tradewind_core::{ModelName, Timestamp};
use tradewind_store::{Event, Update, list_then_watch};

use crate::{
    hub::{Hub, LOOK_INTERVAL},
    keys,
    monitoring::Ledger,
    repository::Repository,
};

mod in_place;
mod judge;
mod leader;
mod sweep;
mod traced;
mod worker;
mod working;

pub use leader::Term;

/// After the store failed, it is asked again so much later.
const STORE_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Reconcilers {
    repository: Repository,
    hub: Arc<Hub>,
    ledger: Arc<Ledger>,
}

impl Reconcilers {
    pub fn new(repository: Repository, hub: Arc<Hub>) -> Self {
        Self { repository, hub, ledger: Arc::default() }
    }

    /// Rests its judgement on what is counted here.
    pub(crate) fn judging_by(self, ledger: Arc<Ledger>) -> Self {
        Self { ledger, ..self }
    }

    /// Leads whenever it can, until told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let Some(leadership) = leader::acquire(self.repository.store(), &shutdown).await else { return };
            // Ends with the shutdown, with the lease, or with the workers; whichever ends first, the others follow.
            let over = shutdown.child_token();
            let term = leadership.term();
            tokio::join!(self.lead(term, over.clone()), leadership.keep(&over));
        }
    }

    /// Runs a worker for each deployment there is. When this returns, the term is over.
    async fn lead(&self, term: Term, over: CancellationToken) {
        let mut workers = JoinSet::new();
        let mut wakers: BTreeMap<ModelName, Arc<Notify>> = BTreeMap::new();
        let mut deployments = list_then_watch(self.repository.store().clone(), keys::DEPLOYMENTS);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let models = tokio::select! {
                () = over.cancelled() => break,
                _ = looks.tick() => {
                    drop(self.hub.look(Timestamp::now()));
                    continue;
                }
                Some(ended) = workers.join_next() => match ended {
                    Ok(model) => {
                        // Woken after it had seen its deployment gone: the model may have been deployed again.
                        let woken = wakers.remove(&model).and_then(|waker| waker.notified().now_or_never());
                        woken.map(|()| model).into_iter().collect()
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "a worker panicked: the term ends");
                        break;
                    }
                },
                update = deployments.next() => match update {
                    Some(update) => changed_models(&update),
                    None => break,
                },
            };
            for model in models {
                if let Some(waker) = wakers.get(&model) {
                    waker.notify_one();
                    continue;
                }
                let waker = Arc::new(Notify::new());
                let (repository, hub, ledger) = (self.repository.clone(), self.hub.clone(), self.ledger.clone());
                let worker = worker::Worker::new(repository, hub, ledger, term.clone(), model.clone(), waker.clone());
                wakers.insert(model, waker);
                workers.spawn(worker.run(over.clone()));
            }
        }
        over.cancel();
        while workers.join_next().await.is_some() {}
    }
}

fn changed_models(update: &Update) -> Vec<ModelName> {
    let keys: Vec<&str> = match update {
        Update::Reset(listing) => listing.kvs.iter().map(|kv| kv.key.as_str()).collect(),
        Update::Changes(batch) => batch.events.iter().map(Event::key).collect(),
    };
    keys.iter().filter_map(|key| key.strip_prefix(keys::DEPLOYMENTS)?.parse().ok()).collect()
}
