//! The agent as a whole: takes over what an earlier one left, then keeps one task for each slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tradewind_api::{Client, agent::RegionAssignments, client::http_client};
use tradewind_artifacts::Drift;
use tradewind_core::{
    Digest, RegionName, Timestamp,
    assignment::SlotAssignment,
    event::{EventKind, Severity},
};
use tradewind_process::Process;

use crate::{
    AgentOptions, Error,
    board::{Board, SlotKey},
    budget::Budgets,
    bundles::{Bundles, Installed},
    demand::Demand,
    desired::Desired,
    events::Events,
    home::{self, Home},
    metrics::Metrics,
    record::{ReplicaRecord, SlotRecord, read_all},
    report, server,
    slot::SlotTask,
    stream,
};

/// What all parts of one agent share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) region: RegionName,
    /// Random at each start.
    pub(crate) instance: String,
    pub(crate) started_at: Timestamp,
    /// host:port where others reach this agent.
    pub(crate) address: String,
    pub(crate) program: PathBuf,
    /// Replicas listen here.
    pub(crate) interface: IpAddr,
    /// What gateways are told instead of the interface, when that is every interface there is.
    pub(crate) replica_host: Option<String>,
    pub(crate) home: Arc<Home>,
    pub(crate) client: Client,
    /// For replicas.
    pub(crate) http: reqwest::Client,
    /// For servers of authors' own: it keeps no connection, which would look like somebody who waits for an answer.
    pub(crate) http_once: reqwest::Client,
    pub(crate) desired: Desired,
    pub(crate) board: Board,
    /// What users ask for.
    pub(crate) demand: Demand,
    pub(crate) events: Events,
    pub(crate) bundles: Bundles,
    pub(crate) budgets: Budgets,
    pub(crate) metrics: Metrics,
    /// What the last desired state says is on the board.
    pub(crate) settled: AtomicBool,
}

/// Runs an agent until `shutdown`. Its replicas go on; the next agent with this data directory adopts them.
pub async fn run(options: AgentOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let home = Arc::new(Home::open(&options.data_dir).await?);
    let listener = home.listen(options.listen)?;
    let bound = listener.local_addr().map_err(|source| Error::Listen { address: options.listen, source })?;
    let client = Client::new(&options.control, Some(options.token));
    let instance = format!("{:016x}", rand::random::<u64>());
    let advertised = options.advertise.as_deref().filter(|_| bound.ip().is_unspecified());
    let context = Arc::new(Context {
        replica_host: advertised.and_then(|address| Some(address.rsplit_once(':')?.0.to_owned())),
        started_at: Timestamp::now(),
        address: options.advertise.unwrap_or_else(|| bound.to_string()),
        program: options.program,
        interface: bound.ip(),
        http: http_client().build().expect("the client's settings are constant"),
        http_once: http_client().pool_max_idle_per_host(0).build().expect("the client's settings are constant"),
        desired: Desired::load(options.region.clone(), &home.desired()),
        board: Board::new(options.region.clone(), instance.clone()),
        demand: Demand::default(),
        events: Events::default(),
        bundles: Bundles::open(Arc::clone(&home), client.clone()).await?,
        budgets: Budgets::new(home.root()),
        metrics: Metrics::default(),
        settled: AtomicBool::new(false),
        region: options.region,
        instance,
        home,
        client,
    });
    let message = format!("agent of {} started on {}", context.region, context.address);
    context.events.emit(Severity::Info, EventKind::AgentStarted, None, message);
    let mut slots = Slots::take_over(Arc::clone(&context), shutdown.child_token()).await?;
    // Before anybody asks: what is known from disk serves from the first moment on.
    slots.apply();

    let mut parts = JoinSet::new();
    parts.spawn(server::run(Arc::clone(&context), listener, shutdown.clone()));
    parts.spawn(never_fails(stream::run(Arc::clone(&context), shutdown.clone())));
    parts.spawn(never_fails(report::run(Arc::clone(&context), shutdown.clone())));
    parts.spawn(slots.run(shutdown.clone()));
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        let ended = ended.unwrap_or_else(|source| Err(Error::Task { task: "main", source }));
        // The first part that ends, ends the others.
        shutdown.cancel();
        result = result.and(ended);
    }
    result
}

