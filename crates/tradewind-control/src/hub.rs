//! What agents and gateways last reported. Held in memory alone: heartbeats never touch the store.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use tradewind_api::{
    agent::{AgentReport, SILENCE_LIMIT},
    gateway::{GatewayReport, LEASE},
};
use tradewind_core::{
    Epoch, ModelName, RegionName, Slot, Timestamp,
    assignment::SlotStatus,
    deployment::DeploymentSpec,
    monitor::verdict::Verdict,
    rollout::plan::{GatewayObservation, Observed, Reach, RegionObservation, Room},
    route::RouteState,
};

/// The newest report of one agent.
#[derive(Debug, Clone)]
pub struct AgentSeen {
    pub report: AgentReport,
    pub at: Timestamp,
    /// When a slot's status last changed.
    pub progress: BTreeMap<(ModelName, Slot), Timestamp>,
}

impl AgentSeen {
    pub fn slot(&self, model: &ModelName, slot: Slot) -> Option<&SlotStatus> {
        self.report.models.iter().find(|status| status.model == *model)?.slots.get(&slot)
    }
}

/// The newest report of one gateway; `report` is absent for one that is only known from the store.
#[derive(Debug, Clone)]
pub struct GatewaySeen {
    pub region: RegionName,
    pub report: Option<GatewayReport>,
    pub at: Option<Timestamp>,
}

/// What has been seen since this control plane began to listen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub since: Timestamp,
    /// When it was last looked at.
    looked_at: Timestamp,
    pub agents: BTreeMap<RegionName, AgentSeen>,
    /// By address.
    pub gateways: BTreeMap<String, GatewaySeen>,
}

impl Seen {
    pub fn reach(&self, region: &RegionName, now: Timestamp) -> Reach {
        let silent = self.agents.get(region).map(|agent| elapsed(agent.at, now));
        match silent {
            Some(silent) if silent <= SILENCE_LIMIT => Reach::Reachable,
            _ if elapsed(self.since, now) <= SILENCE_LIMIT => Reach::Unknown,
            silent => Reach::Unreachable { silent_secs: silent.map(|silent| silent.as_secs()) },
        }
    }

    /// Whether COMMIT waits for it: it reported within the lease, or nobody has listened for as long as that.
    pub fn leased(&self, gateway: &GatewaySeen, now: Timestamp) -> bool {
        elapsed(gateway.at.unwrap_or(self.since).max(self.since), now) <= LEASE
    }

    /// What users of each region have in flight of a model, as the gateways say that are heard of.
    pub fn in_flight(&self, model: &ModelName, now: Timestamp) -> BTreeMap<RegionName, f64> {
        let mut in_flight = BTreeMap::new();
        for gateway in self.gateways.values().filter(|gateway| self.leased(gateway, now)) {
            let Some(report) = &gateway.report else { continue };
            let of_model = report.load.iter().filter(|load| load.model == *model);
            let sum: f64 = of_model.map(|load| load.capacity.in_flight).sum();
            *in_flight.entry(report.region.clone()).or_default() += sum;
        }
        in_flight
    }

    /// The gateways with respect to one epoch of a model.
    pub fn gateways_at(&self, model: &ModelName, epoch: Epoch, now: Timestamp) -> GatewayObservation {
        let mut observation = GatewayObservation::default();
        for gateway in self.gateways.values() {
            let report = gateway.report.as_ref();
            let committed = report.and_then(|report| report.committed.get(model)).is_some_and(|it| it.epoch >= epoch);
            observation.known += 1;
            observation.taken_up += u32::from(committed);
            if !self.leased(gateway, now) {
                continue;
            }
            observation.gateways += 1;
            let Some(report) = report else { continue };
            observation.committed += u32::from(committed);
            let prepared = report.prepared.get(model).is_some_and(|prepared| *prepared >= epoch);
            observation.prepared += u32::from(committed || prepared);
            if observation.refusal.is_none() {
                observation.refusal.clone_from(&report.refused);
            }
        }
        observation
    }
}

/// The time from `from` to `to`, zero if the clock went back.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

/// A process that looks at what it has seen less often than this was stopped meanwhile: the silence is its own.
pub const STALL_LIMIT: Duration = Duration::from_secs(2);
/// How often it looks.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Hub {
    seen: Mutex<Seen>,
    changes: watch::Sender<u64>,
}

impl Hub {
    pub fn new(now: Timestamp) -> Self {
        let seen = Seen { since: now, looked_at: now, agents: BTreeMap::new(), gateways: BTreeMap::new() };
        Self { seen: Mutex::new(seen), changes: watch::Sender::new(0) }
    }

