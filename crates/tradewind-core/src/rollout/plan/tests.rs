//! The planner against a scripted world: regions do as they are told, fail, go silent, return.

use std::{collections::BTreeMap, fmt::Write};

use proptest::prelude::*;

use super::*;
use crate::{
    Epoch, RevisionNumber, RolloutNumber, Slot,
    assignment::{Check, CheckName, CheckResult, ReplicaCount},
    deployment::{MaxParallel, Strategy as Policy},
    monitor::verdict::Verdict,
    rollout::{FleetSteps, RolloutKind},
};

/// What a region does in each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
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

struct World {
    rollout: Rollout,
    records: BTreeMap<RegionName, RegionRecord>,
    behaviours: BTreeMap<RegionName, Behaviour>,
    statuses: BTreeMap<RegionName, SlotStatus>,
    gateways: GatewayObservation,
    /// What monitors say of all others.
    verdict: Verdict,
    epoch: u64,
    now: i64,
    log: String,
    /// Regions of the committed route.
    routed: Vec<RegionName>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name(index: usize) -> RegionName {
    format!("r{index}").parse().unwrap()
}

impl World {
    fn new(behaviours: &[Behaviour], strategy: Policy) -> Self {
        let regions: Vec<RegionName> = (0..behaviours.len()).map(name).collect();
        let rollout = Rollout {
            model: "digits".parse().unwrap(),
            number: RolloutNumber(1),
            kind: RolloutKind::Deploy,
            revision: RevisionNumber(2),
            from: Some(RevisionNumber(1)),
            slot: Slot::Green,
            regions: regions.clone(),
            strategy,
            state: RolloutState::Regions,
            failure: None,
            steps: FleetSteps::default(),
            created_at: at(0),
            finished_at: None,
            committed_at: None,
            soak_until: None,
            soak: Soak::Pending,
            trace: None,
            records_of: None,
        };
        Self {
            records: rollout.new_records().into_iter().map(|record| (record.region.clone(), record)).collect(),
            rollout,
            behaviours: regions.into_iter().zip(behaviours.iter().copied()).collect(),
            statuses: BTreeMap::new(),
            gateways: GatewayObservation { gateways: 3, ..Default::default() },
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
    fn agents_act(&mut self) {
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
                monitored: record.configure_monitoring.is_some(),
                armed,
                verification: verifying
                    .then(|| verification(record.attempt, behaviour != Behaviour::AnswersWrongly))
                    .or_else(|| record.verification.clone()),
            };
            self.statuses.insert(region.clone(), status);
        }
    }

