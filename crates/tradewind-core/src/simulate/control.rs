//! What the simulated control plane has written, and what each change makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Scenario,
    region::{Assigned, Assignment, Taken},
};
use crate::{
    Digest, Epoch, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp, VersionNumber,
    deployment::{DeploymentSpec, Revision, SlotRevisions},
    pins::Pins,
    rollout::{RegionPhase, RegionRecord, Rollout, RolloutKind, RolloutState, Soak, plan::Change},
    route::RouteState,
};

/// What control has written.
#[derive(Debug)]
pub(super) struct Control {
    /// The one that is planned.
    pub rollout: Rollout,
    pub records: Vec<RegionRecord>,
    /// The one that was asked for, when users were taken back from it after everybody had it.
    pub left: Option<(Rollout, Vec<RegionRecord>)>,
    revision: Revision,
    /// What served before, with the rollout that brought it.
    pub before: Option<(Rollout, Vec<RegionRecord>, Revision)>,
    pub slots: SlotRevisions,
    /// The newest that was given out.
    pub epoch: Epoch,
    pub committed: Option<Arc<RouteState>>,
    pub committed_at: Timestamp,
    pub prepared: Option<RouteState>,
    pub assignments: BTreeMap<RegionName, Assignment>,
    /// Since when the revision of the rollout has had users in a region.
    pub served_since: BTreeMap<RegionName, Timestamp>,
    /// Regions may still have what no slot is to hold any more.
    pub unswept: bool,
}

impl Control {
    pub(super) fn new(scenario: &Scenario, now: Timestamp) -> Self {
        let number = RevisionNumber(if scenario.replaces { 2 } else { 1 });
        let revision = revision(scenario, number, now);
        let rollout = rollout(scenario, number, now);
        let mut slots = SlotRevisions::default();
        slots[rollout.slot] = Some(number);
        let mut control = Self {
            records: rollout.new_records(),
            rollout,
            left: None,
            revision,
            before: None,
            slots,
            epoch: Epoch(0),
            committed: None,
            committed_at: now,
            prepared: None,
            assignments: scenario.regions.iter().map(|region| (region.clone(), Assignment::new())).collect(),
            served_since: BTreeMap::new(),
            unswept: false,
        };
        if scenario.replaces {
            control.serve_already(scenario, now);
        }
        control
    }

    /// Revision 1 serves everybody since long ago.
    fn serve_already(&mut self, scenario: &Scenario, now: Timestamp) {
        let number = RevisionNumber(1);
        let revision = revision(scenario, number, now);
        self.epoch = Epoch(1);
        let brought = Rollout {
            state: RolloutState::Succeeded,
            soak: Soak::Passed,
            committed_at: Some(now),
            finished_at: Some(now),
            from: None,
            ..rollout(scenario, number, now)
        };
        let record = |region: &RegionName| RegionRecord {
            phase: RegionPhase::Verified,
            attempt: 1,
            routed_at: Some(self.epoch),
            ..RegionRecord::pending(region.clone())
        };
        let records = scenario.regions.iter().map(record).collect();
        let state = RouteState::of(&revision, self.epoch, brought.slot, scenario.regions.clone());
        self.slots[brought.slot] = Some(number);
        let assigned = Assigned { revision: number, attempt: 1, monitored: true, verify: Some(1), armed: true };
        for assignment in self.assignments.values_mut() {
            assignment.insert(brought.slot, assigned);
        }
        self.committed = Some(Arc::new(state));
        self.before = Some((brought, records, revision));
    }

    /// What serves in all regions when it begins.
    pub(super) fn serving(&self) -> Option<(Slot, RevisionNumber)> {
        self.committed.as_ref().map(|state| (state.live, state.revision))
    }

    /// What gateways are told.
    pub(super) fn offer(&self) -> Taken {
        Taken { prepared: self.prepared.as_ref().map(|state| state.epoch), committed: self.committed.clone() }
    }

    pub(super) fn assignment(&self, region: &RegionName) -> &Assignment {
        &self.assignments[region]
    }

    fn commit(&mut self, state: RouteState, now: Timestamp) {
        let revision = self.rollout.revision;
        let regions = state.served().filter(|served| served.revision == revision).flat_map(|served| &served.regions);
        let regions: Vec<RegionName> = regions.cloned().collect();
        self.served_since.retain(|region, _| regions.contains(region));
        for region in regions {
            self.served_since.entry(region).or_insert(now);
        }
        self.committed = Some(Arc::new(state));
        self.committed_at = now;
        self.prepared = None;
    }