async fn never_fails(part: impl Future<Output = ()>) -> Result<(), Error> {
    part.await;
    Ok(())
}

impl Context {
    /// Writes a record on a thread that may block. One that cannot be written is told; the slot goes on.
    pub(crate) async fn write(
        self: &Arc<Self>,
        write: impl FnOnce(&Home) -> io::Result<()> + Send + 'static,
        what: &'static str,
    ) {
        let home = Arc::clone(&self.home);
        let written = tokio::task::spawn_blocking(move || write(&home)).await;
        if let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::error!(%error, "cannot write down {what}");
        }
    }

    /// Removes bundles that neither is wanted nor held by a slot.
    pub(crate) async fn collect(&self) {
        let needed = || -> BTreeSet<Digest> {
            let desired = self.desired.current();
            let assigned = desired.iter().flat_map(|desired| &desired.assignments);
            let wanted = assigned.flat_map(|assignment| assignment.slots.values().map(|slot| slot.digest));
            wanted.chain(self.board.slots().values().map(|view| view.digest)).collect()
        };
        self.bundles.collect(needed).await;
    }

    pub(crate) fn drifted(&self, key: &SlotKey, installed: &Installed, drifts: &[Drift]) {
        self.metrics.drift_found.fetch_add(1, Ordering::Relaxed);
        let first = drifts.first().map(ToString::to_string).unwrap_or_default();
        let more = match drifts.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let message =
            format!("the installed bundle of {} {} was altered: {first}{more}", key.0, installed.version.version);
        self.events.emit(Severity::Warning, EventKind::DriftFound, Some(&key.0), message);
    }

    pub(crate) fn repaired(&self, key: &SlotKey, installed: &Installed) {
        self.metrics.drift_repaired.fetch_add(1, Ordering::Relaxed);
        let message = format!("the bundle of {} {} was installed again", key.0, installed.version.version);
        self.events.emit(Severity::Info, EventKind::DriftRepaired, Some(&key.0), message);
    }
}

/// The tasks of all slots.
struct Slots {
    context: Arc<Context>,
    wanted: BTreeMap<SlotKey, watch::Sender<Option<SlotAssignment>>>,
    tasks: JoinSet<SlotKey>,
    /// Left by an earlier agent, until the desired state says what to do with it.
    adopted: BTreeMap<SlotKey, Vec<(ReplicaRecord, Process)>>,
    records: BTreeMap<SlotKey, SlotRecord>,
    shutdown: CancellationToken,
}

