//! What gateways are told, made once for all of them whenever routes, regions or members change.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    gateway::config::{ConfigMessage, Edition, diff},
    ndjson::CHECK_INTERVAL,
};
use tradewind_core::{
    Digest, Timestamp,
    deployment::Deployment,
    drill::Drill,
    region::{Member, Region},
    route::Route,
};
use tradewind_store::Incarnation;

use crate::{
    changes::Changes,
    keys,
    repository::{Repository, Result},
    view::snapshot::{self, SnapshotParts},
};

/// The JSON of a [`ConfigMessage`].
pub(crate) type Encoded = Arc<RawValue>;

/// After the store failed, the snapshot is made again so much later.
const RETRY: Duration = Duration::from_secs(1);

/// An edition as it is sent.
#[derive(Debug)]
pub(crate) struct Published {
    edition: Edition,
    whole: Encoded,
    /// To those who have the edition before.
    step: Option<(Digest, Encoded)>,
}

impl Published {
    fn first(edition: Edition) -> Self {
        Self { whole: encode(&ConfigMessage::Snapshot(edition.clone())), step: None, edition }
    }

    /// `None` when nothing is new but the store's revision.
    fn after(&self, edition: Edition) -> Option<Self> {
        let delta = diff(&self.edition, &edition);
        if delta.as_ref().is_some_and(|delta| delta.is_empty()) {
            return None;
        }
        let step = delta.map(|delta| (self.edition.digest, encode(&ConfigMessage::Delta(delta))));
        Some(Self { step, ..Self::first(edition) })
    }

    /// What brings somebody who has `sent` to this edition.
    fn since(&self, sent: &Edition) -> Encoded {
        match &self.step {
            Some((base, step)) if *base == sent.digest => step.clone(),
            // Several editions were made while one was sent.
            _ => diff(sent, &self.edition)
                .map_or_else(|| self.whole.clone(), |delta| encode(&ConfigMessage::Delta(delta))),
        }
    }
}

fn encode(message: &ConfigMessage) -> Encoded {
    serde_json::value::to_raw_value(message).expect("wire types have string keys and finite numbers").into()
}

/// One gateway's stream.
#[derive(Debug)]
pub(crate) struct Follower {
    published: watch::Receiver<Arc<Published>>,
    sent: Option<Edition>,
}

impl Follower {
    pub(crate) fn new(published: watch::Receiver<Arc<Published>>) -> Self {
        Self { published, sent: None }
    }

    /// The next message; `None` when nobody publishes any more.
    pub(crate) async fn next(&mut self) -> Option<Encoded> {
        if self.sent.is_some() {
            match tokio::time::timeout(CHECK_INTERVAL, self.published.changed()).await {
                Ok(changed) => changed.ok()?,
                Err(_) => {
                    let digest = self.published.borrow().edition.digest;
                    return Some(encode(&ConfigMessage::Current { digest }));
                }
            }
        }
        let published = self.published.borrow_and_update().clone();
        let before = self.sent.replace(published.edition.clone());
        Some(before.map_or_else(|| published.whole.clone(), |sent| published.since(&sent)))
    }
}

/// Keeps the snapshot current.
#[derive(Debug)]
pub(crate) struct Fleet {
    repository: Repository,
    incarnation: Incarnation,
    mesh_token: String,
    current: watch::Sender<Arc<Published>>,
}

impl Fleet {
    /// Makes the first snapshot.
    pub(crate) async fn load(
        repository: Repository,
        incarnation: Incarnation,
        mesh_token: String,
    ) -> Result<(Self, watch::Receiver<Arc<Published>>)> {
        let first = read(&repository, &incarnation, &mesh_token).await?;
        let (current, receiver) = watch::channel(Arc::new(Published::first(first)));
        Ok((Self { repository, incarnation, mesh_token, current }, receiver))
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let prefixes = [keys::ROUTES, keys::REGIONS, keys::MEMBERS, keys::DRILL].map(str::to_owned);
        let mut changes = Changes::of(self.repository.store(), prefixes);
        let mut wait = CHECK_INTERVAL;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                open = changes.wait() => if !open { return },
                // Also without a change, should one not have been told.
                () = tokio::time::sleep(wait) => {}
            }
            match read(&self.repository, &self.incarnation, &self.mesh_token).await {
                Ok(edition) => {
                    wait = CHECK_INTERVAL;
                    let next = self.current.borrow().after(edition);
                    if let Some(next) = next {
                        self.current.send_replace(Arc::new(next));
                    }
                }
                // They keep the last good one.
                Err(error) => {
                    wait = RETRY;
                    tracing::warn!(error = &error as &dyn std::error::Error, "gateways cannot be told of a change");
                }
            }
        }
    }
}

