//! The working copy of one rollout: what the store holds, kept decoded, and each change as operations on it.

use std::{collections::BTreeMap, sync::Arc};

use tradewind_core::{
    Epoch, Generation, RegionName, Slot, Timestamp,
    assignment::{Assignment, SlotAssignment},
    deployment::{Deployment, Revision},
    event::{EventKind, EventRecord, Severity},
    pins::Pins,
    rollout::{RegionPhase, RegionRecord, Rollout, RolloutState, plan::Change},
    route::{Route, RouteState},
};
use tradewind_store::{Compare, Op, Txn};

use super::traced;
use crate::{
    admission::Standing,
    keys,
    repository::{Kept, Repository, Result, put},
};

#[derive(Debug)]
pub(super) struct Working {
    pub deployment: Kept<Deployment>,
    pub rollout: Kept<Rollout>,
    pub revision: Revision,
    /// What users get who do not get that, in a rollout whose regions give it up.
    pub before: Option<Revision>,
    pub route: Option<Kept<Route>>,
    /// Of every region of the rollout, in its order.
    pub records: Vec<RegionRecord>,
    /// Where each region's record is.
    places: BTreeMap<RegionName, usize>,
    /// As far as they have been read.
    assignments: BTreeMap<RegionName, Option<Kept<Assignment>>>,
}

/// A region's part of a transaction, and what it makes of the working copy once committed.
pub(super) struct RegionWrite {
    region: RegionName,
    record: RegionRecord,
    assignment: Option<Assignment>,
    event: Option<Op>,
}

impl Working {
    /// Reads everything; `None` if the deployment is gone or is being written at this moment.
    pub(super) async fn load(repository: &Repository, deployment: Kept<Deployment>) -> Result<Option<Self>> {
        let model = deployment.value.model.clone();
        let latest = deployment.value.latest_rollout;
        let Some(mut rollout) = repository.get::<Rollout>(keys::rollout(&model, latest)).await? else {
            return Ok(None);
        };
        if let Some(live) = deployment.value.live_rollout.filter(|_| rollout.value.state == RolloutState::Failed) {
            // What serves is still the work of an earlier rollout.
            let Some(earlier) = repository.get::<Rollout>(keys::rollout(&model, live)).await? else { return Ok(None) };
            rollout = earlier;
        }
        let number = rollout.value.records();
        let key = keys::revision(&model, rollout.value.revision);
        let Some(revision) = repository.get::<Revision>(key).await? else { return Ok(None) };
        let mut records = rollout.value.new_records();
        let places: BTreeMap<RegionName, usize> = rollout.value.regions.iter().cloned().zip(0..).collect();
        for kept in repository.list::<RegionRecord>(keys::records(&model, number)).await?.items {
            if let Some(place) = places.get(&kept.value.region) {
                records[*place] = kept.value;
            }
        }
        let route = repository.get::<Route>(keys::route(&model)).await?;
        let before = match route.as_ref().and_then(|kept: &Kept<Route>| kept.value.committed.as_ref()) {
            Some(state) if rollout.value.is_in_place() => {
                repository.get::<Revision>(keys::revision(&model, state.revision)).await?.map(|kept| kept.value)
            }
            _ => None,
        };
        let assignments = BTreeMap::new();
        Ok(Some(Self { deployment, rollout, revision: revision.value, before, route, records, places, assignments }))
    }

    /// The newest epoch that the gateways were told of in this rollout.
    pub(super) fn epoch(&self) -> Epoch {
        self.deployment.value.latest_epoch
    }

    pub(super) fn record(&self, region: &RegionName) -> Option<&RegionRecord> {
        self.places.get(region).map(|place| &self.records[*place])
    }

    pub(super) fn slot(&self) -> Slot {
        self.rollout.value.slot
    }

