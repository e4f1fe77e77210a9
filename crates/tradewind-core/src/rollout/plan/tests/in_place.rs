//! Regions that give up what they run before they are brought up.

use super::world::{
    Behaviour::{self, FailsToStart, Good},
    World, name,
};
use crate::rollout::{
    RegionPhase, RolloutState,
    plan::Room,
    strategy::{OnFailure, Strategy, Switch},
};

fn in_place() -> Strategy {
    Strategy { switch: Switch::InPlace, retries: 0, ..Strategy::default() }
}

/// So many requests of each region's users are in flight, and its replicas take ten.
fn world(behaviours: &[Behaviour], in_flight: &[f64], strategy: Strategy) -> World {
    let mut world = World::new(behaviours, strategy);
    let rooms = in_flight.iter().map(|in_flight| Room { in_flight: *in_flight, limit: Some(10), missing: 0 });
    world.rooms = (0..).map(name).zip(rooms).collect();
    world
}

#[test]
fn each_region_makes_room_while_others_serve_and_the_last_when_all_others_do() {
    let mut world = world(&[Good, Good, Good], &[2.0; 3], in_place());
    world.run(10_000);
    insta::assert_snapshot!(world.log);
    assert_eq!(world.rollout.state, RolloutState::Succeeded);
    assert_eq!(world.routed, [name(0), name(1), name(2)]);
}

#[test]
fn a_wave_shrinks_to_what_others_can_stand_in_for() {
    let waves = vec![vec![name(0), name(1), name(2)], vec![name(3)]];
    let mut world = world(&[Good; 4], &[5.0; 4], Strategy { waves, ..in_place() });
    world.run(10_000);
    insta::assert_snapshot!(world.log);
    assert_eq!(world.rollout.state, RolloutState::Succeeded);
}

#[test]
fn a_person_is_asked_where_nobody_could_stand_in() {
    let mut world = world(&[Good; 2], &[6.0; 2], in_place());
    world.run(10_000);
    let reason = world.rollout.course.paused.as_ref().expect("it asks").reason.clone();
    assert_eq!(reason, "without r0 there would be 12 requests in flight on replicas that take 10");
    assert!(world.records.values().all(|record| record.phase == RegionPhase::Pending && !record.alone));
    world.rollout.promote(false, super::world::at(world.now)).unwrap();
    world.run(20_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
}

#[test]
fn the_only_region_that_serves_is_never_emptied() {
    let mut world = world(&[Good; 2], &[1.0; 2], in_place());
    world.live = vec![name(0)];
    world.run(10_000);
    let reason = world.rollout.course.paused.as_ref().expect("it asks").reason.clone();
    assert_eq!(reason, "nobody else can serve the users of r0");
    world.rollout.promote(false, super::world::at(world.now)).unwrap();
    world.run(20_000);
    assert!(world.rollout.course.paused.is_some() && world.live == [name(0)], "{}", world.log);
}

#[test]
fn a_failure_leaves_the_others_as_they_were() {
    let mut world = world(&[Good, FailsToStart, Good, Good], &[1.0; 4], in_place());
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Failed);
    assert_eq!(world.live, [name(2), name(3)], "{}", world.log);
    assert!(world.routed.is_empty());
}

#[test]
fn the_last_region_may_fail_when_everybody_is_served() {
    let strategy = Strategy { on_failure: OnFailure::Pause, ..in_place() };
    let mut world = world(&[Good, Good, FailsToStart], &[1.0; 3], strategy);
    world.run(10_000);
    assert_eq!(world.rollout.state, RolloutState::Succeeded, "{}", world.log);
    assert_eq!((world.records[&name(2)].phase, world.routed.len()), (RegionPhase::Failed, 2));
}