async fn read(repository: &Repository, incarnation: &Incarnation, mesh_token: &str) -> Result<Edition> {
    let routes = repository.list::<Route>(keys::ROUTES).await?;
    let revision = routes.revision;
    let regions = repository.list_at::<Region>(keys::REGIONS, revision).await?;
    let members = repository.list_at::<Member>(keys::MEMBERS, revision).await?;
    let deployments = repository.list_at::<Deployment>(keys::DEPLOYMENTS, revision).await?;
    let now = Timestamp::now();
    let drills = repository.list_at::<Drill>(keys::DRILL, revision).await?.values();
    let deployed = deployments.values().iter().filter(|deployment| deployment.live.is_some()).count();
    let parts = SnapshotParts {
        revision,
        deployed,
        routes: routes.values(),
        regions: regions.values(),
        members: members.values(),
        drill: drills.into_iter().find(|drill| drill.runs(now)),
    };
    Ok(Edition::new(snapshot::view(parts, incarnation, mesh_token)))
}

#[cfg(test)]
mod tests {
    use tradewind_core::{Epoch, RevisionNumber, Slot, VersionNumber, deployment::HealthPolicy, route::RouteState};
    use tradewind_store::{MAX_TXN_OPS, SqliteOptions, SqliteStore, Txn};

    use super::*;
    use crate::repository::put;

    const MODELS: usize = 1000;
    const DEADLINE: Duration = Duration::from_secs(60);

    fn route(number: usize, epoch: u64) -> Route {
        let regions = ["asia-northeast1", "europe-west1", "us-east1"].map(|name| name.parse().unwrap()).into();
        let state = RouteState {
            epoch: Epoch(epoch),
            live: Slot::Blue,
            revision: RevisionNumber(epoch),
            version: VersionNumber(1),
            regions,
            health: HealthPolicy::default(),
            region_health: Default::default(),
            stay_in: Default::default(),
            candidate: None,
        };
        Route {
            model: format!("model-{number:04}").parse().unwrap(),
            committed: Some(state),
            prepared: None,
            pins: Default::default(),
        }
    }

    fn write(route: &Route) -> tradewind_store::Op {
        put(keys::route(&route.model), route)
    }

    #[tokio::test]
    async fn a_switch_of_one_of_many_models_sends_that_model_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
        let repository = Repository::new(store, None);
        let routes: Vec<Route> = (0..MODELS).map(|number| route(number, 1)).collect();
        for batch in routes.chunks(MAX_TXN_OPS) {
            repository.commit(batch.iter().map(write).fold(Txn::new(), Txn::then)).await.unwrap();
        }
        let incarnation = repository.store().incarnation().await.unwrap();
        let (fleet, published) = Fleet::load(repository.clone(), incarnation, "mesh".to_owned()).await.unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(fleet.run(stop.clone()));

        let mut gateways: Vec<_> = (0..3).map(|_| (Follower::new(published.clone()), None)).collect();
        let mut sizes = Vec::new();
        for epoch in [1, 2] {
            if epoch == 2 {
                repository.commit(Txn::new().then(write(&route(500, epoch)))).await.unwrap();
            }
            for (follower, held) in &mut gateways {
                let line = tokio::time::timeout(DEADLINE, follower.next()).await.unwrap().unwrap();
                sizes.push(line.get().len());
                let message: ConfigMessage = serde_json::from_str(line.get()).unwrap();
                *held = Some(message.onto(held.as_ref()).unwrap());
            }
        }
        for held in gateways.iter().map(|(_, held)| held.as_ref().unwrap()) {
            let mut expected = routes.clone();
            expected[500] = route(500, 2);
            assert_eq!(held.snapshot.routes, expected);
        }
        assert!(sizes[..3].iter().all(|size| *size > 100 * MODELS), "a snapshot has all models: {sizes:?}");
        assert!(sizes[3..].iter().all(|size| *size < 1000), "a delta has one: {sizes:?}");
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_hears_nothing_new_is_told_what_is_current() {
        let edition = |revision, mesh_token: &str| {
            let parts = SnapshotParts {
                revision: tradewind_store::Revision::new(revision),
                deployed: 0,
                routes: Vec::new(),
                regions: Vec::new(),
                members: Vec::new(),
                drill: None,
            };
            Edition::new(snapshot::view(parts, &Incarnation::from_stored("one".to_owned()), mesh_token))
        };
        let (current, published) = watch::channel(Arc::new(Published::first(edition(1, "mesh"))));
        let mut follower = Follower::new(published);
        let mut held = None;
        let mut next = async || {
            let line = follower.next().await.unwrap();
            let message: ConfigMessage = serde_json::from_str(line.get()).unwrap();
            held = Some(message.clone().onto(held.as_ref()).unwrap());
            (message, held.clone().unwrap())
        };
        next().await;
        let (message, _) = next().await;
        assert_eq!(message, ConfigMessage::Current { digest: edition(1, "mesh").digest });
        assert!(current.borrow().after(edition(2, "mesh")).is_none(), "the revision alone is no news");
        for revision in 3..6 {
            let published = current.borrow().after(edition(revision, &format!("mesh {revision}"))).unwrap();
            current.send_replace(Arc::new(published));
        }
        let (message, held) = next().await;
        assert!(matches!(message, ConfigMessage::Delta(_)), "of all that was missed");
        assert_eq!(held, edition(5, "mesh 5"));
    }
}
