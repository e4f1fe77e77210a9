//! Golden cases asked again of replicas that serve.

use tradewind_api::agent::{CaseCounts, Endpoint};
use tradewind_core::{duration::Span, event::EventKind, monitor::Monitors};

use crate::world::{World, case, good};

/// A verified slot whose golden cases are asked each second.
async fn watched(replicas: u32) -> World {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case())]);
    let slot = world.slot(1, digest, replicas);
    let monitors = Monitors { golden_interval: Span::from_secs(1), ..Monitors::default() };
    world.assign(tradewind_core::assignment::SlotAssignment { monitors, monitored: true, verify: Some(1), ..slot });
    world.blue("verified", |slot| slot.verification.is_some()).await;
    world
}

async fn cases(world: &World, what: &str, is_there: impl Fn(&CaseCounts) -> bool) -> CaseCounts {
    let report = world.report(what, |report| report.cases.first().is_some_and(&is_there)).await;
    report.cases[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_wrongly_is_asked_last_and_replaced() {
    let world = watched(2).await;
    let right = cases(&world, "asked twice", |cases| cases.asked >= 4).await;
    assert_eq!((right.wrong, right.unanswered, right.suspects), (0, 0, 0));
    assert!(right.asked_at.is_some() && right.last_wrong.is_none());

    let spoiled = world.records()[0].id.clone();
    world.spoil(&spoiled);
    let event = world.event(EventKind::WrongAnswer).await;
    let expected =
        format!("replica {spoiled} of digits 1 answers wrongly: cases/001.json: output `label`: expected 7, got 8");
    assert_eq!(event.message, expected);
    let replaced = |all: &[Endpoint]| {
        let sound = all.iter().filter(|each| each.ready && !each.suspect).count();
        assert!(sound >= 1, "{all:?}");
        assert!(all.iter().all(|each| each.suspect == (each.id == spoiled) || !each.suspect), "{all:?}");
        sound == 2 && all.len() == 2
    };
    let endpoints = world.endpoints("replaced", replaced).await;
    assert!(endpoints.iter().all(|each| each.id != spoiled));
    let wrong = cases(&world, "nobody is suspected any more", |cases| cases.wrong >= 1 && cases.suspects == 0).await;
    assert_eq!(wrong.last_wrong.unwrap(), "cases/001.json: output `label`: expected 7, got 8");
    assert!(!world.kinds().contains(&EventKind::ReplicaExited), "{:?}", world.kinds());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_replica_answers_wrongly_the_old_one_stays_as_the_last_resort() {
    let world = watched(1).await;
    let old = world.records()[0].id.clone();
    world.spoil("all");
    // Its successor does not pass verification, again and again.
    world.event(EventKind::ReplicaExited).await;
    let counted = cases(&world, "asked again", |cases| cases.wrong >= 2).await;
    assert_eq!(counted.suspects, 1);
    let only = |all: &[Endpoint]| all.len() == 1 && all[0].id == old && all[0].ready && all[0].suspect;
    world.endpoints("the old one, as a suspect", only).await;
    // Right again: a successor takes its place.
    world.spoil("");
    let sound = |all: &[Endpoint]| all.len() == 1 && all[0].id != old && all[0].ready && !all[0].suspect;
    world.endpoints("a successor", sound).await;
}
