//! From an assignment to verified replicas, and back to nothing.

use tradewind_agent::recorded_replicas;
use tradewind_core::{
    Slot,
    assignment::{CheckName, CheckResult, SlotAssignment, SlotPhase, Verification},
    event::EventKind,
};

use crate::{
    fake_replica::FakeModel,
    world::{World, blue_of, case, eventually, good},
};

fn check(verification: &Verification, expected: &[(CheckName, CheckResult, &str)]) {
    let checks: Vec<_> =
        verification.checks.iter().map(|check| (check.name, check.result, check.detail.as_str())).collect();
    let (latency, others) = checks.split_last().unwrap();
    assert_eq!(others, expected);
    assert_eq!(latency.0, CheckName::Latency);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_becomes_ready_is_verified_monitored_and_armed() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case()), ("cases/002.json", case())]);
    world.assign(world.slot(1, digest, 2));
    let report = world.ready().await;
    let slot = blue_of(&report).unwrap();
    assert_eq!((slot.attempt, slot.replicas.desired, slot.monitored, slot.armed), (1, 2, false, false));
    assert!(slot.verification.is_none());
    assert_eq!(report.replicas.len(), 2);
    assert!(report.models[0].observed_generation.0 > 0);

    world.change(|slot| slot.monitored = true);
    world.blue("monitored", |slot| slot.monitored).await;
    world.change(|slot| slot.verify = Some(1));
    let slot = world.blue("verified", |slot| slot.verification.is_some()).await;
    let verification = slot.verification.unwrap();
    use CheckResult::Passed;
    check(
        &verification,
        &[
            (CheckName::Digest, Passed, "digest ok"),
            (CheckName::Ready, Passed, "2/2 replicas ready"),
            (CheckName::Signature, Passed, "signature ok"),
            (CheckName::GoldenCases, Passed, "2/2 golden cases"),
        ],
    );
    assert!(verification.succeeded() && verification.attempt == 1);
    assert!(verification.checks[4].detail.starts_with("p99 "), "{verification:?}");
    world.change(|slot| slot.armed = true);
    world.blue("armed", |slot| slot.armed).await;

    let endpoints = world.endpoints("two, ready", |all| all.len() == 2 && all.iter().all(|each| each.ready)).await;
    let mut addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address.clone()).collect();
    let mut reported: Vec<_> = report.replicas.iter().map(|replica| replica.address.clone()).collect();
    addresses.sort();
    reported.sort();
    assert_eq!(addresses, reported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_answer_fails_verification_and_says_which() {
    let mut world = World::start().await;
    let digest = world.push(3, &FakeModel { label: 1, ..good() }, &[("cases/007.json", case())]);
    world.assign(world.slot(3, digest, 1));
    world.change(|slot| slot.verify = Some(1));
    let slot = world.blue("verified", |slot| slot.verification.is_some()).await;
    let verification = slot.verification.unwrap();
    assert!(!verification.succeeded());
    let detail = "golden cases 0/1: cases/007.json: output `label`: expected 7, got 1";
    assert_eq!(verification.first_failed().unwrap().detail, detail);
    assert_eq!(verification.checks[4].result, CheckResult::Skipped);

    world.change(|slot| (slot.attempt, slot.verify) = (2, Some(2)));
    let again = world.blue("verified again", |slot| slot.verification.as_ref().is_some_and(|v| v.attempt == 2)).await;
    assert_eq!(again.attempt, 2);
    assert_eq!(again.verification.unwrap().first_failed().unwrap().detail, detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_cases_gets_a_smoke_request() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.verify = Some(1));
    let slot = world.blue("verified", |slot| slot.verification.is_some()).await;
    use CheckResult::{Passed, Skipped};
    check(
        &slot.verification.unwrap(),
        &[
            (CheckName::Digest, Passed, "digest ok"),
            (CheckName::Ready, Passed, "1/1 replica ready"),
            (CheckName::Signature, Passed, "signature ok"),
            (CheckName::GoldenCases, Skipped, "the bundle has none"),
            (CheckName::Smoke, Passed, "smoke request ok"),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_control_does_not_have_fails_the_attempt() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    world.assign(world.slot(2, digest, 1));
    let slot = world.blue("failed", |slot| matches!(slot.phase, SlotPhase::Failed { .. })).await;
    let SlotPhase::Failed { failure } = slot.phase else { unreachable!() };
    assert!(!failure.retryable && failure.causes.contains(&"no such version".to_owned()), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_taken_away_drains_before_its_replicas_end() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    let other = world.push(2, &FakeModel { label: 8, ..good() }, &[]);
    world.assign_all([(Slot::Blue, world.slot(1, digest, 1)), (Slot::Green, world.slot(2, other, 1))]);
    world.endpoints("both", |all| all.len() == 2).await;
    let blue = world.records().into_iter().find(|record| record.slot == Slot::Blue).unwrap();

    world.assign_all([(Slot::Green, world.slot(2, other, 1))]);
    let left = world.endpoints("green alone", |all| all.len() == 1).await;
    assert_eq!(left[0].slot, Slot::Green);
    assert!(blue.identity.as_ref().unwrap().is_alive(), "it ended before its drain time");
    let draining = world.blue("draining", |slot| slot.phase == SlotPhase::Draining).await;
    assert_eq!(draining.replicas.desired, 0);

    world.report("gone", |report| blue_of(report).is_none() && report.replicas.len() == 1).await;
    assert!(!blue.identity.unwrap().is_alive());
    eventually("its bundle is removed", || !world.installed(&digest).exists()).await;
    assert!(world.installed(&other).exists());
    assert!(!world.kinds().contains(&EventKind::ReplicaExited), "{:?}", world.kinds());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_to_be_alone_begins_when_the_other_is_empty() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    let other = world.push(2, &FakeModel { label: 8, ..good() }, &[]);
    world.assign(world.slot(1, digest, 1));
    world.ready().await;
    let blue = world.records().remove(0);

    let alone = SlotAssignment { alone: true, ..world.slot(2, other, 1) };
    world.assign_all([(Slot::Green, alone.clone())]);
    let draining = world.blue("draining", |slot| slot.phase == SlotPhase::Draining).await;
    assert_eq!(draining.replicas.desired, 0);
    world.report("green begins", |report| report.replicas.iter().any(|replica| replica.slot == Slot::Green)).await;
    assert!(!blue.identity.unwrap().is_alive(), "there is no room for both");
    world.endpoints("green", |all| all.len() == 1 && all[0].slot == Slot::Green).await;
    // Once begun it stays, whatever comes beside it.
    world.assign_all([(Slot::Blue, world.slot(1, digest, 1)), (Slot::Green, alone)]);
    world.endpoints("both", |all| all.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_revision_in_a_slot_replaces_the_one_before() {
    let mut world = World::start().await;
    let first = world.push(1, &good(), &[]);
    let second = world.push(2, &FakeModel { label: 8, ..good() }, &[]);
    world.assign(world.slot(1, first, 1));
    world.ready().await;
    world.assign(world.slot(2, second, 1));
    let report = world.ready().await;
    assert_eq!((report.replicas.len(), report.replicas[0].version.0), (1, 2));
    assert_eq!(recorded_replicas(&world.data_dir()).len(), 1);
}
