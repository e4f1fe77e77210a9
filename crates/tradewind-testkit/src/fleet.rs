//! A fleet in one process: a real store and real reconcilers, and agents and gateways that do at once what they are
//! told. What it runs is the control plane's own work and nothing else, so tests can stop it after any commit, and
//! benchmarks can weigh it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tradewind_api::{
    Problem,
    deploy::{DeployAnswer, DeployRequest, MoveAnswer, PinRequest, RollbackRequest, SwitchRequest, UnpinRequest},
};
use tradewind_artifacts::BlobStore;
use tradewind_control::{
    admission,
    assignments::AssignmentChanges,
    hub::Hub,
    keys,
    reconcile::Reconcilers,
    repository::{Repository, put},
};
use tradewind_core::{
    Digest, ModelName, RegionName, Slot, Timestamp, VersionNumber,
    bundle::{ModelHead, ModelVersion},
    deployment::Deployment,
    region::Region,
    rollout::Rollout,
    route::Route,
};
use tradewind_store::{SqliteOptions, SqliteStore, Store, Txn, list_then_watch};

mod agent;
mod crash;
mod gateway;
mod traces;

use agent::{Agent, Orders};
pub use agent::{Begun, Behaviour};
pub use crash::CrashingStore;
use gateway::{Condition, Gateway};
pub use traces::Traces;

/// Puts of regions in one transaction.
const BATCH: usize = 100;
/// The model that a fleet has, in two versions.
pub const MODEL: &str = "digits";

/// The store, the agents and the gateways. Control planes come and go: see [`Fleet::control`].
#[derive(Debug)]
pub struct Fleet {
    store: SqliteStore,
    repository: Repository,
    regions: Vec<RegionName>,
    gateways: usize,
    /// Of the control plane that agents and gateways report to.
    hub: watch::Sender<Arc<Hub>>,
    orders: Arc<Orders>,
    gateways_are: watch::Sender<Condition>,
    tasks: TaskTracker,
    stop: CancellationToken,
    tables: BlobStore,
    _directory: TempDir,
}

impl Fleet {
    /// Regions `r0000`, `r0001`, ... with an agent each, and so many gateways.
    pub async fn start(regions: usize, gateways: usize) -> Result<Self> {
        let directory = tempfile::tempdir().context("making a directory for the store")?;
        let store = SqliteStore::open(&directory.path().join("state"), SqliteOptions::default())?;
        let tables = BlobStore::open(directory.path().join("tables")).await?;
        let repository = Repository::new(Arc::new(store.clone()), None);
        let regions = (0..regions).map(region).collect();
        let hub = watch::Sender::new(Arc::new(Hub::new(Timestamp::now())));
        let (orders, tasks, stop) = (Arc::default(), TaskTracker::new(), CancellationToken::new());
        let gateways_are = watch::Sender::default();
        let fleet = Self {
            store,
            repository,
            regions,
            gateways,
            hub,
            orders,
            gateways_are,
            tasks,
            stop,
            tables,
            _directory: directory,
        };
        fleet.register().await?;
        let changes = Arc::new(AssignmentChanges::default());
        for region in &fleet.regions {
            let agent = Agent::new(region.clone(), fleet.hub.subscribe(), fleet.orders.clone());
            fleet.tasks.spawn(agent.run(fleet.repository.clone(), changes.of(region), fleet.stop.clone()));
        }
        fleet.tasks.spawn(changes.run(Arc::new(fleet.store.clone()), fleet.stop.clone()));
        for number in 0..gateways {
            let gateway = Gateway::new(&fleet.regions, number, fleet.hub.subscribe(), fleet.gateways_are.subscribe());
            fleet.tasks.spawn(gateway.run(fleet.repository.clone(), fleet.stop.clone()));
        }
        Ok(fleet)
    }

