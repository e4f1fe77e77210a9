//! Moving users to another revision: in one epoch where its replicas are still there, else by a rollout that brings them up
//! and verifies them first.

use std::{collections::BTreeSet, sync::Arc};

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{MoveAnswer, RollbackRequest, SwitchRequest},
};
use tradewind_core::{
    Epoch, ModelName, RegionName, RevisionNumber, Slot, Timestamp,
    assignment::Failure,
    deployment::{Bad, Deployment, DeploymentSpec, Revision},
    event::{EventKind, Severity},
    rollout::{
        Action, RegionRecord, Rollout, RolloutFailure, RolloutKind,
        plan::{Change, Reach},
        strategy::{Strategy, Switch},
    },
    route::{Route, RouteState},
    trace::TraceParent,
};
use tradewind_store::{Compare, Txn};

use super::{
    Asked, CONFLICT_RETRIES, Existing, Loaded, begin, check_supersedable, conflict, end, event, not_deployed, person,
    plan_document, spec::find_version, supersede,
};
use crate::{
    hub::{Hub, Seen},
    keys,
    repository::{Kept, Repository, put},
};

/// Who takes users back when nobody is asked.
const MONITORS: &str = "the monitors";

/// Users go back to what served them before, and what they leave is remembered as bad.
pub async fn rollback(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    request: &RollbackRequest,
    trace: Option<TraceParent>,
    now: Timestamp,
) -> Result<MoveAnswer, Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Some(past) = Past::load(repository, model).await? else { continue };
        let live = past.live()?;
        if request.to.is_none() && past.has_candidate() {
            let (txn, answer) = past.withdraw(live, &request.requested_by, now);
            if repository.commit(txn).await?.is_some() {
                hub.wake();
                return Ok(answer);
            }
            continue;
        }
        let target = past.rollback_target(&live, request)?;
        if target.number == live.number {
            return Ok(past.unchanged(live));
        }
        let asked = Asked { by: &request.requested_by, trace, at: now, again: None };
        let (txn, answer) = past.go_back(repository, hub, &live, &target, asked).await?;
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(answer);
        }
    }
    Err(conflict(model))
}

/// Users get what the other slot holds, if it is warm.
pub async fn switch(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    request: &SwitchRequest,
    now: Timestamp,
) -> Result<MoveAnswer, Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Some(past) = Past::load(repository, model).await? else { continue };
        let live = past.live()?;
        let deployment = &past.existing.deployment.value;
        if deployment.live_slot() == Some(request.to) {
            return Ok(past.unchanged(live));
        }
        let slot = request.to;
        let held = deployment.slots[slot].ok_or_else(|| {
            Problem::new(Code::Refused, format!("slot {slot} of {model} holds nothing"))
                .hint(format!("see what the slots hold with `tradewind status {model}`"))
        })?;
        if deployment.bad.contains_key(&held) {
            let hint = format!("tradewind rollback {model} --to {held} --allow-bad");
            return Err(Problem::new(Code::Refused, format!("{model} was rolled back from revision {held}")).hint(hint));
        }
        let target = past.revision(held)?.clone();
        let warm = past.warm(repository, hub, &target, now).await?.ok_or_else(|| {
            let problem = Problem::new(
                Code::Refused,
                format!("revision {held} in slot {slot} of {model} is not ready to take users everywhere"),
            );
            problem.hint(format!("see what it lacks with `tradewind status {model}`"))
        })?;
        let asked = Asked { by: &request.requested_by, trace: None, at: now, again: None };
        let (txn, answer) = past.revisit(deployment.clone(), RolloutKind::Switch, &warm, &asked);
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(answer);
        }
    }
    Err(conflict(model))
}

/// Users leave a revision that soaks, for what served before it.
pub(super) async fn abort(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    from: Option<RevisionNumber>,
    by: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let Some(to) = from else {
        return Err(Problem::new(
            Code::Refused,
            format!("nothing of {model} served before: there is nothing to go back to"),
        )
        .hint(format!("take it out of all regions with `tradewind undeploy {model}`")));
    };
    let request = RollbackRequest { to: Some(to), allow_bad: true, requested_by: by.to_owned() };
    rollback(repository, hub, model, &request, None, now).await.map(drop)
}

pub(crate) fn unknown_revision(model: &ModelName, number: RevisionNumber) -> Problem {
    Problem::new(Code::NotFound, format!("{model} has no revision {number}"))
        .hint(format!("see those that it has with `tradewind history {model}`"))
}