    pub(super) fn write_region(&mut self, change: &Change, now: Timestamp) {
        let of_change = |record: &&mut RegionRecord| Some(&record.region) == change.region();
        let Some(record) = self.records.iter_mut().find(of_change) else { return };
        change.apply_region(&self.rollout, record, now);
        let (slot, attempt) = (self.rollout.slot, record.attempt);
        let assignment = self.assignments.entry(record.region.clone()).or_default();
        match change {
            Change::Begin { .. } | Change::Resume { .. } => {
                let revision = self.rollout.revision;
                let assigned = Assigned { revision, attempt, monitored: false, verify: None, armed: false };
                if record.alone {
                    assignment.clear();
                }
                assignment.insert(slot, assigned);
            }
            Change::Deployed { .. } => amend(assignment, slot, |assigned| assigned.monitored = true),
            Change::Monitored { .. } => amend(assignment, slot, |assigned| assigned.verify = Some(attempt)),
            Change::AttemptFailed { .. } if record.phase == RegionPhase::Failed => {
                assignment.remove(&slot);
            }
            _ => {}
        }
    }

    /// The regions of the committed route take users from its epoch on.
    fn arm_regions(&mut self) {
        let revision = self.rollout.revision;
        let Some(committed) = self.committed.clone() else { return };
        let Some(state) = committed.served().find(|served| served.revision == revision) else { return };
        for record in self.records.iter_mut().filter(|record| state.regions.contains(&record.region)) {
            if record.routed_at.is_none() {
                record.routed_at = Some(state.epoch);
                let assignment = self.assignments.entry(record.region.clone()).or_default();
                amend(assignment, self.rollout.slot, |assigned| assigned.armed = true);
            }
        }
    }