    async fn assignment(&mut self, repository: &Repository, region: &RegionName) -> Result<Option<Kept<Assignment>>> {
        if let Some(known) = self.assignments.get(region) {
            return Ok(known.clone());
        }
        let kept = repository.get::<Assignment>(keys::assignment(region, &self.deployment.value.model)).await?;
        self.assignments.insert(region.clone(), kept.clone());
        Ok(kept)
    }

    /// What a change of a region writes.
    pub(super) async fn region_write(
        &mut self,
        repository: &Repository,
        change: &Change,
        region: &RegionName,
        now: Timestamp,
    ) -> Result<RegionWrite> {
        let mut record = self.record(region).cloned().unwrap_or_else(|| RegionRecord::pending(region.clone()));
        change.apply_region(&self.rollout.value, &mut record, now);
        let before = self.assignment(repository, region).await?;
        let slot = self.slot();
        let assignment = match change {
            Change::Begin { .. } | Change::Resume { .. } => {
                let candidate = self.candidate(&record);
                Some(self.assign(before, region, |slots| {
                    if candidate.alone {
                        slots.clear();
                    }
                    slots.insert(slot, candidate)
                }))
            }
            Change::Deployed { .. } => Some(self.amend(before, region, |held| held.monitored = true)),
            Change::Monitored { .. } => {
                let attempt = record.attempt;
                Some(self.amend(before, region, |held| held.verify = Some(attempt)))
            }
            Change::AttemptFailed { .. } if record.phase == RegionPhase::Failed => {
                Some(self.assign(before, region, |slots| slots.remove(&slot)))
            }
            _ => None,
        };
        let event = self.region_event(change, &record, now);
        Ok(RegionWrite { region: region.clone(), record, assignment, event })
    }