/// The transaction by which users are taken back from what the monitors have condemned.
pub(crate) async fn condemn(
    repository: &Repository,
    hub: &Arc<Hub>,
    condemned: &Kept<Rollout>,
    change: &Change,
    now: Timestamp,
) -> Result<Txn, Problem> {
    let model = &condemned.value.model;
    let mut past = Past::load(repository, model).await?.ok_or_else(|| conflict(model))?;
    let kept = &mut past.existing.rollout;
    if kept.value.number != condemned.value.number || kept.mod_revision != condemned.mod_revision {
        return Err(conflict(model));
    }
    if !condemned.value.has_served() {
        let bad = Bad { at: now, by: MONITORS.to_owned() };
        return Ok(end(past.existing.standing(), change, Some(bad), now));
    }
    change.apply_fleet(&mut kept.value, Default::default(), now);
    let (ended, guard) = (put(&kept.key, &kept.value), kept.unchanged());
    let why = kept.value.failure.as_ref().map(|failure| failure.failure.message.clone()).unwrap_or_default();
    let live = past.live()?;
    let target = past.rollback_target(&live, &RollbackRequest::default())?;
    let asked = Asked { by: MONITORS, trace: None, at: now, again: None };
    let (txn, _) = past.go_back(repository, hub, &live, &target, asked).await?;
    let message = format!("revision {} is rolled back: {why}", live.number);
    Ok(txn.when(guard).then(ended).then(event(now, model, EventKind::RolloutFailed, Severity::Error, message)))
}

/// Nothing brings back what was judged bad, unless it is told to; then it is not taken for bad any more.
pub(super) async fn check_bad(
    repository: &Repository,
    deployment: &mut Deployment,
    spec: &DeploymentSpec,
    allowed: bool,
    now: Timestamp,
) -> Result<(), Problem> {
    for (number, Bad { at, by }) in deployment.bad.clone() {
        let revision = repository.get::<Revision>(keys::revision(&spec.model, number)).await?;
        if !revision.is_some_and(|kept| kept.value.spec.runs_the_same(spec)) {
            continue;
        }
        if !allowed {
            let ago = crate::hub::elapsed(at, now).as_secs();
            let model = &spec.model;
            return Err(Problem::new(
                Code::Refused,
                format!("this is revision {number} of {model} again, from which {by} rolled back {ago} s ago"),
            )
            .hint("deploy something else, or this all the same with --allow-bad"));
        }
        deployment.bad.remove(&number);
    }
    Ok(())
}

/// A deployment with all that it was.
pub(super) struct Past {
    pub(super) existing: Existing,
    /// In the order of their numbers.
    rollouts: Vec<Rollout>,
    revisions: Vec<Revision>,
}

/// A revision whose replicas are there, and the rollout that brought them.
pub(super) struct Warm {
    pub(super) revision: Revision,
    brought: Rollout,
    records: Vec<RegionRecord>,
}

impl Warm {
    /// What those get who get this.
    pub(super) fn state(&self, epoch: Epoch) -> RouteState {
        let routed: BTreeSet<&RegionName> = self.records.iter().map(|record| &record.region).collect();
        let regions = self.brought.regions.iter().filter(|region| routed.contains(region)).cloned().collect();
        RouteState::of(&self.revision, epoch, self.brought.slot, regions)
    }
}

impl Past {
    /// `None` if it was written between the reads.
    pub(super) async fn load(repository: &Repository, model: &ModelName) -> Result<Option<Self>, Problem> {
        let existing = match Existing::load(repository, model).await? {
            Loaded::Torn => return Ok(None),
            Loaded::Whole(existing) => *existing.ok_or_else(|| not_deployed(model))?,
        };
        if existing.deployment.value.removing {
            return Err(not_deployed(model));
        }
        Ok(Some(Self {
            existing,
            rollouts: repository.list::<Rollout>(keys::rollouts(model)).await?.values(),
            revisions: repository.list::<Revision>(keys::revisions(model)).await?.values(),
        }))
    }

    fn model(&self) -> &ModelName {
        &self.existing.deployment.value.model
    }

    fn live(&self) -> Result<Revision, Problem> {
        let model = self.model();
        let live = self.existing.deployment.value.live.ok_or_else(|| {
            Problem::new(Code::Refused, format!("users get no revision of {model} yet"))
                .hint(format!("see its rollout with `tradewind rollout show {model}`"))
        })?;
        self.revision(live).cloned()
    }

    pub(super) fn revision(&self, number: RevisionNumber) -> Result<&Revision, Problem> {
        let found = self.revisions.iter().find(|revision| revision.number == number);
        found.ok_or_else(|| unknown_revision(self.model(), number))
    }