    pub(super) fn write_fleet(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::Prepare => {
                self.epoch = self.epoch.next();
                self.prepared = Some(self.rollout.offered(
                    &self.records,
                    &self.revision,
                    self.committed.as_deref(),
                    &Pins::default(),
                    self.epoch,
                ));
            }
            Change::Commit => {
                if let Some(prepared) = self.prepared.clone() {
                    self.commit(prepared, now);
                }
            }
            Change::GiveWay { regions } => self.give_way(regions, now),
            Change::Arm { .. } => self.arm_regions(),
            Change::Extend { regions } => return self.extend(regions, now),
            Change::Retire => {
                self.slots[self.rollout.slot.other()] = None;
                self.unswept = true;
            }
            Change::Fail { .. } | Change::Condemn { .. } => return self.end(change, now),
            _ => {}
        }
        change.apply_fleet(&mut self.rollout, self.epoch, now);
    }

    /// Nobody is sent to these regions any more; what they serve is deferred there, should it be wanted again.
    fn give_way(&mut self, regions: &[RegionName], now: Timestamp) {
        let own = self.records.iter_mut().filter(|record| regions.contains(&record.region));
        own.for_each(|record| record.make_room(&self.rollout, now));
        let of_before = self.before.iter_mut().flat_map(|(_, records, _)| records);
        of_before.filter(|record| regions.contains(&record.region)).for_each(RegionRecord::give_way);
        let Some(state) = self.committed.clone() else { return };
        self.epoch = self.epoch.next();
        self.commit(state.without_regions(regions, self.epoch), now);
    }

    /// What served before is planned again, where it gave way to a rollout that has failed.
    pub(super) fn bring_back(&mut self) -> bool {
        let gave_way = |(_, records, _): &mut (Rollout, Vec<RegionRecord>, Revision)| {
            records.iter().any(|record| record.routed_at.is_none())
        };
        let has_failed = self.rollout.state == RolloutState::Failed;
        let Some((rollout, records, revision)) = self.before.take_if(|before| has_failed && gave_way(before)) else {
            return false;
        };
        let failed = std::mem::replace(&mut self.rollout, rollout);
        let its_records = std::mem::replace(&mut self.records, records);
        self.left.get_or_insert((failed, its_records));
        self.revision = revision;
        true
    }

    /// A rollout of what served before begins, since nowhere are there replicas of it to go back to.
    pub(super) fn bring_up_again(&mut self, now: Timestamp) {
        let Some((_, _, before)) = self.before.take() else { return };
        let number = RevisionNumber(self.revision.number.0 + 1);
        let revision = Revision { number, ..before };
        let Rollout { model, regions, strategy, .. } = &self.rollout;
        let rollout = Rollout {
            kind: RolloutKind::Rollback,
            number: self.rollout.number.next(),
            from: Some(self.rollout.revision),
            slot: self.rollout.slot.other(),
            ..Rollout::new(model.clone(), number, regions.clone(), strategy.of_rollback(), now)
        };
        self.slots[rollout.slot] = Some(number);
        self.unswept = true;
        let records = std::mem::replace(&mut self.records, rollout.new_records());
        let mut left = std::mem::replace(&mut self.rollout, rollout);
        if !left.state.is_final() {
            left.supersede(now);
        }
        self.before = Some((left.clone(), records.clone(), std::mem::replace(&mut self.revision, revision)));
        self.left = Some((left, records));
    }

    /// Regions that caught up join the route at a new epoch.
    fn extend(&mut self, regions: &[RegionName], now: Timestamp) {
        let Some(committed) = self.committed.clone() else { return };
        let routed: BTreeSet<&RegionName> = committed.regions.iter().chain(regions).collect();
        let in_order = self.rollout.regions.iter().filter(|region| routed.contains(region)).cloned().collect();
        self.epoch = self.epoch.next();
        self.commit(RouteState { epoch: self.epoch, regions: in_order, ..RouteState::clone(&committed) }, now);
        self.arm_regions();
    }

    /// The rollout ends before everybody has its revision: its slot is given up, and whoever has it is taken back.
    fn end(&mut self, change: &Change, now: Timestamp) {
        change.apply_fleet(&mut self.rollout, Epoch::default(), now);
        self.slots[self.rollout.slot] = None;
        self.unswept = true;
        self.prepared = None;
        if let Some(state) = self.committed.clone().filter(|state| state.candidate.is_some()) {
            self.epoch = self.epoch.next();
            self.rollout.course.taken_back = Some(self.epoch);
            self.commit(state.without_candidate(self.epoch), now);
        }
    }

    /// Users who all had the rollout's revision get what served before, which is warm.
    pub(super) fn go_back(&mut self, brought: &Rollout, records: &[RegionRecord], revision: &Revision, now: Timestamp) {
        self.epoch = self.epoch.next();
        let from = Some(self.rollout.revision);
        let number = self.rollout.number.next();
        let rollout = Rollout { from, ..brought.revisit(RolloutKind::Rollback, number, self.epoch, now) };
        let state = RouteState::of(revision, self.epoch, rollout.slot, brought.regions.clone());
        let mut left = std::mem::replace(&mut self.rollout, rollout);
        if !left.state.is_final() {
            left.supersede(now);
        }
        let left_records = std::mem::replace(&mut self.records, records.to_vec());
        self.left = Some((left, left_records));
        self.revision = revision.clone();
        self.commit(state, now);
    }
}

fn amend(assignment: &mut Assignment, slot: Slot, change: impl FnOnce(&mut Assigned)) {
    if let Some(assigned) = assignment.get_mut(&slot) {
        change(assigned);
    }
}

fn revision(scenario: &Scenario, number: RevisionNumber, now: Timestamp) -> Revision {
    let spec = DeploymentSpec {
        model: scenario.model.clone(),
        version: VersionNumber(number.0),
        digest: Digest::from_bytes([0; 32]),
        regions: scenario.regions.clone(),
        scale: Default::default(),
        strategy: scenario.strategy.clone(),
        health: Default::default(),
        region_health: BTreeMap::new(),
        monitors: Default::default(),
        region_monitors: BTreeMap::new(),
        region_scale: BTreeMap::new(),
        stay_in: BTreeSet::new(),
    };
    Revision { number, spec, created_at: now, created_by: String::new(), copy_of: None }
}

fn rollout(scenario: &Scenario, revision: RevisionNumber, now: Timestamp) -> Rollout {
    let Scenario { model, regions, strategy, replaces, .. } = scenario;
    Rollout {
        number: RolloutNumber(revision.0),
        from: replaces.then_some(RevisionNumber(1)),
        slot: if revision.0 == 1 { Slot::Blue } else { Slot::Green },
        ..Rollout::new(model.clone(), revision, regions.clone(), strategy.clone(), now)
    }
}