impl Slots {
    async fn take_over(context: Arc<Context>, shutdown: CancellationToken) -> Result<Self, Error> {
        let mut adopted: BTreeMap<SlotKey, Vec<_>> = BTreeMap::new();
        for record in read_all::<ReplicaRecord>(&home::replicas(context.home.root())) {
            if let Some((record, process)) = adopt(&context, record).await? {
                adopted.entry((record.model.clone(), record.slot)).or_default().push((record, process));
            }
        }
        let records: Vec<SlotRecord> = read_all(&context.home.slots());
        let records = records.into_iter().map(|record| ((record.model.clone(), record.slot), record)).collect();
        Ok(Self { context, wanted: BTreeMap::new(), tasks: JoinSet::new(), adopted, records, shutdown })
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut desired = self.context.desired.subscribe();
        loop {
            desired.borrow_and_update();
            // Also after a slot's task ended: it may have been wanted again at that very moment.
            self.apply();
            tokio::select! {
                // First: a task that the shutdown ended must not be taken for one that is wanted again.
                biased;
                () = shutdown.cancelled() => break,
                _ = desired.changed() => {}
                Some(ended) = self.tasks.join_next() => {
                    // After a panic its replicas have no supervisor: the agent ends, and its successor adopts them.
                    self.wanted.remove(&ended.map_err(|source| Error::Task { task: "slot", source })?);
                }
            }
        }
        while self.tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Tells every slot what is wanted of it.
    fn apply(&mut self) {
        let Some(desired) = self.context.desired.current() else { return };
        let mut wanted = assigned(&desired);
        let all: BTreeSet<SlotKey> = wanted.keys().cloned().collect();
        let left = self.adopted.keys().chain(self.records.keys());
        let keys: BTreeSet<SlotKey> = left.chain(self.wanted.keys()).chain(wanted.keys()).cloned().collect();
        for key in keys {
            let assignment = wanted.remove(&key);
            if assignment.as_ref().is_some_and(|assignment| assignment.alone) && self.waits_for_room(&key, &all) {
                continue;
            }
            match self.wanted.get(&key) {
                Some(sender) => drop(sender.send_if_modified(|current| {
                    let changed = *current != assignment;
                    *current = assignment;
                    changed
                })),
                None => self.spawn(key, assignment),
            }
        }
        self.context.board.observe(&desired);
        self.context.settled.store(true, Ordering::Release);
    }

    /// Whether a slot that is to be alone has not begun, and another one of its model that is not assigned is not empty yet.
    /// When that has ended, it is looked at again.
    fn waits_for_room(&self, key: &SlotKey, assigned: &BTreeSet<SlotKey>) -> bool {
        let has_begun = self.records.contains_key(key)
            || self.adopted.contains_key(key)
            || self.wanted.get(key).is_some_and(|wanted| wanted.borrow().is_some());
        let mut held = self.records.keys().chain(self.adopted.keys()).chain(self.wanted.keys());
        !has_begun && held.any(|other| other.0 == key.0 && other != key && !assigned.contains(other))
    }

    fn spawn(&mut self, key: SlotKey, assignment: Option<SlotAssignment>) {
        let (sender, receiver) = watch::channel(assignment);
        let record = self.records.remove(&key);
        let adopted = self.adopted.remove(&key).unwrap_or_default();
        let task = SlotTask::new(Arc::clone(&self.context), key.clone(), receiver, record, adopted);
        self.tasks.spawn(task.run(self.shutdown.clone()));
        self.wanted.insert(key, sender);
    }
}

fn assigned(desired: &RegionAssignments) -> BTreeMap<SlotKey, SlotAssignment> {
    let slots = desired.assignments.iter().flat_map(|assignment| {
        assignment.slots.iter().map(|(slot, wanted)| ((assignment.model.clone(), *slot), wanted.clone()))
    });
    slots.collect()
}

/// Takes over the replica of a record if it lives; the record of a dead one goes.
async fn adopt(context: &Context, mut record: ReplicaRecord) -> Result<Option<(ReplicaRecord, Process)>, Error> {
    let failed = |source| Error::Adopt { id: record.id.clone(), source };
    let adopted = match record.process() {
        Some(identity) => Process::adopt(&identity).map_err(failed)?,
        None => None,
    };
    let (id, model) = (&record.id, &record.model);
    let Some(process) = adopted else {
        if let Some(family) = record.family() {
            // What it had started may live on, on a port that nobody knows.
            family.kill(None).await.map_err(failed)?;
        }
        let why = record.memory_kill().map(|kill| format!(": {kill}")).unwrap_or_default();
        let message = format!("replica {id} of {model} ({}) ended while no agent ran{why}", record.slot);
        context.events.emit(Severity::Warning, EventKind::ReplicaExited, Some(model), message);
        record.clear(context.home.root()).await;
        return Ok(None);
    };
    let message = format!("replica {id} of {model} ({}) goes on under this agent", record.slot);
    context.events.emit(Severity::Info, EventKind::ReplicaAdopted, Some(model), message);
    if record.identity.is_none() {
        record.identity = Some(process.identity().clone());
        if let Err(error) = record.write(context.home.root()) {
            tracing::error!(id = record.id, %error, "cannot write down a replica");
        }
    }
    Ok(Some((record, process)))
}