    /// Writes down the regions and the model.
    async fn register(&self) -> Result<()> {
        for batch in self.regions.chunks(BATCH) {
            let puts = batch
                .iter()
                .map(|name| put(keys::region(name), &Region { name: name.clone(), location: None, drained: false }));
            self.repository.commit(puts.fold(Txn::new(), Txn::then)).await?;
        }
        let head = ModelHead { name: model(), latest: VersionNumber(2) };
        let txn = Txn::new()
            .then(put(keys::model(&model()), &head))
            .then(put(keys::version(&model(), VersionNumber(1)), &version(1)))
            .then(put(keys::version(&model(), VersionNumber(2)), &version(2)));
        self.repository.commit(txn).await?;
        Ok(())
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub fn store(&self) -> &SqliteStore {
        &self.store
    }

    pub fn regions(&self) -> &[RegionName] {
        &self.regions
    }

    /// From now on a region's agent behaves so.
    pub fn order(&self, region: &RegionName, behaviour: Behaviour) {
        self.orders.give(region, behaviour);
    }

    /// From now on gateways report, and take up nothing new; or do again.
    pub fn deafen(&self, deaf: bool) {
        self.gateways_are.send_modify(|condition| condition.deaf = deaf);
    }

    /// From now on users have so many requests in flight by way of each gateway.
    pub fn load(&self, in_flight: f64) {
        self.gateways_are.send_modify(|condition| condition.in_flight = in_flight);
    }

    /// Waits until there is a leader and all agents and gateways have reported.
    pub async fn ready(&self, deadline: Duration) -> Result<()> {
        self.changes(keys::LEADER, deadline, async |repository| Ok(repository.store().get(keys::LEADER).await?))
            .await?;
        let hub = self.reported_to();
        let mut changes = hub.changes();
        let reported = async {
            loop {
                let (agents, gateways) = {
                    let seen = hub.seen();
                    (seen.agents.len(), seen.gateways.values().filter(|gateway| gateway.report.is_some()).count())
                };
                if (agents, gateways) == (self.regions.len(), self.gateways) {
                    return;
                }
                // The hub is held here, so it does not close.
                let _ = changes.changed().await;
            }
        };
        tokio::time::timeout(deadline, reported).await.context("not all agents and gateways have reported")
    }

    /// Every attempt that an agent has begun, in the order in which they were begun.
    pub fn begun(&self) -> Vec<Begun> {
        self.orders.begun()
    }

    /// Starts a control plane's reconcilers on the fleet's own store.
    pub fn control(&self) -> Control {
        self.control_on(Arc::new(self.store.clone()))
    }

    /// Starts a control plane's reconcilers, which have seen nobody yet; agents and gateways report to them from now on.
    pub fn control_on(&self, store: Arc<dyn Store>) -> Control {
        let hub = Arc::new(Hub::new(Timestamp::now()));
        // As a control plane does that reads the members it has known before.
        for number in 0..self.gateways {
            let (region, address) = gateway::identity(&self.regions, number);
            hub.know_gateway(region, address);
        }
        self.hub.send_replace(hub.clone());
        let stop = CancellationToken::new();
        let reconcilers = Reconcilers::new(Repository::new(store, None), hub).run(stop.clone());
        Control { stop, task: tokio::spawn(reconcilers) }
    }

    /// Asks for a deployment as a client does.
    pub async fn deploy(&self, request: DeployRequest) -> Result<DeployAnswer, Problem> {
        admission::deploy(&self.repository, &self.reported_to(), &model(), request, None, Timestamp::now()).await
    }

    pub async fn rollback(&self, request: RollbackRequest) -> Result<MoveAnswer, Problem> {
        admission::rollback(&self.repository, &self.reported_to(), &model(), &request, None, Timestamp::now()).await
    }

    pub async fn switch(&self, to: Slot) -> Result<MoveAnswer, Problem> {
        let request = SwitchRequest { to, requested_by: String::new() };
        admission::switch(&self.repository, &self.reported_to(), &model(), &request, Timestamp::now()).await
    }

    pub async fn abort(&self) -> Result<(), Problem> {
        admission::abort(&self.repository, &self.reported_to(), &model(), "a test", Timestamp::now()).await
    }

    pub async fn pause(&self) -> Result<(), Problem> {
        admission::pause(&self.repository, &self.reported_to(), &model(), "a test", Timestamp::now()).await
    }

    pub async fn resume(&self) -> Result<(), Problem> {
        admission::resume(&self.repository, &self.reported_to(), &model(), "a test", Timestamp::now()).await
    }

    pub async fn promote(&self, full: bool) -> Result<(), Problem> {
        admission::promote(&self.repository, &self.reported_to(), &model(), full, "a test", Timestamp::now()).await
    }

    pub async fn pin(&self, request: PinRequest) -> Result<Route, Problem> {
        let hub = self.reported_to();
        admission::pin(&self.repository, &hub, &self.tables, &model(), &request, Timestamp::now()).await
    }

    /// Takes in what is to be a table of pinned users.
    pub async fn put_table(&self, table: Vec<u8>) -> Result<Digest> {
        let digest = Digest::from_bytes(*blake3::hash(&table).as_bytes());
        let content = futures_util::stream::iter([std::io::Result::Ok(table.clone().into())]);
        self.tables.put_stream(&digest, table.len() as u64, content).await?;
        Ok(digest)
    }

    pub async fn unpin(&self, request: UnpinRequest) -> Result<Route, Problem> {
        admission::unpin(&self.repository, &self.reported_to(), &model(), &request, Timestamp::now()).await
    }

    pub async fn undeploy(&self) -> Result<(), Problem> {
        admission::undeploy(&self.repository, &self.reported_to(), &model(), Timestamp::now()).await
    }

    fn reported_to(&self) -> Arc<Hub> {
        self.hub.borrow().clone()
    }

    /// Waits until the newest rollout is as wanted.
    pub async fn rollout(&self, deadline: Duration, mut wanted: impl FnMut(&Rollout) -> bool) -> Result<Rollout> {
        let (key, mut last) = (keys::rollouts(&model()), None);
        let found = self
            .changes(key.clone(), deadline, async |repository| {
                last = repository.list::<Rollout>(key.clone()).await?.values().pop();
                Ok(last.clone().filter(|rollout| wanted(rollout)))
            })
            .await;
        found.with_context(|| format!("the rollout is {last:?}"))
    }

    /// Waits until what the store has under a prefix is as wanted: asked now, and after each change.
    pub async fn changes<T>(
        &self,
        prefix: impl Into<String>,
        deadline: Duration,
        mut ask: impl AsyncFnMut(&Repository) -> Result<Option<T>>,
    ) -> Result<T> {
        let prefix = prefix.into();
        let mut updates = list_then_watch(Arc::new(self.store.clone()), prefix.as_str());
        let asking = async {
            while updates.next().await.is_some() {
                if let Some(answer) = ask(&self.repository).await? {
                    return Ok(answer);
                }
            }
            bail!("the store was closed")
        };
        match tokio::time::timeout(deadline, asking).await {
            Ok(answer) => answer,
            Err(_) => bail!("{prefix} is not as wanted within {} s", deadline.as_secs()),
        }
    }

    /// Waits until all is swept away: the model was undeployed, and no region holds anything of it.
    pub async fn forgotten(&self, deadline: Duration) -> Result<()> {
        self.changes(keys::DEPLOYMENTS, deadline, async |repository| {
            Ok(repository.list::<Deployment>(keys::DEPLOYMENTS).await?.items.is_empty().then_some(()))
        })
        .await
    }

    /// Stops agents and gateways, and closes the store.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

/// One control plane's reconcilers.
#[derive(Debug)]
pub struct Control {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Control {
    /// Stops as a control plane does that is told to: its lease ends with it.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic of a reconciler is the caller's business.
        self.task.await.expect("the reconcilers do not panic");
    }

    /// Stops between two instructions, as a killed process does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The name of the fleet's model.
pub fn model() -> ModelName {
    MODEL.parse().expect("a valid name")
}

/// The name of a fleet's region.
pub fn region(number: usize) -> RegionName {
    format!("r{number:04}").parse().expect("a valid name")
}

fn version(number: u64) -> ModelVersion {
    ModelVersion {
        name: model(),
        version: VersionNumber(number),
        digest: Digest::from_bytes([u8::try_from(number).unwrap_or(u8::MAX); 32]),
        index: Default::default(),
        manifest: Default::default(),
        signature: Default::default(),
        cases: Vec::new(),
        pushed_at: Timestamp::UNIX_EPOCH,
        lineage: None,
    }
}
