//! One deployment's worker: plans, writes, and waits for the next thing worth looking at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    deployment::{Deployment, SlotRevisions},
    event::{EventKind, Severity},
    rollout::{
        RolloutState, Soak,
        plan::{self, Change, Plan},
    },
    route::{Route, RouteState},
};
use tradewind_store::{Compare, Txn};

use super::{
    STORE_RETRY, Term, in_place,
    judge::Judge,
    sweep::{self, Swept},
    traced,
    working::Working,
};
use crate::{
    admission,
    hub::{Hub, RolloutEye},
    keys,
    monitoring::Ledger,
    repository::{Repository, Result, put},
};

/// Regions that are written in one transaction: at most three operations each.
pub(super) const BATCH: usize = 40;
/// Changes that follow each other without anything new being observed; more means that the planner goes in circles.
const ROUNDS_LIMIT: usize = 64;
/// What gateways may still send users to is looked at again so much later.
const STILL_SERVED_RETRY: Duration = Duration::from_millis(250);
/// After somebody else wrote in between, the state is read again so much later.
const CONFLICT_RETRY: Duration = Duration::from_millis(50);

pub(super) struct Worker {
    repository: Repository,
    hub: Arc<Hub>,
    ledger: Arc<Ledger>,
    judge: Judge,
    term: Term,
    model: ModelName,
    waker: Arc<Notify>,
    working: Option<Working>,
    /// What the slots held when stale assignments were last swept away.
    swept: Option<SlotRevisions>,
}

/// When to look again.
enum Next {
    /// At once: something was written.
    Again,
    Wait(Option<Timestamp>),
    /// Somebody else wrote in between, or is about to.
    Conflict,
    /// The deployment is gone.
    Gone,
}

impl Worker {
    pub(super) fn new(
        repository: Repository,
        hub: Arc<Hub>,
        ledger: Arc<Ledger>,
        term: Term,
        model: ModelName,
        waker: Arc<Notify>,
    ) -> Self {
        Self { repository, hub, ledger, judge: Judge::default(), term, model, waker, working: None, swept: None }
    }

    /// Runs until told to stop or until the deployment is gone.
    pub(super) async fn run(mut self, over: CancellationToken) -> ModelName {
        let mut reports = self.hub.changes();
        let waker = self.waker.clone();
        // Rounds in a row in which a change was written and nothing new was reported.
        let mut rounds = 0;
        while !over.is_cancelled() {
            rounds = if reports.has_changed().unwrap_or(false) { 0 } else { rounds + 1 };
            reports.mark_unchanged();
            let wait = match self.round().await {
                Ok(Next::Gone) => return self.model,
                Ok(Next::Again) if rounds < ROUNDS_LIMIT => continue,
                Ok(Next::Again) => {
                    tracing::error!(model = %self.model, "the planner proposed changes {ROUNDS_LIMIT} times in a row");
                    Some(CONFLICT_RETRY)
                }
                Ok(Next::Conflict) => {
                    self.working = None;
                    Some(CONFLICT_RETRY)
                }
                Ok(Next::Wait(at)) => at.map(|at| crate::hub::elapsed(Timestamp::now(), at)),
                Err(error) => {
                    tracing::warn!(model = %self.model, error = &error as &dyn std::error::Error, "will look again");
                    self.working = None;
                    Some(STORE_RETRY)
                }
            };
            rounds = 0;
            tokio::select! {
                () = over.cancelled() => {}
                () = waker.notified() => {}
                changed = reports.changed() => if changed.is_err() { return self.model },
                () = sleep(wait) => {}
            }
        }
        self.model
    }

