//! Waves, canaries, and what people tell a rollout.

use super::{
    AnswersWrongly, FailsToStart, Good, OnFailure, Policy, Silent, Span,
    world::{Behaviour, World, at, name},
};
use crate::{
    monitor::verdict::Verdict,
    rollout::{
        RegionPhase, RolloutKind, RolloutState, Soak,
        course::{Audience, Refusal, Stage},
        plan::Room,
        strategy::{MaxParallel, Percent, Switch},
    },
};

fn waves(switch: Switch) -> Policy {
    let waves = vec![vec![name(0)], vec![name(1), name(2)]];
    Policy { waves, switch, retries: 0, ..Policy::default() }
}

fn canary(shares: &[f64]) -> Policy {
    let canary = shares.iter().map(|share| Percent::try_from(*share).unwrap()).collect();
    Policy { switch: Switch::Canary, canary, max_parallel: MaxParallel::All, ..Policy::default() }
}

fn story(behaviours: &[Behaviour], strategy: Policy) -> String {
    World::new(behaviours, strategy).run(100_000).log.clone()
}

/// A world that runs until it asks a person.
fn asking(behaviours: &[Behaviour], strategy: Policy) -> World {
    let mut world = World::new(behaviours, Policy { on_failure: OnFailure::Pause, ..strategy });
    world.run(1000);
    assert!(world.rollout.course.paused.is_some(), "{}", world.log);
    world
}

#[test]
fn users_are_moved_wave_by_wave_each_after_the_soak_of_the_one_before() {
    insta::assert_snapshot!(story(&[Good, Good, Good], waves(Switch::Wave)));
}

#[test]
fn listed_waves_come_in_turn_and_everybody_is_moved_at_once() {
    insta::assert_snapshot!(story(&[Good, Good, Good], waves(Switch::Fleet)));
}

#[test]
fn a_canary_grows_from_soak_to_soak() {
    insta::assert_snapshot!(story(&[Good, Good], canary(&[1.0, 10.0, 50.0])));
}

#[test]
fn users_of_the_first_wave_go_back_when_the_second_fails() {
    insta::assert_snapshot!(story(&[Good, Good, AnswersWrongly], waves(Switch::Wave)));
}

#[test]
fn who_was_moved_goes_back_as_soon_as_monitors_prove_harm_while_others_are_brought_up() {
    let mut world = World::new(&[Good, Behaviour::Hangs, Good], waves(Switch::Wave));
    world.run(70);
    assert_eq!((world.rollout.course.stage, world.rollout.state), (1, RolloutState::Regions), "{}", world.log);
    assert_eq!(world.routed, [name(0)]);
    world.behaviours.insert(name(0), Behaviour::ServesBadly);
    world.run(72);
    assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Failed, Soak::Failed), "{}", world.log);
    assert!(world.routed.is_empty());
}

#[test]
fn the_stages_of_a_rollout() {
    let check = |strategy: Policy, from: bool, expected: &[(usize, Audience)]| {
        let mut world = World::new(&[Good, Good, Good], strategy);
        world.rollout.from = world.rollout.from.filter(|_| from);
        let expected: Vec<Stage> =
            expected.iter().map(|(regions, users)| Stage { regions: *regions, users: *users }).collect();
        assert_eq!(world.rollout.stages(), expected);
    };
    let share = |share: f64| Audience::Share(share.try_into().unwrap());
    let everyone = (3, Audience::Everyone);
    check(Policy::default(), true, &[everyone]);
    check(waves(Switch::Fleet), true, &[everyone]);
    check(waves(Switch::Wave), true, &[(1, Audience::OfRegions), everyone]);
    check(canary(&[1.0, 50.0]), true, &[(3, share(1.0)), (3, share(50.0)), everyone]);
    check(canary(&[1.0, 100.0]), true, &[(3, share(1.0)), everyone]);
    // Whoever is first has nobody to leave behind.
    check(canary(&[1.0, 50.0]), false, &[everyone]);
    let first = Policy { first: vec![name(0)], switch: Switch::Wave, ..Policy::default() };
    check(first.clone(), true, &[(1, Audience::OfRegions), (2, Audience::OfRegions), everyone]);
    let parallel = Policy { max_parallel: MaxParallel::All, ..first };
    check(parallel, true, &[(1, Audience::OfRegions), everyone]);
}

