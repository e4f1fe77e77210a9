//! A world to look at: three regions, of which one is ill, and two models, of which one is just being deployed.

use std::time::Duration;

use serde_json::{Value, json};
use tradewind_core::Timestamp;

use super::{poll::Look, state::Top};

/// Documents as they come from control; what does not fit them fails.
pub(super) fn typed<T: serde::de::DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).unwrap()
}

pub(super) fn at(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-03T12:00:00Z".parse().unwrap();
    Timestamp::from_second(noon.as_second() + seconds).unwrap()
}

/// The world has been looked at each second for a minute, while more and more was asked of it.
pub(super) fn top() -> Top {
    let mut top = Top::new("http://127.0.0.1:7400", Duration::from_secs(1), look(at(-60), 100.0));
    for second in (-59..=0).filter(|second| !(-30..-20).contains(second)) {
        top.see(Look { events: Vec::new(), ..look(at(second), 500.0 + second as f64 * 6.0) });
    }
    top
}

pub(super) fn look(at: Timestamp, requests_per_second: f64) -> Look {
    Look { at, world: world(requests_per_second), events: events(), alerts: alerts(), rollout: None }
}

pub(super) fn world(requests_per_second: f64) -> tradewind_api::status::WorldStatus {
    typed(json!({
        "schema_version": 1,
        "models": [digits(requests_per_second), fraud()],
        "regions": [
            region("asia-northeast1", Some("no agent for 12 s")),
            region("europe-west1", None),
            region("us-east1", None),
        ],
    }))
}

fn count(ready: u32, desired: u32) -> Value {
    json!({ "ready": ready, "desired": desired })
}

fn health(region: &str, requests_per_second: f64, p99_us: u64) -> Value {
    json!({
        "healthy": true, "reason": null, "users_go_to": region,
        "requests_per_second": requests_per_second, "errors_per_second": 0.0,
        "requests": 10_000, "errors": 0, "p50_us": 600, "p99_us": p99_us,
    })
}

fn digits(requests_per_second: f64) -> Value {
    let mut ill = health("us-east1", 0.0, 0);
    ill["healthy"] = false.into();
    ill["reason"] = "no agent for 12 s".into();
    ill["errors_per_second"] = 0.5.into();
    (ill["p50_us"], ill["p99_us"]) = (Value::Null, Value::Null);
    json!({
        "schema_version": 1, "model": "digits",
        "regions": ["us-east1", "europe-west1", "asia-northeast1"],
        "deployment_status": { "us-east1": "success", "europe-west1": "success", "asia-northeast1": "success" },
        "verification_status": { "us-east1": "success", "europe-west1": "success", "asia-northeast1": "success" },
        "routing_configured": true, "monitoring_active": true,
        "rollout": { "revision": 2, "state": "soaking", "soak": "running", "soak_until": at(42) },
        "revision": 2, "version": 2, "epoch": 3, "live_slot": "green",
        "slots": {
            "blue": { "revision": 1, "state": "standby", "replicas": { "us-east1": count(2, 2) } },
            "green": { "revision": 2, "state": "live", "replicas": {
                "us-east1": count(2, 2), "europe-west1": count(1, 1), "asia-northeast1": count(0, 1) } },
        },
        "health": {
            "us-east1": health("us-east1", requests_per_second, 1_830),
            "europe-west1": health("europe-west1", 95.0, 2_040),
            "asia-northeast1": ill,
        },
    })
}

fn fraud() -> Value {
    json!({
        "schema_version": 1, "model": "fraud", "regions": ["us-east1", "europe-west1"],
        "deployment_status": { "us-east1": "success", "europe-west1": "deploying" },
        "verification_status": { "us-east1": "success", "europe-west1": "pending" },
        "routing_configured": false, "monitoring_active": false,
        "rollout": { "revision": 1, "state": "regions", "soak": "pending", "soak_until": null },
        "revision": null, "version": null, "epoch": null, "live_slot": null,
        "slots": { "blue": { "revision": 1, "state": "candidate",
            "replicas": { "us-east1": count(1, 1), "europe-west1": count(0, 1) } } },
        "health": {},
    })
}

fn region(name: &str, reason: Option<&str>) -> Value {
    let member = |port: u16| json!({ "address": format!("127.0.0.1:{port}"), "alive": reason.is_none(), "pid": 4242, "last_report": at(-1), "stale": false });
    json!({
        "name": name, "location": null, "drained": false, "healthy": reason.is_none(), "reason": reason,
        "agents": [member(9000)], "gateways": [member(7410)],
        "replicas": [{ "id": "digits-g-1", "model": "digits", "slot": "green", "revision": 2, "version": 2,
            "address": "127.0.0.1:9001", "pid": 4243, "started_at": at(-7_200), "ready": true, "restarts": 1 }],
        "round_trips_us": { "elsewhere": 88_400 },
    })
}

fn events() -> Vec<tradewind_core::event::Event> {
    typed(json!([
        { "sequence": 1, "at": at(-90), "severity": "info", "kind": "rollout_started",
          "region": null, "model": "digits", "message": "revision 2 begins in 3 regions" },
        { "sequence": 4, "at": at(-61), "severity": "error", "kind": "region_unhealthy",
          "region": "asia-northeast1", "model": null, "message": "no agent for 3 s" },
    ]))
}

fn alerts() -> Vec<tradewind_api::monitoring::AlertView> {
    let alert = |id: &str, kind: &str, region: &str, model: Option<&str>, severity: &str, over: bool| {
        json!({
            "id": id, "kind": kind, "region": region, "model": model, "severity": severity, "silenced": false,
            "detail": "no agent for 12 s", "since": at(-75), "fired_at": at(-70), "resolved_at": over.then(|| at(-10)),
            "summary": "A region does not serve its users.", "runbook": "https://example.org/RegionDown",
        })
    };
    typed(json!([
        alert("000000000000002-000", "RegionDown", "asia-northeast1", None, "critical", false),
        alert("000000000000001-000", "LatencyBudgetBurn", "us-east1", Some("digits"), "warning", true),
    ]))
}

pub(super) fn rollout() -> tradewind_api::deploy::RolloutView {
    let step = |number: u32, action: &str, region: Option<&str>, result: &str| {
        json!({
            "step": number, "action": action, "region": region, "result": result, "next": "verify us-east1",
            "started_at": at(-90), "finished_at": (result != "running").then(|| at(-89)), "attempts": 1,
            "detail": if action == "verify" { "20/20 golden cases" } else { "" },
        })
    };
    typed(json!({
        "schema_version": 1, "model": "digits", "rollout": 2, "revision": 2, "version": 2, "from": 1, "slot": "green",
        "state": "soaking", "soak": "running", "failure": null, "created_at": at(-90), "finished_at": null,
        "regions": [], "routing": null, "serving": null,
        "steps": [
            step(1, "select_regions", None, "success"), step(2, "deploy", Some("us-east1"), "success"),
            step(3, "verify", Some("us-east1"), "success"), step(4, "retire", None, "running"),
        ],
    }))
}