    /// Held for reading only, never across an await.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        // A reader that panicked has left the data whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what has been seen. When nobody has looked for too long (this process was suspended, or starved), nobody
    /// has listened either: then listening begins anew, and no region is taken for silent, no gateway for gone.
    pub fn look(&self, now: Timestamp) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen();
        if elapsed(seen.looked_at, now) > STALL_LIMIT {
            seen.since = now;
        }
        seen.looked_at = now;
        seen
    }

    /// Told of every report that says something new, not of mere heartbeats.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes a report; says whether the agent is new or came back at another address.
    pub fn report_agent(&self, report: AgentReport, now: Timestamp) -> bool {
        let mut seen = self.seen();
        let before = seen.agents.remove(&report.region);
        let address_is_new = before.as_ref().is_none_or(|agent| agent.report.address != report.address);
        let was_silent = before.as_ref().is_none_or(|agent| elapsed(agent.at, now) > SILENCE_LIMIT);
        let news = was_silent
            || before.as_ref().is_none_or(|agent| {
                agent.report.models != report.models
                    || agent.report.replicas != report.replicas
                    || agent.report.instance != report.instance
            });
        let progress = progress(before.as_ref(), &report, now);
        seen.agents.insert(report.region.clone(), AgentSeen { report, at: now, progress });
        drop(seen);
        if news {
            self.wake();
        }
        address_is_new
    }

    /// Takes a report; says whether the gateway is new.
    pub fn report_gateway(&self, report: GatewayReport, now: Timestamp) -> bool {
        let mut seen = self.seen();
        let before = seen.gateways.get(&report.address).and_then(|gateway| gateway.report.as_ref());
        let news = before.is_none_or(|before| {
            before.prepared != report.prepared
                || before.committed != report.committed
                || before.refused != report.refused
                || before.started_at != report.started_at
        });
        let address = report.address.clone();
        let region = report.region.clone();
        let is_new =
            seen.gateways.insert(address, GatewaySeen { region, report: Some(report), at: Some(now) }).is_none();
        drop(seen);
        if news {
            self.wake();
        }
        is_new
    }

    /// A gateway that the store knows and that has not reported yet.
    pub fn know_gateway(&self, region: RegionName, address: String) {
        self.seen().gateways.entry(address).or_insert(GatewaySeen { region, report: None, at: None });
    }

    /// A gateway that is gone for good.
    pub fn forget_gateway(&self, address: &str) {
        self.seen().gateways.remove(address);
        self.wake();
    }

    /// Has everybody look again.
    pub fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn progress(
    before: Option<&AgentSeen>,
    report: &AgentReport,
    now: Timestamp,
) -> BTreeMap<(ModelName, Slot), Timestamp> {
    let mut progress = BTreeMap::new();
    for status in &report.models {
        for (slot, current) in &status.slots {
            let key = (status.model.clone(), *slot);
            let unchanged = before.filter(|agent| agent.slot(&status.model, *slot) == Some(current));
            let at = unchanged.and_then(|agent| agent.progress.get(&key)).copied().unwrap_or(now);
            progress.insert(key, at);
        }
    }
    progress
}

/// What was seen, as the planner of one rollout looks at it.
#[derive(Debug)]
pub(crate) struct RolloutEye<'a> {
    pub seen: &'a Seen,
    pub model: &'a ModelName,
    pub slot: Slot,
    pub epoch: Epoch,
    pub now: Timestamp,
    /// What was counted of regions, judged.
    pub verdicts: &'a BTreeMap<RegionName, Verdict>,
    pub spec: &'a DeploymentSpec,
    /// What users get who do not get the rollout's revision, and how that is deployed.
    pub live: Option<(&'a RouteState, &'a DeploymentSpec)>,
    /// The epoch that is committed.
    pub committed: Option<Epoch>,
    /// What users of each region have in flight; empty while nobody is about to be moved.
    pub in_flight: &'a BTreeMap<RegionName, f64>,
}

impl RolloutEye<'_> {
    fn room_of(&self, spec: &DeploymentSpec, slot: Slot, region: &RegionName) -> Room {
        let held = self.seen.agents.get(region).and_then(|agent| agent.slot(self.model, slot));
        let ready = held.map_or(0, |slot| slot.replicas.ready);
        let scale = spec.scale_of(region);
        let limit = scale.concurrency.map(|limit| limit.saturating_mul(ready));
        let awake = held.filter(|slot| scale.bounds.is_some() && !slot.resting);
        let missing = awake.map_or(0, |slot| slot.replicas.desired.saturating_sub(ready));
        Room { in_flight: self.in_flight.get(region).copied().unwrap_or_default(), limit, missing }
    }
}

impl Observed for RolloutEye<'_> {
    fn region(&self, region: &RegionName) -> RegionObservation<'_> {
        let agent = self.seen.agents.get(region);
        RegionObservation {
            reach: self.seen.reach(region, self.now),
            slot: agent.and_then(|agent| agent.slot(self.model, self.slot)),
            progress_at: agent.and_then(|agent| agent.progress.get(&(self.model.clone(), self.slot)).copied()),
        }
    }

    fn gateways(&self) -> GatewayObservation {
        self.seen.gateways_at(self.model, self.epoch, self.now)
    }

    fn room(&self, region: &RegionName) -> Room {
        self.room_of(self.spec, self.slot, region)
    }

    fn live(&self) -> Vec<(RegionName, Room)> {
        let of_live = |(state, spec): (&RouteState, &DeploymentSpec)| {
            let room = |region: &RegionName| (region.clone(), self.room_of(spec, state.live, region));
            state.regions.iter().map(room).collect()
        };
        self.live.map(of_live).unwrap_or_default()
    }

    fn everybody_knows(&self) -> bool {
        let known = self.committed.map(|epoch| self.seen.gateways_at(self.model, epoch, self.now));
        known.is_none_or(|gateways| gateways.have_moved_on())
    }

    fn verdict(&self, region: &RegionName) -> Verdict {
        let unjudged = || Verdict::Inconclusive { reason: "it is not judged".to_owned() };
        self.verdicts.get(region).cloned().unwrap_or_else(unjudged)
    }
}
