//! Replicas that end, that cannot begin, that hang.

use rustix::process::Signal;
use tradewind_core::{assignment::SlotPhase, event::EventKind};

use crate::{
    fake_replica::FakeModel,
    world::{World, case, good, signal},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_replaced_and_checked_before_it_is_announced() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case())]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.verify = Some(1));
    world.blue("verified", |slot| slot.verification.is_some()).await;
    let before = world.records().remove(0);
    signal(&before, Signal::KILL);

    let exited = world.event(EventKind::ReplicaExited).await;
    assert!(exited.message.ends_with("ended: killed by signal 9 (SIGKILL)"), "{}", exited.message);
    world.event(EventKind::ReplicaReplaced).await;
    let report = world
        .report("replaced", |report| report.replicas.iter().any(|replica| replica.ready && replica.id != before.id))
        .await;
    assert_eq!((report.replicas.len(), report.replicas[0].restarts), (1, 1));
    let endpoints = world.endpoints("the new one", |all| all.len() == 1 && all[0].ready).await;
    assert_eq!(endpoints[0].id, report.replicas[0].id);
    let slot = world.blue("still ready", |slot| slot.replicas.ready == 1).await;
    assert_eq!(slot.phase, SlotPhase::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_fails_the_attempt_with_the_replicas_last_words() {
    let mut world = World::start().await;
    let crash = Some("the model is no model".to_owned());
    let digest = world.push(1, &FakeModel { crash, ..good() }, &[]);
    world.assign(world.slot(1, digest, 1));
    let slot = world.blue("failed", |slot| matches!(slot.phase, SlotPhase::Failed { .. })).await;
    let SlotPhase::Failed { failure } = slot.phase else { unreachable!() };
    assert_eq!(failure.causes[0], "exit code 1");
    assert!(failure.causes.contains(&"error: the model is no model".to_owned()), "{failure:?}");
    assert_eq!(failure.hint.unwrap(), "see the whole log with `tradewind logs digits --region us-east1 --revision 1`");
    assert!(world.records().is_empty());
    // It waited between the tries: 100 ms, then 200 ms.
    let events = world.control.events.lock().unwrap().clone();
    let ends: Vec<_> = events.iter().filter(|event| event.kind == EventKind::ReplicaExited).collect();
    assert_eq!(ends.len(), 3);
    assert!(ends[2].at.duration_since(ends[0].at).as_millis() >= 300);

    world.change(|slot| slot.attempt = 2);
    let failed_again = |attempt: u32, phase: &SlotPhase| attempt == 2 && matches!(phase, SlotPhase::Failed { .. });
    let slot = world.blue("failed again", |slot| failed_again(slot.attempt, &slot.phase)).await;
    assert_eq!(slot.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_killed_and_replaced() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.health.timeout = tradewind_core::duration::Span::from_millis(500));
    world.ready().await;
    let before = world.records().remove(0);
    signal(&before, Signal::STOP);
    // Announced as not ready long before it is given up.
    world.endpoints("not ready", |all| all.len() == 1 && !all[0].ready && all[0].id == before.id).await;
    let exited = world.event(EventKind::ReplicaExited).await;
    assert!(exited.message.contains("answered nothing for 1"), "{}", exited.message);
    world.report("replaced", |report| report.replicas.iter().any(|each| each.ready && each.id != before.id)).await;
    assert!(!before.identity.unwrap().is_alive());
}