    fn rollback_target(&self, live: &Revision, request: &RollbackRequest) -> Result<Revision, Problem> {
        let (model, deployment) = (self.model(), &self.existing.deployment.value);
        if let Some(number) = request.to {
            let revision = self.revision(number)?;
            let bad = deployment.bad.get(&number).filter(|_| !request.allow_bad);
            return match bad {
                Some(bad) => {
                    Err(Problem::new(Code::Refused, format!("{} rolled {model} back from revision {number}", bad.by))
                        .hint("go to another one, or to this one all the same with --allow-bad"))
                }
                None => Ok(revision.clone()),
            };
        }
        let served = self.rollouts.iter().filter(|rollout| rollout.has_served());
        let served: BTreeSet<RevisionNumber> = served.map(|rollout| rollout.revision).collect();
        let target = deployment.rollback_target(&served, live.origin()).ok_or_else(|| {
            let none = format!("no revision of {model} before {} has served users and is not bad", live.origin());
            Problem::new(Code::Refused, none)
                .hint(format!("see all of them with `tradewind history {model}`, and go to any with --to"))
        })?;
        self.revision(target).cloned()
    }

    /// Some users get the revision of a rollout that is under way.
    fn has_candidate(&self) -> bool {
        let committed = self.existing.route.as_ref().and_then(|route| route.value.committed.as_ref());
        let candidate = committed.and_then(|state| state.candidate.as_ref());
        let rollout = &self.existing.rollout.value;
        !rollout.state.is_final() && candidate.is_some_and(|candidate| candidate.state.revision == rollout.revision)
    }

    /// Those who have a revision that not everybody has yet go back, and it is remembered as bad.
    fn withdraw(&self, live: Revision, by: &str, now: Timestamp) -> (Txn, MoveAnswer) {
        let rollout = &self.existing.rollout.value;
        let by = person(by);
        let failure =
            Failure { message: format!("rolled back by {by}"), causes: Vec::new(), hint: None, retryable: false };
        let failure = RolloutFailure { region: None, action: Action::SelectRegions, failure };
        let txn = end(self.existing.standing(), &Change::Fail { failure }, Some(Bad { at: now, by }), now);
        let epoch = self.existing.deployment.value.latest_epoch.next();
        let answer = MoveAnswer {
            from: Some(rollout.revision),
            rollout: Some(rollout.number),
            epoch: Some(epoch),
            ..self.unchanged(live)
        };
        (txn, answer)
    }

    /// From `live` to `target`. What is older is gone to because what is newer was bad.
    async fn go_back(
        &self,
        repository: &Repository,
        hub: &Hub,
        live: &Revision,
        target: &Revision,
        asked: Asked<'_>,
    ) -> Result<(Txn, MoveAnswer), Problem> {
        let mut deployment = self.existing.deployment.value.clone();
        deployment.bad.remove(&target.number);
        if target.number < live.number {
            let bad = Bad { at: asked.at, by: person(asked.by) };
            deployment.mark_bad(live.origin(), bad.clone());
            deployment.mark_bad(live.number, bad);
        }
        match self.warm(repository, hub, target, asked.at).await? {
            Some(warm) => Ok(self.revisit(deployment, RolloutKind::Rollback, &warm, &asked)),
            None => self.bring_up(repository, deployment, target, asked).await,
        }
    }

    /// The answer to who asks for what users get already.
    fn unchanged(&self, live: Revision) -> MoveAnswer {
        MoveAnswer {
            schema_version: SCHEMA_VERSION,
            model: self.model().clone(),
            revision: live.number,
            version: live.spec.version,
            from: Some(live.number),
            slot: self.existing.deployment.value.live_slot().unwrap_or(Slot::Blue),
            rollout: None,
            epoch: self.existing.route.as_ref().and_then(|route| Some(route.value.committed.as_ref()?.epoch)),
            warm: true,
        }
    }

    /// Whether the other slot still holds a revision that has served, with replicas wherever anybody can tell.
    pub(super) async fn warm(
        &self,
        repository: &Repository,
        hub: &Hub,
        target: &Revision,
        now: Timestamp,
    ) -> Result<Option<Warm>, Problem> {
        let deployment = &self.existing.deployment.value;
        let slot = deployment.candidate_slot();
        let brought = self
            .rollouts
            .iter()
            .rfind(|rollout| rollout.revision == target.number && rollout.has_served())
            .filter(|_| deployment.slots[slot] == Some(target.number));
        let Some(brought) = brought else { return Ok(None) };
        let kept = repository.list::<RegionRecord>(keys::records(self.model(), brought.records())).await?;
        let (records, others): (Vec<RegionRecord>, Vec<RegionRecord>) =
            kept.values().into_iter().partition(|record| record.routed_at.is_some());
        if others.iter().any(|record| record.alone) {
            // It has been given up in some regions.
            return Ok(None);
        }
        let seen = hub.look(now);
        let stands = records.iter().map(|record| stand(&seen, target, slot, self.model(), record, now));
        let stands: Vec<Stand> = stands.collect();
        if stands.contains(&Stand::Unknown) {
            let mut problem =
                Problem::new(Code::Refused, "the control plane has just started and knows too little yet");
            problem.retryable = true;
            return Err(problem.hint("try again in some seconds"));
        }
        let is_warm = stands.contains(&Stand::Ready) && !stands.contains(&Stand::Missing);
        Ok(is_warm.then(|| Warm { revision: target.clone(), brought: brought.clone(), records }))
    }

