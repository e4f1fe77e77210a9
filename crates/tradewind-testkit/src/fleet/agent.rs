//! An agent whose runtime is instant: it has done what it is told as soon as it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_api::agent::{AgentReport, HEARTBEAT, ModelStatus};
use tradewind_control::{hub::Hub, keys, repository::Repository};
use tradewind_core::{
    Generation, ModelName, RegionName, RevisionNumber, Slot, Timestamp,
    assignment::{
        Assignment, Check, CheckName, CheckResult, Failure, ReplicaCount, SlotAssignment, SlotPhase, SlotStatus,
        Verification,
    },
};
/// What a region's agent does with revisions that it is told to run from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    #[default]
    Good,
    /// Golden cases fail, of version 2 alone.
    AnswersWrongly,
    /// The first attempt at a revision fails to start.
    FailsFirst,
    /// Replicas start and never become ready.
    Hangs,
    /// Neither hears nor reports.
    Silent,
}

/// An attempt at a slot that an agent began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Begun {
    pub region: RegionName,
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub attempt: u32,
}

/// What agents are to do, and what they have done.
#[derive(Debug)]
pub(super) struct Orders {
    behaviours: watch::Sender<BTreeMap<RegionName, Behaviour>>,
    begun: Mutex<Vec<Begun>>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { behaviours: watch::Sender::new(BTreeMap::new()), begun: Mutex::default() }
    }
}

impl Orders {
    pub(super) fn give(&self, region: &RegionName, behaviour: Behaviour) {
        self.behaviours.send_modify(|behaviours| {
            behaviours.insert(region.clone(), behaviour);
        });
    }

    pub(super) fn begun(&self) -> Vec<Begun> {
        self.log().clone()
    }

    fn log(&self) -> MutexGuard<'_, Vec<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Agent {
    region: RegionName,
    started_at: Timestamp,
    hub: watch::Receiver<Arc<Hub>>,
    orders: Arc<Orders>,
    /// What the store says.
    told: Vec<Assignment>,
    /// What has been taken up. What is no longer told is kept, empty, for its generation.
    held: BTreeMap<ModelName, Assignment>,
}

impl Agent {
    pub(super) fn new(region: RegionName, hub: watch::Receiver<Arc<Hub>>, orders: Arc<Orders>) -> Self {
        Self { region, started_at: Timestamp::now(), hub, orders, told: Vec::new(), held: BTreeMap::new() }
    }

    /// Reads its region's assignments now and after every change, as a control plane does for a real agent.
    pub(super) async fn run(
        mut self,
        repository: Repository,
        mut changes: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        changes.mark_changed();
        let mut behaviours = self.orders.behaviours.subscribe();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // When a sender is gone, so is the fleet.
                changed = changes.changed() => match changed {
                    Ok(()) => self.told = self.read(&repository).await,
                    Err(_) => return,
                },
                changed = self.hub.changed() => if changed.is_err() { return },
                changed = behaviours.changed() => if changed.is_err() { return },
                _ = heartbeat.tick() => {}
            }
            let behaviour = behaviours.borrow_and_update().get(&self.region).copied().unwrap_or_default();
            if behaviour != Behaviour::Silent {
                self.take_up();
                let hub = self.hub.borrow_and_update().clone();
                hub.report_agent(self.report(behaviour), Timestamp::now());
            }
        }
    }

    async fn read(&self, repository: &Repository) -> Vec<Assignment> {
        repository.list(keys::assignments(&self.region)).await.expect("the store is open and can be read").values()
    }

    /// Begins what is new. An older generation is refused.
    fn take_up(&mut self) {
        for held in self.held.values_mut() {
            if !self.told.iter().any(|told| told.model == held.model) {
                held.slots.clear();
            }
        }
        for told in &self.told {
            let before = self.held.get(&told.model);
            if before.is_some_and(|before| before.generation >= told.generation) {
                continue;
            }
            for (slot, wanted) in &told.slots {
                let same = |held: &&SlotAssignment| (held.revision, held.attempt) == (wanted.revision, wanted.attempt);
                if before.and_then(|before| before.slots.get(slot)).filter(same).is_none() {
                    let (region, model) = (self.region.clone(), told.model.clone());
                    let (revision, attempt) = (wanted.revision, wanted.attempt);
                    self.orders.log().push(Begun { region, model, slot: *slot, revision, attempt });
                }
            }
            self.held.insert(told.model.clone(), told.clone());
        }
    }

    fn report(&self, behaviour: Behaviour) -> AgentReport {
        let status = |held: &Assignment| ModelStatus {
            model: held.model.clone(),
            observed_generation: Generation(held.generation.0),
            slots: held.slots.iter().map(|(slot, assigned)| (*slot, status(assigned, behaviour))).collect(),
        };
        AgentReport {
            region: self.region.clone(),
            instance: self.region.to_string(),
            pid: std::process::id(),
            started_at: self.started_at,
            address: format!("{}:1", self.region),
            models: self.held.values().map(status).collect(),
            replicas: Vec::new(),
            events: Vec::new(),
            scaling: Vec::new(),
            cases: Vec::new(),
            disk: None,
        }
    }
}

fn status(assigned: &SlotAssignment, behaviour: Behaviour) -> SlotStatus {
    let wrong = behaviour == Behaviour::AnswersWrongly && assigned.version.0 == 2;
    let failure = || Failure {
        message: "the replica ended with exit code 1".to_owned(),
        causes: Vec::new(),
        hint: None,
        retryable: true,
    };
    let desired = assigned.scale.replicas;
    let phase = match behaviour {
        Behaviour::Hangs => SlotPhase::Starting,
        Behaviour::FailsFirst if assigned.attempt == 1 => SlotPhase::Failed { failure: failure() },
        _ => SlotPhase::Ready,
    };
    SlotStatus {
        revision: assigned.revision,
        attempt: assigned.attempt,
        replicas: ReplicaCount { ready: if phase == SlotPhase::Ready { desired } else { 0 }, desired },
        phase,
        resting: false,
        monitored: assigned.monitored,
        armed: assigned.armed,
        verification: assigned.verify.map(|attempt| verification(attempt, !wrong)),
    }
}

/// As the product's checks come out.
fn verification(attempt: u32, right: bool) -> Verification {
    let check = |name, detail: &str| Check { name, result: CheckResult::Passed, detail: detail.to_owned() };
    let golden = if right {
        check(CheckName::GoldenCases, "20/20 golden cases")
    } else {
        let detail = "case 3: label expected 7, got 1".to_owned();
        Check { name: CheckName::GoldenCases, result: CheckResult::Failed, detail }
    };
    let checks = vec![
        check(CheckName::Digest, "digest ok"),
        check(CheckName::Ready, "1/1 replicas ready"),
        check(CheckName::Signature, "signature ok"),
        golden,
    ];
    Verification { attempt, checks, finished_at: Timestamp::UNIX_EPOCH }
}
