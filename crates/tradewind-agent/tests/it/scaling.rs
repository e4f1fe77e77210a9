//! The number of replicas follows what gateways have in flight.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::{sync::watch, task::JoinHandle};
use tradewind_api::{
    Client,
    agent::{AgentReport, DEMAND_PATH, DemandReport, Endpoints, ModelDemand},
    client::http_client,
};
use tradewind_core::{
    Slot,
    assignment::SlotStatus,
    duration::Span,
    event::EventKind,
    scale::{Bounds, Scale},
};

use crate::world::{DEADLINE, MESH_TOKEN, World, blue_of, case, eventually, good, model};

/// A gateway that tells what it has in flight, over and over.
struct Gateway {
    in_flight: watch::Sender<f64>,
    task: JoinHandle<()>,
}

impl Gateway {
    fn of(world: &World, name: &str) -> Self {
        let (in_flight, now) = watch::channel(0.0);
        let client = Client::new(&format!("http://{}", world.remembered_address()), Some(MESH_TOKEN.to_owned()));
        let gateway = name.to_owned();
        let task = tokio::spawn(async move {
            let mut beats = tokio::time::interval(Duration::from_millis(100));
            loop {
                beats.tick().await;
                let in_flight = *now.borrow();
                let model = ModelDemand { model: model(), in_flight, asked: in_flight > 0.0 };
                // The agent may be gone for a while.
                let _ = client.report_demand(&DemandReport { gateway: gateway.clone(), models: vec![model] }).await;
            }
        });
        Self { in_flight, task }
    }