    /// The region takes users from the committed route's epoch on: by a switch, or because it has caught up.
    pub(super) async fn arm_write(
        &mut self,
        repository: &Repository,
        change: &Change,
        region: &RegionName,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Option<RegionWrite>> {
        let Some(record) = self.record(region).filter(|record| record.routed_at.is_none()) else {
            return Ok(None);
        };
        let record = RegionRecord { routed_at: Some(epoch), ..record.clone() };
        let before = self.assignment(repository, region).await?;
        let assignment = Some(self.amend(before, region, |held| held.armed = true));
        let event = self.region_event(change, &record, now);
        Ok(Some(RegionWrite { region: region.clone(), record, assignment, event }))
    }

    fn candidate(&self, record: &RegionRecord) -> SlotAssignment {
        let (spec, region) = (&self.revision.spec, &record.region);
        SlotAssignment {
            revision: self.revision.number,
            version: spec.version,
            digest: spec.digest,
            scale: spec.scale_of(region).clone(),
            health: spec.health_of(region),
            monitors: spec.monitors_of(region),
            attempt: record.attempt,
            monitored: false,
            verify: None,
            armed: false,
            alone: record.alone,
            trace: self.rollout.value.trace,
        }
    }

    fn assign(
        &self,
        before: Option<Kept<Assignment>>,
        region: &RegionName,
        change: impl FnOnce(&mut BTreeMap<Slot, SlotAssignment>) -> Option<SlotAssignment>,
    ) -> Assignment {
        let mut assignment = before.map_or_else(
            || Assignment {
                region: region.clone(),
                model: self.deployment.value.model.clone(),
                // Above every generation that an earlier assignment of this region and model had: each of its changes
                // was a revision of the store, and it was swept after the deployment had changed.
                generation: Generation(self.deployment.mod_revision.get()),
                slots: BTreeMap::new(),
                by_hand: None,
            },
            |kept| kept.value,
        );
        assignment.generation = assignment.generation.next();
        change(&mut assignment.slots);
        assignment
    }

    fn amend(
        &self,
        before: Option<Kept<Assignment>>,
        region: &RegionName,
        change: impl FnOnce(&mut SlotAssignment),
    ) -> Assignment {
        let slot = self.slot();
        self.assign(before, region, |slots| {
            if let Some(held) = slots.get_mut(&slot) {
                change(held);
            }
            None
        })
    }

    /// Adds a region's writes to a transaction that must not happen if anybody else wrote them.
    pub(super) fn add(&self, mut txn: Txn, write: &RegionWrite) -> Txn {
        let model = &self.deployment.value.model;
        let key = keys::record(model, self.rollout.value.records(), &write.region);
        txn = txn.then(put(key, &write.record));
        if let Some(assignment) = &write.assignment {
            let key = keys::assignment(&write.region, model);
            let unchanged = match self.assignments.get(&write.region) {
                Some(Some(kept)) => kept.unchanged(),
                _ => Compare::absent(&key),
            };
            txn = txn.when(unchanged).then(put(key, assignment));
        }
        match &write.event {
            Some(event) => txn.then(event.clone()),
            None => txn,
        }
    }

    /// Takes over what was committed.
    pub(super) fn committed(&mut self, write: RegionWrite, revision: tradewind_store::Revision) {
        if let Some(value) = write.assignment {
            let key = keys::assignment(&write.region, &self.deployment.value.model);
            self.assignments.insert(write.region.clone(), Some(Kept { key, value, mod_revision: revision }));
        }
        if let Some(place) = self.places.get(&write.region) {
            traced::region(&self.rollout.value, &self.records[*place], &write.record);
            self.records[*place] = write.record;
        }
    }

    /// Takes over a route with more regions in it, which was committed.
    pub(super) fn extended(&mut self, deployment: Deployment, route: Route, revision: tradewind_store::Revision) {
        (self.deployment.value, self.deployment.mod_revision) = (deployment, revision);
        let key = keys::route(&route.model);
        self.route = Some(Kept { key, value: route, mod_revision: revision });
    }

    /// The route that is offered to gateways.
    pub(super) fn offered(&self, epoch: Epoch) -> RouteState {
        self.rollout.value.offered(&self.records, &self.revision, self.served(), &self.pins(), epoch)
    }

    /// What users get now.
    pub(super) fn served(&self) -> Option<&RouteState> {
        self.route.as_ref()?.value.committed.as_ref()
    }

    pub(super) fn pins(&self) -> Arc<Pins> {
        self.route.as_ref().map(|route| Arc::clone(&route.value.pins)).unwrap_or_default()
    }

    pub(super) fn standing(&self) -> Standing<'_> {
        Standing { deployment: &self.deployment, rollout: &self.rollout, route: self.route.as_ref() }
    }

    fn region_event(&self, change: &Change, record: &RegionRecord, now: Timestamp) -> Option<Op> {
        let revision = self.rollout.value.revision;
        let (kind, severity, message) = match change {
            Change::Verified { .. } => {
                let detail = record.verify.as_ref().map_or("", |step| step.detail.as_str());
                (EventKind::RolloutRegion, Severity::Info, format!("revision {revision} is verified: {detail}"))
            }
            Change::AttemptFailed { action, failure, .. } => {
                let cause = failure.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
                let attempts = self.rollout.value.strategy.retries + 1;
                let message = format!(
                    "revision {revision}, attempt {} of {attempts} to {} failed: {}{cause}",
                    record.attempt,
                    action.words(),
                    failure.message
                );
                (EventKind::RolloutRegion, Severity::Warning, message)
            }
            Change::Defer { detail, .. } => {
                (EventKind::RegionDeferred, Severity::Warning, format!("revision {revision} is deferred: {detail}"))
            }
            Change::Extend { .. } => (
                EventKind::RegionCaughtUp,
                Severity::Info,
                format!("caught up with revision {revision} and takes traffic"),
            ),
            _ => return None,
        };
        let model = self.deployment.value.model.clone();
        let unique = format!("{model}/{}/{}/{kind:?}/{}", self.rollout.value.number, record.region, record.attempt);
        let event =
            EventRecord { at: now, severity, kind, region: Some(record.region.clone()), model: Some(model), message };
        Some(put(keys::event(now, &unique), &event))
    }
}
