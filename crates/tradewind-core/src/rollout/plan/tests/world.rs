//! A scripted world: regions do as they are told at once, gateways take up what they are sent.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    Epoch, RegionName, RevisionNumber, Slot, Timestamp,
    assignment::{Check, CheckName, CheckResult, Failure, ReplicaCount, SlotPhase, SlotStatus, Verification},
    monitor::verdict::Verdict,
    rollout::{
        RegionPhase, RegionRecord, Rollout,
        plan::{Change, GatewayObservation, Observed, Plan, Reach, RegionObservation, Room, plan},
        strategy::Strategy,
    },
};

/// What a region does in each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Good,
    FailsToStart,
    FailsToStartOnce,
    AnswersWrongly,
    Hangs,
    Silent,
    SilentUntil(i64),
    /// Verified, and then users fare worse.
    ServesBadly,
}

pub(super) struct World {
    pub(super) rollout: Rollout,
    pub(super) records: BTreeMap<RegionName, RegionRecord>,
    pub(super) behaviours: BTreeMap<RegionName, Behaviour>,
    pub(super) statuses: BTreeMap<RegionName, SlotStatus>,
    pub(super) gateways: GatewayObservation,
    /// What users of each region have in flight, and what its replicas take.
    pub(super) rooms: BTreeMap<RegionName, Room>,
    /// What monitors say of all others.
    pub(super) verdict: Verdict,
    pub(super) epoch: u64,
    pub(super) now: i64,
    pub(super) log: String,
    /// Regions of the committed route.
    pub(super) routed: Vec<RegionName>,
    /// Regions where users still get what served before.
    pub(super) live: Vec<RegionName>,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn name(index: usize) -> RegionName {
    format!("r{index}").parse().unwrap()
}

impl World {
    pub(super) fn new(behaviours: &[Behaviour], strategy: Strategy) -> Self {
        let regions: Vec<RegionName> = (0..behaviours.len()).map(name).collect();
        let model = "digits".parse().unwrap();
        let rollout = Rollout {
            from: Some(RevisionNumber(1)),
            slot: Slot::Green,
            ..Rollout::new(model, RevisionNumber(2), regions.clone(), strategy, at(0))
        };
        Self {
            live: regions.clone(),
            records: rollout.new_records().into_iter().map(|record| (record.region.clone(), record)).collect(),
            rollout,
            behaviours: regions.into_iter().zip(behaviours.iter().copied()).collect(),
            statuses: BTreeMap::new(),
            gateways: GatewayObservation { gateways: 3, ..Default::default() },
            rooms: BTreeMap::new(),
            verdict: Verdict::Healthy,
            epoch: 0,
            now: 0,
            log: String::new(),
            routed: Vec::new(),
        }
    }

    fn reachable(&self, region: &RegionName) -> bool {
        match self.behaviours[region] {
            Behaviour::Silent => false,
            Behaviour::SilentUntil(second) => self.now >= second,
            _ => true,
        }
    }

    /// Lets every reachable agent do what its record asks for.
    pub(super) fn agents_act(&mut self) {
        for (region, record) in &self.records {
            if record.attempt == 0 || !self.reachable(region) {
                continue;
            }
            let behaviour = self.behaviours[region];
            let fails =
                behaviour == Behaviour::FailsToStart || behaviour == Behaviour::FailsToStartOnce && record.attempt == 1;
            let phase = match behaviour {
                Behaviour::Hangs => SlotPhase::Starting,
                _ if fails => SlotPhase::Failed { failure: failure("the replica ended with exit code 1") },
                _ => SlotPhase::Ready,
            };
            let verifying = record.phase == RegionPhase::Verifying;
            let armed = record.routed_at.is_some();
            let status = SlotStatus {
                revision: self.rollout.revision,
                attempt: record.attempt,
                phase,
                replicas: ReplicaCount { ready: 1, desired: 1 },
                resting: false,
                monitored: record.configure_monitoring.is_some(),
                armed,
                verification: verifying
                    .then(|| verification(record.attempt, behaviour != Behaviour::AnswersWrongly))
                    .or_else(|| record.verification.clone()),
            };
            self.statuses.insert(region.clone(), status);
        }
    }

    pub(super) fn step(&mut self) -> Option<Timestamp> {
        let records: Vec<RegionRecord> =
            self.rollout.regions.iter().map(|region| self.records[region].clone()).collect();
        let Plan { changes, wake_at } = plan(&self.rollout, &records, &*self, at(self.now));
        for change in changes {
            self.apply(&change);
        }
        wake_at
    }