    fn step(&mut self) -> Option<Timestamp> {
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
        if matches!(change, Change::Prepare | Change::Extend { .. }) {
            self.epoch += 1;
        }
        let epoch = Epoch(self.epoch);
        let text = match change {
            Change::Verified { region, .. } => format!("verified {region}"),
            Change::AttemptFailed { region, action, failure, .. } => {
                format!("failed to {} {region}: {}", action.words(), failure.message)
            }
            Change::Fail { failure } => format!("stop: {}", failure.failure.message),
            Change::Extend { regions } => {
                let names: Vec<&str> = regions.iter().map(AsRef::as_ref).collect();
                format!("extend by {}", names.join(" "))
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
            Change::Prepare => self.gateways.prepared = self.gateways.gateways,
            Change::Commit => {
                self.gateways.committed = self.gateways.gateways;
                let verified = self.records.values().filter(|record| record.phase == RegionPhase::Verified);
                self.routed = verified.map(|record| record.region.clone()).collect();
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
            _ => {}
        }
    }

    /// Runs until nothing more is planned before `until`, jumping from wake-up to wake-up.
    fn run(&mut self, until: i64) -> &mut Self {
        for _ in 0..100_000 {
            self.agents_act();
            let before = self.log.len();
            let wake_at = self.step();
            if self.log.len() > before {
                continue;
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

    fn verdict(&self, region: &RegionName) -> Verdict {
        match self.behaviours[region] {
            ServesBadly => Verdict::Failed { reason: "12 of 400 requests failed".to_owned() },
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

fn story(behaviours: &[Behaviour], strategy: Policy) -> String {
    World::new(behaviours, strategy).run(100_000).log.clone()
}

use Behaviour::{AnswersWrongly, FailsToStart, FailsToStartOnce, Good, Hangs, ServesBadly, Silent, SilentUntil};

#[test]
fn one_region_after_the_other_then_everybody_at_once() {
    insta::assert_snapshot!(story(&[Good, Good], Policy::default()));
}

#[test]
fn a_region_that_answers_wrongly_stops_the_rollout_before_anything_is_routed() {
    insta::assert_snapshot!(story(&[Good, AnswersWrongly, Good], Policy::default()));
}

#[test]
fn a_failed_attempt_is_tried_again_after_a_while() {
    insta::assert_snapshot!(story(&[FailsToStartOnce], Policy::default()));
}

#[test]
fn a_region_that_hangs_fails_at_its_deadline() {
    let strategy = Policy { retries: 0, ..Policy::default() };
    insta::assert_snapshot!(story(&[Hangs], strategy));
}

#[test]
fn a_silent_region_is_deferred_where_that_is_allowed_and_catches_up() {
    let strategy = Policy { min_regions: Some(1), ..Policy::default() };
    insta::assert_snapshot!(story(&[Good, SilentUntil(50)], strategy));
}

#[test]
fn a_silent_region_fails_the_rollout_where_all_are_wanted() {
    insta::assert_snapshot!(story(&[Good, Silent], Policy::default()));
}

#[test]
fn on_failure_continue_routes_those_that_verified() {
    let strategy = Policy { on_failure: OnFailure::Continue, retries: 0, ..Policy::default() };
    insta::assert_snapshot!(story(&[FailsToStart, Good], strategy));
}

#[test]
fn a_gateway_that_does_not_prepare_ends_the_rollout_at_its_deadline() {
    let mut world = World::new(&[Good], Policy::default());
    world.run(0);
    let mut world = World::new(&[Good], Policy::default());
    world.agents_act();
    while world.rollout.state == RolloutState::Regions {
        world.agents_act();
        world.step();
    }
    world.gateways.prepared = 2;
    world.run(100_000);
    assert_eq!(world.rollout.state, RolloutState::Failed);
    assert!(world.log.contains("1 of 3 gateways did not prepare the new route"), "{}", world.log);
    assert!(world.routed.is_empty());
}

#[test]
fn a_revision_that_serves_badly_is_condemned_as_soon_as_that_is_proved() {
    let mut world = World::new(&[Good, ServesBadly], Policy::default());
    world.run(100_000);
    assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Failed, Soak::Failed), "{}", world.log);
    let failure = world.rollout.failure.unwrap();
    assert_eq!(failure.failure.message, "12 of 400 requests failed in r1 after users were moved");
    assert_eq!(world.rollout.finished_at, Some(at(0)), "the soak is not waited for");
}

#[test]
fn nobody_is_taken_back_from_where_a_person_moved_them_or_to_nothing() {
    let check = |change: fn(&mut Rollout)| {
        let mut world = World::new(&[ServesBadly], Policy::default());
        change(&mut world.rollout);
        world.run(59);
        assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Soaking, Soak::Running), "{}", world.log);
        world.run(60);
        assert_eq!(world.rollout.soak, Soak::Failed, "{}", world.log);
    };
    check(|rollout| rollout.kind = RolloutKind::Rollback);
    check(|rollout| rollout.kind = RolloutKind::Switch);
    check(|rollout| rollout.from = None);
}

#[test]
fn a_soak_without_evidence_keeps_what_served_before_for_a_day() {
    let mut world = World::new(&[Good], Policy::default());
    world.verdict = Verdict::Inconclusive { reason: "only 3 answers to judge by".to_owned() };
    world.run(80_000);
    assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Soaking, Soak::Inconclusive));
    world.run(90_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    let unwatched = Policy { soak: crate::duration::Span::from_secs(0), ..Policy::default() };
    let mut world = World { verdict: world.verdict, ..World::new(&[Good, ServesBadly], unwatched) };
    world.run(80_000);
    assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Succeeded, Soak::Passed));
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        6 => Just(Good),
        1 => Just(FailsToStart),
        2 => Just(FailsToStartOnce),
        1 => Just(AnswersWrongly),
        1 => Just(Hangs),
        1 => Just(Silent),
        2 => (1_i64..2000).prop_map(SilentUntil),
    ]
}

fn strategy() -> impl Strategy<Value = Policy> {
    let parallel = prop_oneof![Just(MaxParallel::All), (1_u32..4).prop_map(MaxParallel::Count)];
    let on_failure = prop_oneof![Just(OnFailure::Stop), Just(OnFailure::Continue)];
    (parallel, on_failure, 0_u32..3, proptest::option::of(1_u32..4)).prop_map(
        |(max_parallel, on_failure, retries, min_regions)| Policy {
            max_parallel,
            on_failure,
            retries,
            min_regions,
            ..Policy::default()
        },
    )
}

proptest! {
    #[test]
    fn always_ends_and_routes_only_what_is_verified(
        behaviours in proptest::collection::vec(behaviour(), 1..8),
        strategy in strategy(),
    ) {
        let mut world = World::new(&behaviours, strategy);
        world.run(10_000_000);
        prop_assert!(world.rollout.state.is_final(), "ended in {:?}:\n{}", world.rollout.state, world.log);
        for region in &world.routed {
            let record = &world.records[region];
            prop_assert_eq!(record.phase, RegionPhase::Verified, "{} is routed:\n{}", region, world.log);
            prop_assert!(!matches!(world.behaviours[region], AnswersWrongly | FailsToStart | Hangs | Silent));
        }
        if world.rollout.state == RolloutState::Succeeded {
            let least = strategy.min_regions.unwrap_or(1) as usize;
            prop_assert!(world.routed.len() >= least.min(behaviours.len()), "{}", world.log);
        } else {
            prop_assert!(world.routed.is_empty(), "a failed rollout has routed:\n{}", world.log);
        }
        // Regions that all do well are all routed.
        if behaviours.iter().all(|behaviour| *behaviour == Good) {
            prop_assert_eq!(world.routed.len(), behaviours.len());
        }
    }

    #[test]
    fn never_works_on_more_regions_than_allowed(
        behaviours in proptest::collection::vec(behaviour(), 1..8),
        strategy in strategy(),
    ) {
        let mut world = World::new(&behaviours, strategy);
        for _ in 0..2000 {
            world.agents_act();
            let wake_at = world.step();
            let working = world.records.values().filter(|record| matches!(
                record.phase,
                RegionPhase::Deploying | RegionPhase::ConfiguringMonitoring | RegionPhase::Verifying | RegionPhase::Retrying
            ));
            if world.rollout.state == RolloutState::Regions {
                prop_assert!(working.count() <= strategy.max_parallel.limit(), "{}", world.log);
            }
            world.now = wake_at.map_or(world.now + 1, |at| at.as_second().max(world.now));
        }
    }
}

/// How many epochs the route had, after so many regions were away for 50 s.
fn epochs_after_returning(away: usize) -> u64 {
    let strategy = Policy { min_regions: Some(1), max_parallel: MaxParallel::All, ..Policy::default() };
    let behaviours: Vec<Behaviour> = std::iter::once(Good).chain(std::iter::repeat_n(SilentUntil(50), away)).collect();
    let mut world = World::new(&behaviours, strategy);
    world.run(100);
    assert_eq!(world.routed.len(), away + 1, "{}", world.log);
    world.epoch
}

#[test]
fn regions_that_return_together_share_one_epoch() {
    for away in [1, 10, 1000] {
        assert_eq!(epochs_after_returning(away), 2, "{away} regions");
    }
}

#[test]
fn a_region_that_caught_up_waits_for_others_but_not_for_long() {
    let strategy = Policy { min_regions: Some(1), max_parallel: MaxParallel::All, ..Policy::default() };
    let mut world = World::new(&[Good, SilentUntil(50), SilentUntil(50)], strategy);
    world.run(49);
    world.behaviours.insert(name(2), Hangs);
    world.now = 50;
    while world.records[&name(1)].phase != RegionPhase::Verified {
        world.agents_act();
        world.step();
    }
    let records: Vec<RegionRecord> = world.records.values().cloned().collect();
    let after = |wait| at(50).checked_add(wait).unwrap();
    let planned = |wait| plan(&world.rollout, &records, &world, after(wait));
    let held = Plan { changes: Vec::new(), wake_at: Some(after(GATHER_LIMIT)) };
    assert_eq!(planned(std::time::Duration::ZERO), held);
    assert_eq!(planned(GATHER_LIMIT).changes, [Change::Extend { regions: vec![name(1)] }]);
}

#[test]
fn a_deferred_region_catches_up_although_a_later_rollout_failed() {
    let strategy = Policy { min_regions: Some(1), ..Policy::default() };
    let mut world = World::new(&[Good, SilentUntil(50)], strategy);
    world.run(10);
    assert_eq!(world.rollout.state, RolloutState::Soaking);
    world.rollout.supersede(at(world.now));
    world.run(100);
    assert_eq!(world.routed, [name(0), name(1)], "{}", world.log);
    assert_eq!(world.rollout.state, RolloutState::Superseded);
}

#[test]
fn a_gateway_that_never_acknowledges_is_waited_for_and_then_left() {
    let mut world = World::new(&[Good], Policy::default());
    while world.rollout.state != RolloutState::Committing {
        world.agents_act();
        world.step();
    }
    world.gateways.committed = 2;
    world.run(9);
    assert_eq!(world.rollout.state, RolloutState::Committing, "{}", world.log);
    world.run(20);
    assert_eq!(world.rollout.state, RolloutState::Soaking, "{}", world.log);
    assert_eq!(world.rollout.steps.route.as_ref().unwrap().detail, "epoch 1 acknowledged by 2 of 3 gateways");
    // What served before is not taken away from it.
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Soaking, "{}", world.log);
    world.gateways.committed = 3;
    world.run(10_001);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
}