    fn has(&self, in_flight: f64) {
        self.in_flight.send_replace(in_flight);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bounds(min: u32, max: u32) -> Scale {
    let scale_down_after = Span::from_secs(1);
    let bounds = Bounds { min, max, target: 2, scale_down_after, schedule: Vec::new() };
    Scale { replicas: bounds.first(), bounds: Some(bounds), ..Scale::default() }
}

/// Verified, with the fewest replicas.
async fn serving(min: u32, max: u32) -> World {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[("cases/001.json", case())]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.scale = bounds(min, max));
    world.change(|slot| (slot.verify, slot.armed) = (Some(1), true));
    world.blue("verified", |slot| slot.verification.as_ref().is_some_and(|found| found.succeeded())).await;
    world
}

fn has(slot: &SlotStatus, ready: u32) -> bool {
    (slot.replicas.ready, slot.replicas.desired) == (ready, ready)
}

fn reason(report: &AgentReport) -> &str {
    report.scaling.first().map_or("", |scaling| scaling.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_at_once_and_down_when_no_more_were_needed_for_a_while() {
    let world = serving(1, 3).await;
    let (one, other) = (Gateway::of(&world, "a:1"), Gateway::of(&world, "b:1"));
    world.report("told", |report| report.scaling.first().is_some_and(|told| told.in_flight == Some(0.0))).await;
    one.has(2.0);
    other.has(3.0);
    world.blue("three", |slot| has(slot, 3)).await;
    let report = world.report("why", |report| reason(report).contains("5.0 in flight")).await;
    assert_eq!(reason(&report), "5.0 in flight, 2 for each replica");
    let told = world.event(EventKind::Scaled).await;
    assert!(told.message.starts_with("digits 1 (blue) is scaled from 1 to "), "{}", told.message);

    one.has(0.0);
    other.has(0.5);
    world.blue("one again", |slot| has(slot, 1)).await;
    let endpoints = world.endpoints("one", |all| all.len() == 1).await;
    assert_eq!(endpoints[0].desired, 1);
    // Those that left were taken out of the announcements first, and end after that.
    eventually("one process is left", || world.records().len() == 1).await;
    assert_eq!(world.records()[0].place, 0);
    assert!(!world.kinds().contains(&EventKind::ReplicaExited), "they were told to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_gateways_end_no_replica() {
    let world = serving(1, 3).await;
    let gateway = Gateway::of(&world, "a:1");
    gateway.has(5.0);
    world.blue("three", |slot| has(slot, 3)).await;
    drop(gateway);
    let report = world.report("nobody tells", |report| report.scaling[0].in_flight.is_none()).await;
    assert_eq!(reason(&report), "no gateway says what is in flight: it stays");
    // Many times the window.
    for _ in 0..5 {
        let report = world.report("a heartbeat", |_| true).await;
        assert!(blue_of(&report).is_some_and(|slot| has(slot, 3)), "{report:#?}");
        world.control.reports.subscribe().changed().await.unwrap();
    }
    let _gateway = Gateway::of(&world, "a:1");
    world.blue("one", |slot| has(slot, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_zero_and_back_also_across_a_restart_of_the_agent_without_control() {
    let mut world = serving(0, 2).await;
    let gateway = Gateway::of(&world, "a:1");
    let rests = |slot: &SlotStatus| has(slot, 0) && slot.resting;
    world.blue("at rest", rests).await;
    let resting = async |world: &World| {
        let response = crate::world::get(&world.remembered_address(), "/v1/endpoints", Some(MESH_TOKEN)).await;
        tradewind_api::ndjson::Reader::<Endpoints>::new(response).next().await.unwrap()
    };
    let told = resting(&world).await;
    assert_eq!((told.endpoints.len(), told.resting.len(), told.resting[0].slot), (0, 1, Slot::Blue));
    eventually("no process is left", || world.records().is_empty()).await;

    world.stop_control().await;
    world.kill_agent().await;
    world.start_agent();
    eventually("it listens", || std::net::TcpStream::connect(world.remembered_address()).is_ok()).await;
    let told = resting(&world).await;
    assert_eq!((told.endpoints.len(), told.resting.len()), (0, 1), "the first word is that it rests");

    gateway.has(1.0);
    let address = world.remembered_address();
    let awake = crate::world::endpoints_at(&address, "one, ready", |all| all.len() == 1 && all[0].ready).await;
    assert_eq!(awake[0].revision.0, 1);
    assert_eq!(resting(&world).await.resting, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_up_beside_what_serves_is_sized_for_the_same_users() {
    let mut world = serving(1, 3).await;
    let gateway = Gateway::of(&world, "a:1");
    gateway.has(5.0);
    world.blue("three", |slot| has(slot, 3)).await;
    let blue = world.slot(1, world.records()[0].digest, 1);
    let blue = tradewind_core::assignment::SlotAssignment { scale: bounds(1, 3), verify: Some(1), armed: true, ..blue };
    let digest = world.push(2, &good(), &[]);
    let green = tradewind_core::assignment::SlotAssignment { scale: bounds(0, 8), ..world.slot(2, digest, 1) };
    world.assign_all([(Slot::Blue, blue), (Slot::Green, green)]);
    let green = |report: &AgentReport| report.models[0].slots.get(&Slot::Green).cloned();
    world.report("as many", |report| green(report).is_some_and(|slot| has(&slot, 3))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_the_last_word_until_the_number_is_given_back() {
    let mut world = serving(1, 2).await;
    let gateway = Gateway::of(&world, "a:1");
    gateway.has(1.0);
    world.scale(Some(3));
    world.blue("three", |slot| has(slot, 3)).await;
    let report = world.report("why", |report| reason(report).starts_with("set by hand")).await;
    assert_eq!((reason(&report), report.scaling[0].by_hand), ("set by hand by ada@engine", Some(3)));
    world.kill_agent().await;
    world.start_agent();
    world.blue("still three", |slot| has(slot, 3)).await;
    world.scale(None);
    world.blue("one", |slot| has(slot, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demand_is_told_by_holders_of_the_mesh_token_and_checked() {
    let world = World::start().await;
    let address = world.report("any", |_| true).await.address;
    let tell = async |body: String, token: &str| {
        let request = http_client().build().unwrap().post(format!("http://{address}{DEMAND_PATH}")).bearer_auth(token);
        tokio::time::timeout(DEADLINE, request.body(body).send()).await.unwrap().unwrap().status()
    };
    let good = r#"{"gateway": "a:1", "models": [{"model": "digits", "in_flight": 1.5, "asked": true}]}"#.to_owned();
    assert_eq!(tell(good.clone(), "wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(tell(good.clone(), MESH_TOKEN).await, StatusCode::NO_CONTENT);
    for (body, status) in [
        (good.replace("1.5", "-1"), StatusCode::BAD_REQUEST),
        (good.replace("1.5", "1e999"), StatusCode::BAD_REQUEST),
        (good.replace("a:1", ""), StatusCode::BAD_REQUEST),
        (good.replace("digits", "../x"), StatusCode::BAD_REQUEST),
        ("{".to_owned(), StatusCode::BAD_REQUEST),
        (" ".repeat(2 << 20), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let told = tell(body, MESH_TOKEN).await;
        assert_eq!(told, status);
    }
}