    /// Everything in one transaction: what it costs does not depend on the number of regions, nor on that of users.
    fn revisit(
        &self,
        mut deployment: Deployment,
        kind: RolloutKind,
        warm: &Warm,
        asked: &Asked<'_>,
    ) -> (Txn, MoveAnswer) {
        let now = asked.at;
        let model = self.model();
        let from = deployment.live;
        deployment.latest_rollout = deployment.latest_rollout.next();
        deployment.latest_epoch = deployment.latest_epoch.next();
        deployment.live = Some(warm.revision.number);
        deployment.live_rollout = Some(deployment.latest_rollout);
        let (number, epoch) = (deployment.latest_rollout, deployment.latest_epoch);
        let rollout = Rollout { from, ..warm.brought.revisit(kind, number, epoch, now) };
        let state = warm.state(epoch);
        let message = format!(
            "revision {}, which is warm, is live again at epoch {epoch} in {} regions, by {}",
            state.revision,
            state.regions.len(),
            person(asked.by)
        );
        let answer = MoveAnswer {
            schema_version: SCHEMA_VERSION,
            model: model.clone(),
            revision: state.revision,
            version: state.version,
            from,
            slot: state.live,
            rollout: Some(number),
            epoch: Some(epoch),
            warm: true,
        };
        let key = keys::route(model);
        let unchanged = self.existing.route.as_ref().map_or_else(|| Compare::absent(&key), Kept::unchanged);
        let pins = self.existing.route.as_ref().map(|route| Arc::clone(&route.value.pins)).unwrap_or_default();
        let route = Route { model: model.clone(), committed: Some(state), prepared: None, pins };
        let txn = Txn::new()
            .when(self.existing.deployment.unchanged())
            .when(unchanged)
            .then(put(keys::deployment(model), &deployment))
            .then(put(keys::rollout(model, number), &rollout))
            .then(put(key, &route))
            .then(event(now, model, EventKind::RouteCommitted, Severity::Info, message));
        (supersede(txn, &self.existing, now), answer)
    }

    /// A rollout of the same spec as a new revision. It takes over from one that is under way.
    async fn bring_up(
        &self,
        repository: &Repository,
        deployment: Deployment,
        target: &Revision,
        asked: Asked<'_>,
    ) -> Result<(Txn, MoveAnswer), Problem> {
        let model = self.model();
        check_supersedable(model, &self.existing.rollout.value, true)?;
        let mut spec = target.spec.clone();
        // Where there is no room for two revisions, the way back is the same.
        if self.live()?.spec.strategy.switch == Switch::InPlace {
            spec.strategy = Strategy { switch: Switch::InPlace, ..spec.strategy }.of_rollback();
        }
        let version = find_version(repository, model, Some(spec.version)).await?;
        let plan = plan_document(&spec, &deployment, Some(&self.existing));
        let asked = Asked { again: Some(target.origin()), ..asked };
        let (txn, rollout) = begin(model, Some(&self.existing), deployment, spec, &plan, asked);
        let answer = MoveAnswer {
            schema_version: SCHEMA_VERSION,
            model: model.clone(),
            revision: plan.revision,
            version: plan.version,
            from: plan.from,
            slot: plan.slot,
            rollout: Some(rollout),
            epoch: None,
            warm: false,
        };
        Ok((txn.when(version.unchanged()), answer))
    }
}

/// How a region stands with a revision that it once served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Ready,
    Missing,
    /// Nobody can tell, and nobody gets users there.
    Away,
    /// Nobody has listened for long enough.
    Unknown,
}

fn stand(
    seen: &Seen,
    target: &Revision,
    slot: Slot,
    model: &ModelName,
    record: &RegionRecord,
    now: Timestamp,
) -> Stand {
    match seen.reach(&record.region, now) {
        Reach::Unreachable { .. } => Stand::Away,
        Reach::Unknown => Stand::Unknown,
        Reach::Reachable => {
            let held = seen.agents.get(&record.region).and_then(|agent| agent.slot(model, slot));
            let is_ready = held.is_some_and(|held| held.revision == target.number && held.can_serve());
            if is_ready { Stand::Ready } else { Stand::Missing }
        }
    }
}