    fn apply(&mut self, change: &Change) {
        let now = at(self.now);
        if matches!(change, Change::Prepare | Change::Extend { .. } | Change::GiveWay { .. }) {
            self.epoch += 1;
        }
        let epoch = Epoch(self.epoch);
        let text = match change {
            Change::Verified { region, .. } => format!("verified {region}"),
            Change::AttemptFailed { region, action, failure, .. } => {
                format!("failed to {} {region}: {}", action.words(), failure.message)
            }
            Change::Fail { failure } => format!("stop: {}", failure.failure.message),
            Change::Commit => {
                let detail = self.rollout.steps.route.as_ref().map_or("", |step| step.detail.as_str());
                format!("commit{}", detail.trim_start_matches(&format!("epoch {epoch}")))
            }
            Change::Extend { regions } | Change::GiveWay { regions } => {
                let names: Vec<&str> = regions.iter().map(AsRef::as_ref).collect();
                let does = if matches!(change, Change::Extend { .. }) { "extend by" } else { "gives way:" };
                format!("{does} {}", names.join(" "))
            }
            other => format!("{other:?}").to_lowercase().replace("regionname", ""),
        };
        writeln!(self.log, "{:>4} s  {text}", self.now).unwrap();
        match change.region() {
            Some(region) => {
                let record = self.records.get_mut(region).unwrap();
                change.apply_region(&self.rollout, record, now);
            }
            None => change.apply_fleet(&mut self.rollout, epoch, now),
        }
        match change {
            Change::GiveWay { regions } => {
                self.live.retain(|region| !regions.contains(region));
                regions.iter().for_each(|region| self.records.get_mut(region).unwrap().make_room(&self.rollout, now));
            }
            Change::Prepare => self.gateways.prepared = self.gateways.gateways,
            Change::Commit => {
                self.gateways.committed = self.gateways.gateways;
                let verified = self.records.values().filter(|record| record.phase == RegionPhase::Verified);
                self.routed = verified.map(|record| record.region.clone()).collect();
                if self.rollout.in_last_stage() {
                    self.live.clear();
                }
            }
            Change::Extend { regions } => {
                for region in regions {
                    self.records.get_mut(region).unwrap().routed_at = Some(epoch);
                    self.routed.push(region.clone());
                }
            }
            // The executor marks routed regions in the same breath.
            Change::Arm { .. } => {
                for record in self.records.values_mut().filter(|record| record.phase == RegionPhase::Verified) {
                    record.routed_at = Some(epoch);
                }
            }
            // Nobody gets it any more.
            Change::Fail { .. } | Change::Condemn { .. } => self.routed.clear(),
            _ => {}
        }
    }

    /// Runs until nothing more is planned before `until` or a person is asked, jumping from wake-up to wake-up.
    pub(super) fn run(&mut self, until: i64) -> &mut Self {
        for _ in 0..100_000 {
            self.agents_act();
            let before = self.log.len();
            let wake_at = self.step();
            if self.log.len() > before {
                continue;
            }
            if self.rollout.course.paused.as_ref().is_some_and(|pause| pause.by.is_none()) {
                return self;
            }
            let next_event = self.behaviours.values().filter_map(|behaviour| match behaviour {
                Behaviour::SilentUntil(second) if *second > self.now => Some(*second),
                _ => None,
            });
            let next = wake_at.map(|at| at.as_second().max(self.now + 1)).into_iter().chain(next_event).min();
            match next {
                Some(next) if next <= until => self.now = next,
                _ => return self,
            }
        }
        panic!("the planner does not come to rest:\n{}", self.log);
    }
}

impl Observed for World {
    fn region(&self, region: &RegionName) -> RegionObservation<'_> {
        let reach =
            if self.reachable(region) { Reach::Reachable } else { Reach::Unreachable { silent_secs: Some(12) } };
        RegionObservation { reach, slot: self.statuses.get(region), progress_at: None }
    }

    fn gateways(&self) -> GatewayObservation {
        self.gateways.clone()
    }

    fn room(&self, region: &RegionName) -> Room {
        self.rooms.get(region).copied().unwrap_or(Room { in_flight: 0.0, limit: None, missing: 0 })
    }

    fn live(&self) -> Vec<(RegionName, Room)> {
        self.live.iter().map(|region| (region.clone(), self.room(region))).collect()
    }

    fn everybody_knows(&self) -> bool {
        true
    }

    fn verdict(&self, region: &RegionName) -> Verdict {
        match self.behaviours[region] {
            Behaviour::ServesBadly => Verdict::Failed { reason: "12 of 400 requests failed".to_owned() },
            _ => self.verdict.clone(),
        }
    }
}

fn failure(message: &str) -> Failure {
    Failure { message: message.to_owned(), causes: Vec::new(), hint: None, retryable: true }
}

fn verification(attempt: u32, good: bool) -> Verification {
    let result = if good { CheckResult::Passed } else { CheckResult::Failed };
    let detail = if good { "20/20 golden cases" } else { "golden cases 3/20" };
    let check = Check { name: CheckName::GoldenCases, result, detail: detail.to_owned() };
    Verification { attempt, checks: vec![check], finished_at: at(0) }
}
