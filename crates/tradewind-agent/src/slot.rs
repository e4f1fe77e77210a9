//! One slot of one model: a task that owns everything the slot holds, and changes it one decision at a time.
//!
//! It sees (sightings of its replicas, results of its jobs, what is wanted), asks `decide`, acts, and
//! publishes. What takes long runs as a job beside it and comes back as a notice. When it is dropped its replicas stay.

mod act;
mod golden;
mod replica;
mod scaling;
mod view;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tradewind_artifacts::Drift;
use tradewind_core::{
    assignment::{Failure, SlotAssignment, Verification},
    backoff::Backoff,
    event::{EventKind, Severity},
    resources::Memory,
};
use tradewind_process::{Exit, Process};

use self::golden::Golden;
pub(crate) use self::replica::Replica;
use self::scaling::Scaling;
use crate::{
    agent::Context,
    board::SlotKey,
    budget::MemoryKill,
    bundles::Installed,
    decide::{self, DRAIN_TIME, VERIFY_WAIT},
    probe::{Answer, Sighting},
    record::{ReplicaRecord, SlotRecord},
    verify::Round,
};

/// Installed bundles are checked this often.
const DRIFT_INTERVAL: Duration = Duration::from_secs(5);
/// The number of replicas is decided upon this often, and at once when gateways tell of more than there is.
const SCALE_INTERVAL: Duration = Duration::from_secs(1);
/// A replica that ran for this long is steady: its next end is not counted with the ends before.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Sightings and notices that wait for the task; whoever has more to say waits.
const INBOX_LIMIT: usize = 256;
/// Decisions in a row without waiting for anything; more would mean that they chase each other.
const PASSES_LIMIT: usize = 32;

/// What the slot holds: an assignment on its way to being served.
#[derive(Debug)]
struct Holding {
    /// Tells the jobs of this holding from those of an earlier one.
    number: u64,
    assignment: SlotAssignment,
    bundle: BundleState,
    failure: Option<Failure>,
    releasing: bool,
    reached_ready: bool,
    early_exits: u32,
    /// How the last replica that ended before it was ready did so, and the last lines of its log.
    last_exit: Vec<String>,
    /// The memory that it had gone over.
    over_memory: Option<Memory>,
    verification: Option<Verification>,
    verifying: bool,
    verify_asked: Option<Instant>,
    looking_for_drift: bool,
    golden: Golden,
    scaling: Scaling,
    /// Ends the jobs of this holding.
    over: CancellationToken,
}

#[derive(Debug)]
enum BundleState {
    Absent,
    Fetching {
        done: u64,
        total: u64,
    },
    /// It was altered; replicas that run have loaded it before.
    Repairing,
    Installed(Installed),
}

/// What is remembered of a place beyond its replica.
#[derive(Debug, Default)]
struct Place {
    failures: u32,
    restarts: u32,
    not_before: Option<Instant>,
    /// How the last replica in it ended that should not have.
    last_end: Option<String>,
}

/// What a job found out.
#[derive(Debug)]
enum Notice {
    Fetching { done: u64, total: u64 },
    Installed(Result<Installed, Failure>),
    Verified(Verification),
    Checked { id: String, verification: Verification },
    AskedAgain(Round),
    Looked(Vec<Drift>),
    Repaired(Installed),
}

#[derive(Debug)]
pub(crate) struct SlotTask {
    context: Arc<Context>,
    key: SlotKey,
    wanted: watch::Receiver<Option<SlotAssignment>>,
    holding: Option<Holding>,
    /// Of the last holding.
    number: u64,
    replicas: Vec<Replica>,
    places: BTreeMap<u32, Place>,
    written: Option<SlotRecord>,
    jobs: JoinSet<()>,
    /// What is left of replicas that are gone is being taken away.
    clearing: JoinSet<()>,
    tell: mpsc::Sender<(String, Sighting)>,
    sightings: mpsc::Receiver<(String, Sighting)>,
    notify: mpsc::Sender<(u64, Notice)>,
    notices: mpsc::Receiver<(u64, Notice)>,
}

impl SlotTask {
    /// Takes over what an earlier agent wrote down and started, and shows it at once: gateways must not be told that a
    /// region that serves has nothing.
    pub(crate) fn new(
        context: Arc<Context>,
        key: SlotKey,
        wanted: watch::Receiver<Option<SlotAssignment>>,
        record: Option<SlotRecord>,
        adopted: Vec<(ReplicaRecord, Process)>,
    ) -> Self {
        let (tell, sightings) = mpsc::channel(INBOX_LIMIT);
        let (notify, notices) = mpsc::channel(INBOX_LIMIT);
        let mut task = Self {
            context,
            key,
            wanted,
            holding: record.clone().map(|record| Holding::recorded(record, 1)),
            number: 1,
            replicas: Vec::new(),
            places: BTreeMap::new(),
            written: record,
            jobs: JoinSet::new(),
            clearing: JoinSet::new(),
            tell,
            sightings,
            notify,
            notices,
        };
        let health = task.holding.as_ref().map(|holding| holding.assignment.health).unwrap_or_default();
        for (record, process) in adopted {
            let place = task.places.entry(record.place).or_default();
            place.restarts = place.restarts.max(record.restarts);
            place.last_end = record.last_end.clone();
            task.watch(Replica::adopted(record, process, health));
        }
        task.publish();
        task
    }

