//! What happened, listed and followed.

use tokio::time::timeout;
use tradewind_api::{
    Code,
    agent::AgentEvent,
    status::{AddRegion, EventQuery},
};
use tradewind_core::{
    Timestamp,
    event::{Event, EventKind, Severity},
};
use tradewind_testkit::eventually;

use crate::{
    control::{Control, DEADLINE, model, problem, region},
    members::{agent_report, gateway_report},
};

async fn events(control: &Control, query: &EventQuery) -> Vec<Event> {
    control.admin.events(query).await.unwrap().events
}

/// Waits until so many events of a kind are there.
async fn wait_for(control: &Control, kind: EventKind, count: usize) -> Vec<Event> {
    let look = || async {
        let all = events(control, &EventQuery { limit: Some(1000), ..EventQuery::default() }).await;
        let found: Vec<Event> = all.into_iter().filter(|event| event.record.kind == kind).collect();
        (found.len() == count).then_some(found)
    };
    eventually(&format!("{count} of {kind:?}"), DEADLINE, look).await.unwrap()
}

#[tokio::test]
async fn events_are_filtered_and_cut_to_the_newest() {
    let control = Control::start().await;
    for name in ["digits", "fraud"] {
        control.push(name, &[("model.onnx", "weights")]).await.unwrap();
    }
    wait_for(&control, EventKind::ModelPushed, 2).await;
    let all = events(&control, &EventQuery::default()).await;
    assert!(all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{all:?}");

    let of_model = events(&control, &EventQuery { model: Some(model("fraud")), ..EventQuery::default() }).await;
    assert_eq!(of_model.iter().map(|event| event.record.kind).collect::<Vec<_>>(), [EventKind::ModelPushed]);
    let of_region = events(&control, &EventQuery { region: Some(region("us-east1")), ..EventQuery::default() }).await;
    assert_eq!(of_region.iter().map(|event| event.record.kind).collect::<Vec<_>>(), [EventKind::RegionAdded]);
    let newest = events(&control, &EventQuery { limit: Some(1), ..EventQuery::default() }).await;
    assert_eq!(newest, all[all.len() - 1..]);
    let after = EventQuery { after: Some(all[1].sequence), ..EventQuery::default() };
    assert_eq!(events(&control, &after).await, all[2..]);
    control.stop().await;
}

#[tokio::test]
async fn a_follower_gets_what_there_is_and_then_what_comes() {
    let control = Control::start().await;
    wait_for(&control, EventKind::ControlStarted, 1).await;
    let query = EventQuery { limit: Some(1), ..EventQuery::default() };
    let mut follower = control.admin.follow_events(&query).await.unwrap();
    let first = timeout(DEADLINE, follower.next()).await.unwrap().unwrap();
    assert_eq!(first.record.kind, EventKind::ControlStarted);
    let added = control.admin.add_region(&AddRegion { name: region("asia-northeast1"), location: None }).await.unwrap();
    assert!(added.location.is_some(), "the catalogue knows its place");
    let next = timeout(DEADLINE, follower.next()).await.unwrap().unwrap();
    assert_eq!((next.record.kind, next.record.region), (EventKind::RegionAdded, Some(region("asia-northeast1"))));
    assert!(next.sequence > first.sequence);

    let twice = control.admin.add_region(&AddRegion { name: region("asia-northeast1"), location: None }).await;
    assert_eq!(problem(twice).code, Code::Refused);
    control.stop().await;
}

#[tokio::test]
async fn an_agents_events_are_stored_once_however_often_they_are_told() {
    let control = Control::start().await;
    let agent = control.client("agent/us-east1");
    let event = |sequence| AgentEvent {
        sequence,
        at: Timestamp::now(),
        severity: Severity::Warning,
        kind: EventKind::ReplicaExited,
        model: Some(model("digits")),
        message: format!("event {sequence}"),
    };
    let told: Vec<AgentEvent> = (1..=150).map(event).collect();
    for events in [&told[..100], &told[..], &told[50..]] {
        let receipt = agent.report_agent(&agent_report("us-east1", events.to_vec())).await.unwrap();
        assert_eq!(receipt.events_stored, events.last().unwrap().sequence);
    }
    let stored = wait_for(&control, EventKind::ReplicaExited, 150).await;
    assert!(stored.iter().all(|event| event.record.region == Some(region("us-east1"))));
    control.stop().await;
}

#[tokio::test]
async fn a_start_is_told_once() {
    let control = Control::start().await;
    let (agent, gateway) = (control.client("agent/us-east1"), control.client("gateway/us-east1"));
    let started = AgentEvent {
        sequence: 1,
        at: Timestamp::now(),
        severity: Severity::Info,
        kind: EventKind::AgentStarted,
        model: None,
        message: "agent of us-east1 started on 127.0.0.1:9".to_owned(),
    };
    agent.report_agent(&agent_report("us-east1", vec![started.clone()])).await.unwrap();
    gateway.report_gateway(&gateway_report("us-east1")).await.unwrap();
    // Whoever looked at both has told of both.
    wait_for(&control, EventKind::GatewayStarted, 1).await;
    let told = wait_for(&control, EventKind::AgentStarted, 1).await;
    assert_eq!(told[0].record.message, started.message);
    control.stop().await;
}