#[test]
fn regions_that_come_first_must_succeed() {
    let first = Policy { first: vec![name(0)], retries: 0, min_regions: Some(1), ..Policy::default() };
    let check = |behaviour, on_failure| {
        let mut world = World::new(&[behaviour, Good, Good], Policy { on_failure, ..first.clone() });
        world.run(10_000);
        assert_eq!(world.rollout.state, RolloutState::Failed, "{}", world.log);
        assert_eq!(world.records[&name(1)].phase, RegionPhase::Pending, "{}", world.log);
    };
    check(FailsToStart, OnFailure::Continue);
    check(FailsToStart, OnFailure::Stop);
    check(Silent, OnFailure::Continue);
}

#[test]
fn a_person_may_have_what_failed_tried_again() {
    let mut world = asking(&[Good, FailsToStart, Good], waves(Switch::Wave));
    let reason = world.rollout.course.paused.as_ref().unwrap().reason.clone();
    assert_eq!(reason, "the replica ended with exit code 1 in r1");
    assert_eq!(world.routed, [name(0)], "who was moved stays meanwhile");
    world.rollout.resume(at(world.now)).unwrap();
    world.now += 1;
    world.run(2000);
    assert!(world.rollout.course.paused.is_some(), "it failed once more: {}", world.log);
    world.behaviours.insert(name(1), Good);
    world.rollout.resume(at(world.now)).unwrap();
    world.now += 1;
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!(world.routed.len(), 3);
}

#[test]
fn what_is_tried_again_and_cannot_be_reached_is_asked_about_again() {
    let mut world = asking(&[Good, Silent, Good], waves(Switch::Wave));
    let attempts = world.records[&name(1)].attempt;
    // The clock of whoever takes the answer is behind.
    world.rollout.resume(at(world.now - 30)).unwrap();
    world.now += 1;
    world.run(2000);
    assert!(world.rollout.course.paused.is_some(), "{}", world.log);
    assert_eq!(world.records[&name(1)].attempt, attempts + 1, "{}", world.log);
}

#[test]
fn a_person_may_go_on_without_what_failed() {
    let mut world = asking(&[Good, FailsToStart, Good], waves(Switch::Wave));
    world.rollout.promote(false, at(world.now)).unwrap();
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!(world.routed, [name(0), name(2)]);
}

#[test]
fn a_person_cannot_go_on_with_fewer_regions_than_are_wanted() {
    let mut world = asking(&[Good, FailsToStart, Good], Policy { min_regions: Some(3), ..waves(Switch::Wave) });
    world.rollout.promote(false, at(world.now)).unwrap();
    world.now += 1;
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Failed, "{}", world.log);
    assert!(world.routed.is_empty());
}