    /// Runs until the shutdown, or until nothing is held and nothing is wanted.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> SlotKey {
        let mut drift = tokio::time::interval(DRIFT_INTERVAL);
        drift.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut scale = tokio::time::interval(SCALE_INTERVAL);
        scale.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = self.context.demand.told();
        loop {
            self.settle().await;
            if self.is_over() {
                return self.key;
            }
            let wake = self.wake_after();
            tokio::select! {
                () = shutdown.cancelled() => return self.key,
                changed = self.wanted.changed() => if changed.is_err() { return self.key },
                Some((id, sighting)) = self.sightings.recv() => self.sight(&id, sighting),
                Some((holding, notice)) = self.notices.recv() => self.take_notice(holding, notice),
                _ = drift.tick() => self.look_for_drift(),
                _ = scale.tick() => {
                    self.look_at_memory();
                    self.rescale();
                }
                // The agent keeps it as long as there is a slot.
                _ = asked.changed() => if self.is_pressed() { self.rescale() },
                () = tokio::time::sleep(wake) => {}
                Some(_) = self.clearing.join_next() => {}
                Some(job) = self.jobs.join_next() => {
                    if let Err(panic) = job && panic.is_panic() {
                        tracing::error!(%panic, "a job of a slot panicked");
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let is_empty = self.holding.is_none() && self.replicas.is_empty() && self.clearing.is_empty();
        is_empty && self.wanted.borrow().is_none()
    }

    /// Decides and acts until nothing is left to do now.
    async fn settle(&mut self) {
        for _ in 0..PASSES_LIMIT {
            let wanted = self.wanted.borrow_and_update().clone();
            self.update_assignment(wanted.as_ref());
            if self.holding.as_ref().is_some_and(Holding::has_too_few) {
                self.rescale();
            }
            let actions = decide::decide(
                wanted.as_ref().map(|wanted| self.wanted(wanted)).as_ref(),
                self.held().as_ref(),
                &self.seen(),
                &self.waits(),
            );
            let settled = actions.is_empty();
            for action in actions {
                self.act(action, wanted.as_ref()).await;
            }
            self.observe_scale();
            self.write_down().await;
            self.publish();
            if settled {
                return;
            }
        }
        tracing::error!(model = %self.key.0, slot = %self.key.1, "a slot does not settle");
    }

    /// What may change within a revision: the wish for a verification, monitoring, alerts.
    fn update_assignment(&mut self, wanted: Option<&SlotAssignment>) {
        let Some(holding) = &mut self.holding else { return };
        let Some(wanted) = wanted.filter(|wanted| wanted.revision == holding.assignment.revision) else { return };
        let attempt = holding.assignment.attempt;
        holding.assignment = SlotAssignment { attempt, ..wanted.clone() };
        let done = holding.verification.as_ref().map_or(0, |verification| verification.attempt);
        match wanted.verify {
            Some(asked) if asked > done => drop(holding.verify_asked.get_or_insert_with(Instant::now)),
            _ => holding.verify_asked = None,
        }
    }

    /// The time until a decision may be another without anything having happened.
    fn wake_after(&self) -> Duration {
        // Whoever is busy says when it is not.
        let free = self.replicas.iter().filter(|replica| !replica.is_busy());
        let drains = free.filter_map(Replica::draining_for);
        let drains = drains.map(|since| DRAIN_TIME.saturating_sub(since));
        let asked = self.holding.as_ref().and_then(|holding| holding.verify_asked);
        let verify = asked.map(|asked| VERIFY_WAIT.saturating_sub(asked.elapsed())).filter(|wait| !wait.is_zero());
        let golden = self.holding.as_ref().and_then(Holding::golden_due_after).filter(|wait| !wait.is_zero());
        let next = self.waits().into_values().chain(drains).chain(verify).chain(golden).min();
        next.unwrap_or(DRIFT_INTERVAL).max(Duration::from_millis(1))
    }

    fn sight(&mut self, id: &str, sighting: Sighting) {
        let Some(position) = self.replicas.iter().position(|replica| replica.record.id == id) else { return };
        match sighting {
            Sighting::Probed { answer, took } => {
                let replica = &mut self.replicas[position];
                replica.probed(answer);
                let monitored = self.holding.as_ref().is_some_and(|holding| holding.assignment.monitored);
                if monitored && replica.is_announced() {
                    self.context.metrics.sample(&self.key, answer == Answer::Ready, took);
                }
            }
            Sighting::Unused => self.replicas[position].be_unused(),
            Sighting::Exited(exit) => {
                let replica = self.replicas.remove(position);
                if replica.is_running() {
                    self.ended(&replica, exit);
                }
                self.clear(replica.record);
            }
        }
    }

    /// A replica ended that should not have.
    fn ended(&mut self, replica: &Replica, exit: Exit) {
        let kill = replica.record.memory_kill();
        let message = match (kill, &replica.note) {
            (Some(kill), _) => kill.to_string(),
            (None, Some(note)) => note.clone(),
            (None, None) => exit.to_string(),
        };
        let ReplicaRecord { id, version, slot, place, .. } = &replica.record;
        self.context.events.emit(
            Severity::Warning,
            EventKind::ReplicaExited,
            Some(&self.key.0),
            format!("replica {id} of {} {version} ({slot}) ended: {message}", self.key.0),
        );
        let was_steady = replica.admitted && replica.age() >= STEADY_AFTER;
        self.delay(*place, was_steady, message.clone());
        let log = self.log_of(&replica.record);
        let lines = crate::logs::last_lines(&log, replica.log_start);
        if kill.is_some() {
            self.context.metrics.killed_for_memory(&self.key);
            crate::logs::append(&log, &message);
        }
        if let Some(holding) = self.holding.as_mut().filter(|holding| !holding.reached_ready) {
            holding.early_exits += 1;
            holding.last_exit = vec![message];
            holding.last_exit.extend(lines);
            holding.over_memory = match kill {
                Some(MemoryKill::OverBudget(memory)) => Some(memory),
                Some(MemoryKill::NoneLeft) | None => None,
            };
        }
    }

    /// The place starts again, later after each failure.
    fn delay(&mut self, place: u32, was_steady: bool, end: String) {
        let place = self.places.entry(place).or_default();
        place.failures = if was_steady { 1 } else { place.failures.saturating_add(1) };
        place.restarts += 1;
        place.last_end = Some(end);
        place.not_before = Some(Instant::now() + Backoff::RESTART.after(place.failures));
        self.context.metrics.restarted(&self.key);
    }

    fn take_notice(&mut self, number: u64, notice: Notice) {
        let Some(holding) = self.holding.as_mut().filter(|holding| holding.number == number) else { return };
        match notice {
            Notice::Fetching { done, total } => {
                if let BundleState::Fetching { .. } = holding.bundle {
                    holding.bundle = BundleState::Fetching { done, total };
                }
            }
            Notice::Installed(Ok(installed)) => {
                // What runs already was adopted: it loaded the copy that is there.
                holding.bundle = BundleState::Installed(installed);
            }
            Notice::Installed(Err(failure)) => {
                holding.bundle = BundleState::Absent;
                holding.failure = Some(failure);
            }
            Notice::Verified(verification) => {
                holding.verifying = false;
                if verification.succeeded() {
                    self.replicas.iter_mut().for_each(Replica::pass);
                }
                holding.verification = Some(verification);
            }
            Notice::Checked { id, verification } => self.checked(&id, &verification),
            Notice::AskedAgain(round) => self.asked_again(round),
            Notice::Looked(drifts) => self.looked(drifts),
            Notice::Repaired(installed) => {
                self.context.repaired(&self.key, &installed);
                holding.bundle = BundleState::Installed(installed);
            }
        }
    }

    /// A latecomer passed the checks of its slot, or has to go.
    fn checked(&mut self, id: &str, verification: &Verification) {
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.record.id == id) else { return };
        match verification.first_failed() {
            None => replica.pass(),
            Some(check) => replica.condemn(format!("it failed verification: {}", check.detail)),
        }
    }

    fn looked(&mut self, drifts: Vec<Drift>) {
        let Some(holding) = &mut self.holding else { return };
        holding.looking_for_drift = false;
        if let BundleState::Installed(installed) = &mut holding.bundle {
            // Another slot with this bundle may have put it right.
            installed.copy = self.context.bundles.copy(&installed.version.digest);
            if !drifts.is_empty() {
                let installed = installed.clone();
                self.context.drifted(&self.key, &installed, &drifts);
                holding.bundle = BundleState::Repairing;
                self.repair(installed);
            }
        }
    }
}

impl Holding {
    fn new(assignment: SlotAssignment, number: u64) -> Self {
        let first = assignment.scale.replicas;
        Self {
            number,
            assignment,
            bundle: BundleState::Absent,
            failure: None,
            releasing: false,
            reached_ready: false,
            early_exits: 0,
            last_exit: Vec::new(),
            over_memory: None,
            verification: None,
            verifying: false,
            verify_asked: None,
            looking_for_drift: false,
            golden: Golden::default(),
            scaling: Scaling::new(first, None),
            over: CancellationToken::new(),
        }
    }

    fn recorded(record: SlotRecord, number: u64) -> Self {
        let SlotRecord { assignment, reached_ready, verification, desired, .. } = record;
        let scaling = Scaling::new(assignment.scale.replicas, desired);
        Self { reached_ready, verification, scaling, ..Self::new(assignment, number) }
    }
}