    /// Reads what is new, plans, and writes what is planned.
    async fn round(&mut self) -> Result<Next> {
        let Some(deployment) = self.repository.get::<Deployment>(keys::deployment(&self.model)).await? else {
            return Ok(Next::Gone);
        };
        if self.working.as_ref().is_none_or(|working| working.deployment.mod_revision != deployment.mod_revision) {
            let slots = deployment.value.slots;
            if self.swept != Some(slots) || deployment.value.removing {
                match sweep::sweep(&self.repository, &self.hub, &self.term, &deployment).await? {
                    Swept::Clean => self.swept = Some(slots),
                    Swept::Conflict => return Ok(Next::Conflict),
                    Swept::StillServed => return Ok(Next::Wait(Timestamp::now().checked_add(STILL_SERVED_RETRY).ok())),
                }
            }
            self.working = Working::load(&self.repository, deployment).await?;
        }
        let Some(working) = &self.working else { return Ok(Next::Conflict) };
        self.judge.look(working, &self.ledger);
        let Plan { changes, wake_at } = self.plan(working);
        if changes.is_empty() {
            return Ok(Next::Wait(wake_at));
        }
        let written = self.execute(changes).await?;
        Ok(if written { Next::Again } else { Next::Conflict })
    }

    fn plan(&self, working: &Working) -> Plan {
        if working.deployment.value.removing {
            return Plan::default();
        }
        let now = Timestamp::now();
        let seen = self.hub.look(now);
        let (slot, epoch, verdicts) = (working.slot(), working.epoch(), self.judge.verdicts());
        let rollout = &working.rollout.value;
        let is_weighed = rollout.state == RolloutState::Preparing || rollout.is_in_place();
        let in_flight = if is_weighed { seen.in_flight(&self.model, now) } else { BTreeMap::new() };
        let spec = &working.revision.spec;
        let live = working.served().zip(working.before.as_ref().map(|revision| &revision.spec));
        let eye = RolloutEye {
            seen: &seen,
            model: &self.model,
            slot,
            epoch,
            now,
            verdicts,
            spec,
            live,
            committed: working.served().map(|state| state.epoch),
            in_flight: &in_flight,
        };
        plan::plan(rollout, &working.records, &eye, now)
    }

