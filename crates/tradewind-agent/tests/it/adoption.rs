//! What an agent leaves to its successor.

use rustix::process::Signal;
use tradewind_agent::{Error, recorded_replicas, stop_replicas};
use tradewind_core::{assignment::SlotPhase, event::EventKind};

use crate::world::{DEADLINE, World, blue_of, case, endpoints_at, eventually, good, signal};

/// One ready and verified replica.
async fn serving() -> World {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case())]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.verify = Some(1));
    world.blue("verified", |slot| slot.verification.is_some()).await;
    world
}

async fn check_adopted(world: &World, pid: u32) {
    let report = world.ready().await;
    assert_eq!((report.replicas.len(), report.replicas[0].pid), (1, pid));
    let slot = blue_of(&report).unwrap();
    let verification = slot.verification.as_ref().expect("what was verified stays so");
    assert!(verification.succeeded(), "{verification:?}");
    world.event(EventKind::ReplicaAdopted).await;
    assert_eq!(world.pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_leaves_its_replicas_to_the_next() {
    let mut world = serving().await;
    let (pid, address) = (world.pid(), world.remembered_address());
    let endpoint = world.endpoints("one", |all| all.len() == 1).await.remove(0);
    world.stop_agent().await;
    assert_eq!(world.pid(), pid);
    world.start_agent();
    check_adopted(&world, pid).await;
    assert_eq!(world.remembered_address(), address);
    let now = endpoints_at(&address, "one", |_| true).await;
    assert_eq!(now, [endpoint], "the first word to gateways must be the whole truth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agents_replicas_are_adopted_also_when_only_the_intent_was_written() {
    let mut world = serving().await;
    let pid = world.pid();
    world.kill_agent().await;
    let record = &world.records()[0];
    let path = world.data_dir().join("replicas").join(format!("{}.json", record.id));
    let mut intent = serde_json::to_value(record).unwrap();
    intent["identity"] = serde_json::Value::Null;
    std::fs::write(path, intent.to_string()).unwrap();
    world.start_agent();
    check_adopted(&world, pid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_control_everything_serves_again_from_disk() {
    let mut world = serving().await;
    world.stop_control().await;
    world.kill_agent().await;
    let before = world.records().remove(0);
    signal(&before, Signal::KILL);
    eventually("it is dead", || world.records().is_empty()).await;

    world.start_agent();
    let port = world.data_dir().join("port");
    eventually("it listens", || port.exists() && std::net::TcpStream::connect(world.remembered_address()).is_ok())
        .await;
    let address = world.remembered_address();
    let endpoints = endpoints_at(&address, "one, ready", |all| all.len() == 1 && all[0].ready).await;
    assert_ne!(endpoints[0].id, before.id);
    assert_eq!(endpoints[0].revision.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_agent_runs_in_a_data_directory() {
    let world = serving().await;
    let second = tradewind_agent::run(world.options(), Default::default());
    let result = tokio::time::timeout(DEADLINE, second).await.unwrap();
    assert!(matches!(result, Err(Error::InUse { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_stopped_on_demand_and_come_back_with_the_agent() {
    let mut world = serving().await;
    world.stop_agent().await;
    let replicas = recorded_replicas(&world.data_dir());
    assert_eq!(stop_replicas(&world.data_dir(), DEADLINE).await.unwrap(), 1);
    assert!(!replicas[0].identity.as_ref().unwrap().is_alive());
    assert!(recorded_replicas(&world.data_dir()).is_empty());
    world.start_agent();
    let report = world.ready().await;
    assert_eq!(blue_of(&report).unwrap().phase, SlotPhase::Ready);
    assert_ne!(report.replicas[0].id, replicas[0].id);
}
