//! The planner against a scripted world: regions do as they are told, fail, go silent, return.

use proptest::prelude::*;

use self::world::{Behaviour, World, at, name};
use super::{
    super::{RegionPhase, RegionRecord, Rollout, RolloutKind, RolloutState, Soak},
    Change, GATHER_LIMIT, GatewayObservation, Plan, plan,
};
use crate::{
    duration::Span,
    monitor::verdict::Verdict,
    rollout::strategy::{MaxParallel, OnFailure, Percent, Strategy as Policy, Switch},
};

mod in_place;
mod stages;
mod world;

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
    let unwatched = Policy { soak: Span::from_secs(0), ..Policy::default() };
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

fn switch() -> impl Strategy<Value = (Switch, Vec<Percent>)> {
    let shares: Vec<Percent> = [1.0, 50.0].map(|share| Percent::try_from(share).unwrap()).into();
    prop_oneof![
        2 => Just((Switch::Fleet, Vec::new())),
        1 => Just((Switch::Wave, Vec::new())),
        1 => Just((Switch::Canary, shares)),
    ]
}

fn strategy() -> impl Strategy<Value = Policy> {
    let parallel = prop_oneof![Just(MaxParallel::All), (1_u32..4).prop_map(MaxParallel::Count)];
    let on_failure = prop_oneof![Just(OnFailure::Stop), Just(OnFailure::Continue), Just(OnFailure::Pause)];
    (parallel, on_failure, 0_u32..3, proptest::option::of(1_u32..4), switch(), any::<bool>()).prop_map(
        |(max_parallel, on_failure, retries, min_regions, (switch, canary), first)| Policy {
            max_parallel,
            on_failure,
            retries,
            min_regions,
            switch,
            canary,
            first: if first { vec![name(0)] } else { Vec::new() },
            ..Policy::default()
        },
    )
}

proptest! {
    #[test]
    fn always_ends_and_routes_only_what_is_verified(
        behaviours in proptest::collection::vec(behaviour(), 1..8),
        strategy in strategy(),
        decisions in proptest::collection::vec(any::<bool>(), 3),
    ) {
        let mut world = World::new(&behaviours, strategy.clone());
        world.run(10_000_000);
        // A person who is asked has it tried again some times, and then goes on without.
        for again in decisions.into_iter().chain(std::iter::repeat_n(false, behaviours.len() + 1)) {
            if world.rollout.course.paused.is_some() {
                let now = at(world.now);
                if again { world.rollout.resume(now) } else { world.rollout.promote(false, now) }.unwrap();
                world.now += 1;
                world.run(world.now + 10_000_000);
            }
        }
        prop_assert!(world.rollout.state.is_final(), "ended in {:?}:\n{}", world.rollout.state, world.log);
        for region in &world.routed {
            let record = &world.records[region];
            prop_assert_eq!(record.phase, RegionPhase::Verified, "{} is routed:\n{}", region, world.log);
            prop_assert!(!matches!(world.behaviours[region], AnswersWrongly | FailsToStart | Hangs | Silent));
        }
        if world.rollout.state == RolloutState::Succeeded {
            let least = strategy.min_regions.unwrap_or(1) as usize;
            prop_assert!(world.routed.len() >= least.min(behaviours.len()), "{}", world.log);
            prop_assert!(world.rollout.in_last_stage(), "{}", world.log);
        } else {
            prop_assert!(world.routed.is_empty(), "a failed rollout has users:\n{}", world.log);
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
        let mut world = World::new(&behaviours, strategy.clone());
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
    let mut world = World::new(&behaviours, strategy.clone());
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

#[test]
fn what_served_before_is_kept_until_a_gateway_has_moved_on() {
    let mut world = World::new(&[Good], Policy::default());
    world.gateways = GatewayObservation { known: 3, ..Default::default() };
    world.run(100_000);
    assert_eq!(world.rollout.state, RolloutState::Soaking, "{}", world.log);
    // It is cut off again, and knows what to tell the others.
    world.gateways.taken_up = 1;
    world.run(100_001);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
}