    /// Writes what is planned; `false` if somebody else wrote in between.
    async fn execute(&mut self, changes: Vec<Change>) -> Result<bool> {
        let (regions, fleet): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.region().is_some());
        for batch in regions.chunks(BATCH) {
            if !self.write_regions(batch).await? {
                return Ok(false);
            }
        }
        // What changes the fleet changes what the rest of the plan rested on: one at a time.
        match fleet.into_iter().next() {
            Some(change) => self.write_fleet(change).await,
            None => Ok(true),
        }
    }

    /// Writes changes of several regions in one transaction.
    async fn write_regions(&mut self, changes: &[Change]) -> Result<bool> {
        let now = Timestamp::now();
        let Some(working) = &mut self.working else { return Ok(false) };
        let mut txn = self.term.guard(Txn::new().when(working.rollout.unchanged()));
        let mut writes = Vec::with_capacity(changes.len());
        for change in changes {
            let Some(region) = change.region() else { continue };
            let write = working.region_write(&self.repository, change, region, now).await?;
            txn = working.add(txn, &write);
            writes.push(write);
        }
        let Some(revision) = self.repository.commit(txn).await? else { return Ok(false) };
        for write in writes {
            working.committed(write, revision);
        }
        Ok(true)
    }

    async fn write_fleet(&mut self, change: Change) -> Result<bool> {
        if let Change::Extend { regions } = &change {
            return Ok(self.extend_route(regions).await? && self.arm_regions(&change).await?);
        }
        if matches!(change, Change::Arm { .. }) && !self.arm_regions(&change).await? {
            return Ok(false);
        }
        if matches!(change, Change::Condemn { .. }) {
            return self.condemn(&change).await;
        }
        let now = Timestamp::now();
        let Some(working) = &self.working else { return Ok(false) };
        let txn = match &change {
            Change::Prepare => prepare(working, now),
            Change::Commit => commit_route(working, now),
            Change::Fail { .. } => admission::end(working.standing(), &change, None, now),
            Change::Retire => retire(working, now),
            Change::GiveWay { regions } => in_place::give_way(&self.repository, working, regions, now).await?,
            change => fleet(working, Txn::new(), change, now),
        };
        let written = self.repository.commit(self.term.guard(txn)).await?.is_some();
        // What is true now is in the store.
        if let Some(working) = self.working.take().filter(|_| written) {
            traced::fleet(&working.rollout.value, &change, working.epoch(), now);
        }
        Ok(written)
    }

    /// Takes users back from a revision that the monitors have condemned, or says that there is nothing to take them back to.
    async fn condemn(&mut self, change: &Change) -> Result<bool> {
        let now = Timestamp::now();
        let Some(working) = self.working.take() else { return Ok(false) };
        let txn = match admission::condemn(&self.repository, &self.hub, &working.rollout, change, now).await {
            Ok(txn) => txn,
            Err(problem) if problem.retryable => return Ok(false),
            Err(problem) => {
                tracing::warn!(model = %self.model, %problem, "users cannot be taken back");
                fleet(&working, Txn::new(), &Change::SoakEnded { soak: Soak::Failed }, now)
            }
        };
        Ok(self.repository.commit(self.term.guard(txn)).await?.is_some())
    }

    /// Adds regions that caught up to the route, unless a killed predecessor has done so. Their records follow: the route
    /// is one value for them all, and a region that is in it is not planned for a second time.
    async fn extend_route(&mut self, regions: &[RegionName]) -> Result<bool> {
        let Some(working) = &mut self.working else { return Ok(false) };
        let Some((txn, deployment, route)) = extend(working, regions) else { return Ok(true) };
        let Some(revision) = self.repository.commit(self.term.guard(txn)).await? else { return Ok(false) };
        working.extended(deployment, route, revision);
        Ok(true)
    }

    /// Arms the routed regions, many at a time; what a killed predecessor has armed is left as it is.
    async fn arm_regions(&mut self, change: &Change) -> Result<bool> {
        let now = Timestamp::now();
        let Some(working) = &mut self.working else { return Ok(false) };
        let revision = working.revision.number;
        let own = |state: &RouteState| state.served().find(|served| served.revision == revision).cloned();
        let Some(state) = working.served().and_then(own) else { return Ok(true) };
        for batch in state.regions.chunks(BATCH) {
            let mut txn = self.term.guard(Txn::new().when(working.rollout.unchanged()));
            let mut writes = Vec::with_capacity(batch.len());
            for region in batch {
                if let Some(write) = working.arm_write(&self.repository, change, region, state.epoch, now).await? {
                    txn = working.add(txn, &write);
                    writes.push(write);
                }
            }
            if writes.is_empty() {
                continue;
            }
            let Some(revision) = self.repository.commit(txn).await? else { return Ok(false) };
            for write in writes {
                working.committed(write, revision);
            }
        }
        Ok(true)
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A change of the rollout's record alone, in a transaction that may hold more.
fn fleet(working: &Working, txn: Txn, change: &Change, now: Timestamp) -> Txn {
    let mut rollout = working.rollout.value.clone();
    change.apply_fleet(&mut rollout, working.epoch(), now);
    let txn = txn.when(working.rollout.unchanged()).then(put(&working.rollout.key, &rollout));
    let model = &rollout.model;
    let event = match change {
        Change::Armed => (
            EventKind::MonitoringArmed,
            format!(
                "revision {} serves, monitoring is active; soaking for {}",
                rollout.revision, rollout.strategy.soak
            ),
        ),
        Change::SoakEnded { soak } => {
            (EventKind::SoakEnded, format!("the soak of revision {} ended: {soak:?}", rollout.revision).to_lowercase())
        }
        Change::Pause { reason } => {
            let message = format!("revision {} waits for a person: {reason}", rollout.revision);
            return txn.then(admission::event(now, model, EventKind::RolloutPaused, Severity::Warning, message));
        }
        Change::Shrink { end, reason } => {
            let last = rollout.regions.get(end.saturating_sub(1)).map_or("", AsRef::as_ref);
            (EventKind::RolloutRegion, format!("a wave of revision {} ends with {last}: {reason}", rollout.revision))
        }
        Change::Retire => (EventKind::RolloutFinished, format!("the rollout of revision {} is done", rollout.revision)),
        _ => return txn,
    };
    txn.then(admission::event(now, model, event.0, Severity::Info, event.1))
}

fn prepare(working: &Working, now: Timestamp) -> Txn {
    let epoch = working.epoch().next();
    let mut deployment = working.deployment.value.clone();
    deployment.latest_epoch = epoch;
    let mut rollout = working.rollout.value.clone();
    Change::Prepare.apply_fleet(&mut rollout, epoch, now);
    let route = Route {
        model: rollout.model.clone(),
        committed: working.served().cloned(),
        prepared: Some(working.offered(epoch)),
        pins: working.pins(),
    };
    write_route(working, &route)
        .when(working.deployment.unchanged())
        .when(working.rollout.unchanged())
        .then(put(&working.deployment.key, &deployment))
        .then(put(&working.rollout.key, &rollout))
}

fn commit_route(working: &Working, now: Timestamp) -> Txn {
    let mut deployment = working.deployment.value.clone();
    let mut rollout = working.rollout.value.clone();
    if rollout.in_last_stage() {
        deployment.live = Some(rollout.revision);
        deployment.live_rollout = Some(rollout.number);
    }
    Change::Commit.apply_fleet(&mut rollout, working.epoch(), now);
    let prepared = working.route.as_ref().and_then(|kept| kept.value.prepared.clone());
    let state = prepared.unwrap_or_else(|| working.offered(working.epoch()));
    let message = match &state.candidate {
        None => {
            format!("revision {} is live at epoch {} in {} regions", state.revision, state.epoch, state.regions.len())
        }
        Some(candidate) => {
            let detail = rollout.steps.route.as_ref().map_or("", |step| step.detail.as_str());
            format!("revision {} is routed at {detail}, in {} regions", rollout.revision, candidate.state.regions.len())
        }
    };
    let (model, pins) = (rollout.model.clone(), working.pins());
    let route = Route { model, committed: Some(state), prepared: None, pins };
    write_route(working, &route)
        .when(working.deployment.unchanged())
        .when(working.rollout.unchanged())
        .then(put(&working.deployment.key, &deployment))
        .then(put(&working.rollout.key, &rollout))
        .then(admission::event(now, &rollout.model, EventKind::RouteCommitted, Severity::Info, message))
}

/// Regions that caught up join the route at a new epoch: what is written, and what it makes of deployment and route;
/// `None` if all of them are in it.
fn extend(working: &Working, regions: &[RegionName]) -> Option<(Txn, Deployment, Route)> {
    let kept = working.route.as_ref()?;
    let (mut deployment, mut route) = (working.deployment.value.clone(), kept.value.clone());
    let committed = route.committed.as_mut()?;
    let routed: BTreeSet<&RegionName> = committed.regions.iter().chain(regions).collect();
    if routed.len() == committed.regions.len() {
        return None;
    }
    let in_order = working.rollout.value.regions.iter().filter(|region| routed.contains(region));
    committed.regions = in_order.cloned().collect();
    deployment.latest_epoch = working.epoch().next();
    *committed = committed.at(deployment.latest_epoch);
    let txn = Txn::new()
        .when(working.deployment.unchanged())
        .when(working.rollout.unchanged())
        .when(kept.unchanged())
        .then(put(&working.deployment.key, &deployment))
        .then(put(&kept.key, &route));
    Some((txn, deployment, route))
}

/// The old slot is given up; the sweep that follows empties it.
fn retire(working: &Working, now: Timestamp) -> Txn {
    let mut deployment = working.deployment.value.clone();
    deployment.slots[working.slot().other()] = None;
    // Users who are pinned to it get what is live.
    let (taken_back, _) = admission::take_back(Txn::new(), working.route.as_ref(), &mut deployment);
    debug_assert_ne!(working.rollout.value.state, RolloutState::Regions, "only what was routed is retired");
    fleet(working, taken_back, &Change::Retire, now)
        .when(working.deployment.unchanged())
        .then(put(&working.deployment.key, &deployment))
}

pub(super) fn write_route(working: &Working, route: &Route) -> Txn {
    let key = keys::route(&route.model);
    let unchanged = working.route.as_ref().map_or_else(|| Compare::absent(&key), |kept| kept.unchanged());
    Txn::new().when(unchanged).then(put(key, route))
}