#[test]
fn what_monitors_cannot_judge_asks_a_person_only_where_that_is_wanted() {
    let unclear = Verdict::Inconclusive { reason: "only 3 answers to judge by".to_owned() };
    let mut world = World { verdict: unclear.clone(), ..World::new(&[Good], canary(&[10.0])) };
    world.run(100_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    let asking = |decide: fn(&mut World)| {
        let strategy = Policy { on_failure: OnFailure::Pause, ..canary(&[10.0]) };
        let mut world = World { verdict: unclear.clone(), ..World::new(&[Good], strategy) };
        world.run(100_000);
        assert_eq!(
            (world.rollout.state, world.rollout.soak),
            (RolloutState::Soaking, Soak::Inconclusive),
            "{}",
            world.log
        );
        assert!(world.rollout.course.paused.is_some(), "{}", world.log);
        decide(&mut world);
        world.run(200_000);
        world
    };
    let promoted = asking(|world| world.rollout.promote(false, at(world.now)).unwrap());
    assert_eq!(promoted.rollout.state, RolloutState::Succeeded, "{}", promoted.log);
    let soaked_again = asking(|world| {
        world.verdict = Verdict::Healthy;
        world.rollout.resume(at(world.now)).unwrap();
    });
    assert_eq!(soaked_again.rollout.course.passed[0].soak, Soak::Passed, "{}", soaked_again.log);
}

#[test]
fn a_pause_begins_nothing_new_and_loses_nothing() {
    for seconds in [0, 61, 125] {
        let mut world = World::new(&[Good, Good], canary(&[1.0, 10.0]));
        world.run(seconds);
        world.rollout.pause("ada@laptop", at(world.now)).unwrap();
        assert_eq!(world.rollout.pause("bob@desk", at(world.now)), Err(Refusal::Paused));
        let (stage, routed) = (world.rollout.course.stage, world.routed.clone());
        world.run(50_000);
        assert_eq!((world.rollout.course.stage, &world.routed), (stage, &routed), "{}", world.log);
        assert!(!world.rollout.state.is_final(), "{}", world.log);
        world.now = 50_000;
        world.rollout.resume(at(world.now)).unwrap();
        world.run(100_000);
        assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    }
}

#[test]
fn what_was_paused_in_its_soak_is_still_judged() {
    let mut world = World::new(&[Good], canary(&[10.0]));
    world.run(10);
    world.rollout.pause("ada@laptop", at(world.now)).unwrap();
    world.run(5000);
    assert_eq!((world.rollout.state, world.rollout.soak), (RolloutState::Soaking, Soak::Passed), "{}", world.log);
    world.behaviours.insert(name(0), Behaviour::ServesBadly);
    world.now = 5001;
    world.run(5002);
    assert_eq!(world.rollout.state, RolloutState::Failed, "{}", world.log);
}

#[test]
fn promoting_skips_waits_and_never_verification() {
    let mut world = World::new(&[Good, Behaviour::Hangs], canary(&[1.0, 10.0, 50.0]));
    world.run(5);
    assert_eq!(world.rollout.promote(false, at(5)), Err(Refusal::WaitsForNobody));
    world.behaviours.insert(name(1), Good);
    world.run(6);
    world.rollout.promote(false, at(6)).unwrap();
    world.run(7);
    assert_eq!((world.rollout.course.stage, world.rollout.course.passed[0].soak), (1, Soak::Skipped), "{}", world.log);
    world.rollout.promote(true, at(7)).unwrap();
    world.run(8);
    assert!(world.rollout.in_last_stage() && world.rollout.has_served(), "{}", world.log);
    world.rollout.promote(false, at(8)).unwrap();
    world.run(1000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!(world.rollout.promote(false, at(1001)), Err(Refusal::Ended));
    let mut wave = World::new(&[Good, Good, Good], waves(Switch::Wave));
    wave.run(5);
    assert_eq!(wave.rollout.promote(true, at(5)), Err(Refusal::NotACanary));
}

#[test]
fn users_are_not_moved_to_replicas_that_cannot_take_them() {
    let tight = |in_flight| Room { in_flight, limit: Some(8), missing: 0 };
    let mut world = World::new(&[Good, Good], Policy::default());
    world.rooms.insert(name(1), tight(9.0));
    world.run(100);
    assert_eq!(world.rollout.state, RolloutState::Preparing, "{}", world.log);
    let detail = world.rollout.steps.route.as_ref().unwrap().detail.clone();
    assert_eq!(detail, "epoch 1 waits: r1 has too few replicas for its users");
    world.rooms.insert(name(1), tight(8.0));
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!(world.rollout.steps.route.unwrap().detail, "epoch 1 acknowledged by 3 of 3 gateways");

    let mut world = World::new(&[Good, Good], Policy::default());
    world.rooms.insert(name(1), tight(9.0));
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Failed, "{}", world.log);
    let failure = world.rollout.failure.unwrap().failure;
    assert_eq!(failure.message, "the users of r1 do not fit on its replicas");
    assert_eq!(failure.causes, ["they have 9 requests in flight, and its ready replicas take 8"]);

    // As many replicas as they need are still becoming ready.
    let mut world = World::new(&[Good, Good], Policy::default());
    world.rooms.insert(name(1), Room { in_flight: 9.0, limit: None, missing: 2 });
    world.run(100);
    assert_eq!(world.rollout.state, RolloutState::Preparing, "{}", world.log);
    world.rooms.insert(name(1), Room { in_flight: 9.0, limit: None, missing: 0 });
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);

    // A share of them fits.
    let mut world = World::new(&[Good, Good], canary(&[50.0]));
    world.rooms.insert(name(1), tight(9.0));
    world.run(65);
    assert_eq!((world.rollout.course.stage, world.rollout.state), (1, RolloutState::Preparing), "{}", world.log);
}

#[test]
fn nobody_is_taken_for_harmed_by_what_nobody_is_to_judge() {
    let unwatched = Policy { soak: Span::from_secs(0), ..canary(&[10.0]) };
    let mut world = World::new(&[Behaviour::ServesBadly], unwatched);
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!(world.rollout.kind, RolloutKind::Deploy);
}
