//! Canned but realistic answers, built from the API's types, so that they cannot drift away from them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tradewind_api::{
    deploy::{DeployAnswer, DeployRequest, History, RolloutList, RolloutView},
    drain::DrainAnswer,
    drill::DrillList,
    gateway::RouteExplanation,
    models::{ModelDetail, ModelList},
    status::{DeploymentStatus, RegionStatus, WorldStatus},
};
use tradewind_core::{
    Timestamp,
    bundle::{Lineage, ModelVersion},
    event::Event,
};

/// Parses what a test writes as the type that goes over the wire.
fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixture has the type's shape")
}

/// A file of the repository's own example.
pub(crate) fn example(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits").join(path);
    path.canonicalize().expect("the example is part of the repository")
}

pub(crate) fn model_file() -> Vec<u8> {
    std::fs::read(example("v1/model.onnx")).expect("the example can be read")
}

fn before_now(seconds: i64) -> String {
    Timestamp::from_second(Timestamp::now().as_second() - seconds).unwrap().to_string()
}

fn digest(byte: u8) -> String {
    format!("blake3:{}", format!("{byte:02x}").repeat(32))
}

pub(crate) fn version(number: u64) -> ModelVersion {
    typed(json!({
        "name": "digits",
        "version": number,
        "digest": digest(0x9f),
        "index": { "files": {
            "model.onnx": { "size": 16_000, "digest": digest(0x11) },
            "tradewind.toml": { "size": 400, "digest": digest(0x22) },
            "cases/001.json": { "size": 1_600, "digest": digest(0x33) },
        } },
        "manifest": { "name": "digits", "description": "Handwritten digits" },
        "signature": {
            "inputs": [{ "name": "image", "datatype": "FP32", "shape": [-1, 64] }],
            "outputs": [
                { "name": "label", "datatype": "INT64", "shape": [-1] },
                { "name": "probabilities", "datatype": "FP32", "shape": [-1, 10] },
            ],
        },
        "cases": ["cases/001.json"],
        "pushed_at": "2026-11-03T14:32:07Z",
    }))
}

/// What a pipeline says of what it publishes.
pub(crate) fn lineage() -> Lineage {
    typed(json!({
        "pipeline": "digits",
        "run": 12,
        "by": "ada@build-7",
        "started_at": "2026-11-03T14:11:42Z",
        "finished_at": "2026-11-03T14:32:02Z",
        "data": {
            "files": 3, "bytes": 1_240_000_000, "rows": 3_000_000, "digest": digest(0x5a),
            "batches": { "cut": "by 100000 rows", "total": 30, "failed": 1, "held_out": 3 },
        },
        "code": digest(0x6b),
        "requirements": ["numpy==2.4.6", "scikit-learn==1.8.0"],
        "parameters": { "layers": [64, 10], "rate": 0.1 },
        "metrics": { "accuracy": 0.971, "rows": 300_000 },
        "gate": ["accuracy 0.971000, at least 0.95", "accuracy 0.971000, live 0.968000, at least 0.968000"],
        "compared_with": 1,
    }))
}

pub(crate) fn models() -> ModelList {
    typed(json!({ "schema_version": 1, "models": [
        { "name": "digits", "latest": 2, "versions": 2, "digest": digest(0x9f), "bytes": 18_000, "pushed_at": before_now(180) },
        { "name": "fraud", "latest": 7, "versions": 7, "digest": digest(0xab), "bytes": 2_400_000, "pushed_at": before_now(90_000) },
    ] }))
}

pub(crate) fn model() -> ModelDetail {
    typed(json!({ "schema_version": 1, "name": "digits", "versions": [version(2), version(1)] }))
}

pub(crate) fn answer(request: &DeployRequest, unchanged: bool) -> DeployAnswer {
    let rollout = (!unchanged && !request.dry_run).then_some(1);
    typed(json!({
        "schema_version": 1,
        "plan": {
            "model": "digits",
            "version": request.version.map_or(1, |version| version.0),
            "digest": digest(0x9f),
            "revision": 1,
            "from": null,
            "slot": "blue",
            "unchanged": unchanged,
            "changes": ["version 1", "regions + us-east1, europe-west1"],
            "steps": [
                { "action": "select_regions", "region": null },
                { "action": "deploy", "region": "us-east1" },
                { "action": "verify", "region": "us-east1" },
                { "action": "route", "region": null },
            ],
            "summary": "regions one after the other, switch fleet, on failure stop",
        },
        "rollout": rollout,
    }))
}

fn step(step: u32, action: &str, region: Option<&str>, result: Option<&str>, millis: i64) -> Value {
    let started: Timestamp = "2026-11-03T14:32:07Z".parse().unwrap();
    let finished = Timestamp::from_millisecond(started.as_millisecond() + millis).unwrap();
    let done = matches!(result, Some("success" | "failed"));
    json!({
        "step": step,
        "action": action,
        "region": region,
        "result": result,
        "next": null,
        "started_at": result.map(|_| started.to_string()),
        "finished_at": done.then(|| finished.to_string()),
        "attempts": u32::from(result.is_some()),
        "detail": "",
    })
}

fn check(name: &str, result: &str, detail: &str) -> Value {
    json!({ "name": name, "result": result, "detail": detail })
}

fn region(name: &str, phase: &str, attempt: u32, verification: Option<Vec<Value>>) -> Value {
    let verification = verification
        .map(|checks| json!({ "attempt": attempt, "checks": checks, "finished_at": "2026-11-03T14:32:08Z" }));
    json!({
        "region": name, "phase": phase, "attempt": attempt, "attempts": 3,
        "verification": verification, "observed": null, "failure": null,
    })
}

fn passed() -> Option<Vec<Value>> {
    Some(vec![
        check("digest", "passed", "digest ok"),
        check("ready", "passed", "ready"),
        check("signature", "passed", "signature ok"),
        check("golden_cases", "passed", "20/20 golden cases"),
        check("latency", "passed", "p99 0.4 ms"),
    ])
}

fn rollout(state: &str, regions: Vec<Value>, steps: Vec<Value>, more: Value) -> RolloutView {
    let mut view = json!({
        "schema_version": 1, "model": "digits", "rollout": 1, "revision": 1, "version": 1, "from": null,
        "slot": "blue", "state": state, "soak": if state == "failed" { "skipped" } else { "pending" }, "failure": null,
        "created_at": "2026-11-03T14:32:07Z", "finished_at": null, "regions": regions,
        "routing": null, "steps": steps, "serving": null,
    });
    view.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    typed(view)
}

fn steps(done: usize) -> Vec<Value> {
    let all = [
        ("select_regions", None, 0),
        ("deploy", Some("us-east1"), 212),
        ("configure_monitoring", Some("us-east1"), 3),
        ("verify", Some("us-east1"), 96),
        ("deploy", Some("europe-west1"), 180),
        ("configure_monitoring", Some("europe-west1"), 3),
        ("verify", Some("europe-west1"), 101),
        ("route", None, 12),
        ("arm_monitoring", None, 4),
    ];
    (1..)
        .zip(all)
        .map(|(n, (action, region, ms))| step(n, action, region, (n as usize <= done).then_some("success"), ms))
        .collect()
}

/// A rollout that goes well, view by view.
pub(crate) fn going_well() -> Vec<RolloutView> {
    let routing = |acknowledged: u32, committed: bool| {
        json!({ "routing": {
            "epoch": 1, "committed": committed, "acknowledged": acknowledged, "gateways": 3, "skew_ms": committed.then_some(2),
        } })
    };
    let both = || vec![region("us-east1", "verified", 1, passed()), region("europe-west1", "verified", 1, passed())];
    let soaking = json!({ "routing": routing(3, true)["routing"], "soak": "running" });
    vec![
        rollout(
            "regions",
            vec![region("us-east1", "deploying", 1, None), region("europe-west1", "pending", 0, None)],
            steps(1),
            json!({}),
        ),
        rollout(
            "regions",
            vec![region("us-east1", "verifying", 1, None), region("europe-west1", "pending", 0, None)],
            steps(3),
            json!({}),
        ),
        rollout(
            "regions",
            vec![region("us-east1", "verified", 1, passed()), region("europe-west1", "deploying", 1, None)],
            steps(4),
            json!({}),
        ),
        rollout("preparing", both(), steps(7), routing(1, false)),
        rollout("arming", both(), steps(8), routing(3, true)),
        rollout("soaking", both(), steps(9), soaking),
    ]
}

/// After [`going_well`]: the soak has its verdict.
pub(crate) fn soak_passed() -> RolloutView {
    let mut view = going_well().pop().unwrap();
    view.soak = tradewind_core::rollout::Soak::Passed;
    view
}

/// The last view of a rollout whose first region gives wrong answers.
pub(crate) fn verification_failed() -> RolloutView {
    let wrong = Some(vec![
        check("digest", "passed", "digest ok"),
        check("golden_cases", "failed", "3/20 golden cases; cases/007.json: output `label`: expected 7, got 1"),
    ]);
    let mut steps = steps(3);
    steps[3]["result"] = "failed".into();
    steps[3]["attempts"] = 3.into();
    steps[3]["started_at"] = "2026-11-03T14:32:07Z".into();
    steps[3]["finished_at"] = "2026-11-03T14:32:09Z".into();
    steps[3]["detail"] = "verification failed in us-east1".into();
    steps[1]["next"] = "configure monitoring us-east1".into();
    let failure = json!({ "region": "us-east1", "action": "verify", "failure": {
        "message": "verification failed in us-east1",
        "causes": ["golden case cases/007.json: output `label`: expected 7, got 1"],
        "hint": null, "retryable": true,
    } });
    rollout(
        "failed",
        vec![region("us-east1", "failed", 3, wrong), region("europe-west1", "pending", 0, None)],
        steps,
        json!({ "version": 3, "revision": 3, "rollout": 3, "failure": failure,
            "finished_at": "2026-11-03T14:32:09Z",
            "serving": { "version": 2, "revision": 2, "regions": 2 } }),
    )
}

/// While the second attempt of a region is awaited.
pub(crate) fn retrying() -> RolloutView {
    let mut view = verification_failed();
    view.state = tradewind_core::rollout::RolloutState::Regions;
    (view.failure, view.finished_at) = (None, None);
    view.regions[0].phase = tradewind_core::rollout::RegionPhase::Retrying;
    view.regions[0].attempt = 1;
    view
}

pub(crate) fn aborted() -> RolloutView {
    let mut view = verification_failed();
    view.failure = typed(json!({ "region": null, "action": "select_regions",
        "failure": { "message": "aborted", "causes": [], "hint": null, "retryable": false } }));
    view
}

pub(crate) fn rollouts() -> RolloutList {
    let summary = |number: u64, state: &str, soak: &str, finished: bool| {
        json!({
            "model": "digits", "rollout": number, "revision": number, "version": number, "state": state, "soak": soak,
            "regions": 2, "created_at": "2026-11-03T14:32:07Z",
            "finished_at": finished.then_some("2026-11-03T14:33:09Z"),
        })
    };
    typed(json!({ "schema_version": 1, "rollouts": [
        summary(3, "failed", "skipped", true), summary(2, "soaking", "running", false), summary(1, "superseded", "passed", true),
    ] }))
}

pub(crate) fn history() -> History {
    let entry = |number: u64, state: &str, live: bool, changes: Vec<&str>| {
        json!({
            "revision": number, "version": number, "regions": ["us-east1", "europe-west1"],
            "created_at": before_now(600), "created_by": "ada@lab", "changes": changes, "state": state, "live": live,
            "rollouts": [number],
        })
    };
    typed(json!({ "schema_version": 1, "model": "digits", "revisions": [
        entry(3, "failed", false, vec!["version 2 -> 3"]),
        entry(2, "succeeded", true, vec!["version 1 -> 2", "replicas 1 -> 2"]),
        entry(1, "superseded", false, vec!["version 1"]),
    ] }))
}

fn health(healthy: bool, rate: f64) -> Value {
    json!({
        "healthy": healthy,
        "reason": (!healthy).then_some("no agent for 12 s"),
        "users_go_to": if healthy { "europe-west1" } else { "us-east1" },
        "requests_per_second": rate, "errors_per_second": if healthy { 0.0 } else { 0.06 },
        "requests": 10_000, "errors": 2,
        "p50_us": 600, "p99_us": 1_830,
        "capacity": healthy.then_some(json!({ "in_flight": 9.6, "in_flight_now": 9, "limit": 32, "replicas": 2 })),
    })
}

pub(crate) fn status() -> DeploymentStatus {
    let count = |ready: u32| json!({ "ready": ready, "desired": 2 });
    typed(json!({
        "schema_version": 1, "model": "digits",
        "regions": ["us-east1", "europe-west1"],
        "deployment_status": { "us-east1": "success", "europe-west1": "success" },
        "verification_status": { "us-east1": "success", "europe-west1": "success" },
        "routing_configured": true, "monitoring_active": true,
        "rollout": { "revision": 2, "state": "soaking", "soak": "running", "soak_until": before_now(-60) },
        "revision": 2, "version": 2, "epoch": 3, "live_slot": "green",
        "slots": {
            "blue": { "revision": 1, "state": "standby", "replicas": { "us-east1": count(2) } },
            "green": { "revision": 2, "state": "live", "replicas": { "us-east1": count(2), "europe-west1": count(1) } },
        },
        "health": { "us-east1": health(true, 495.2), "europe-west1": health(false, 316.8) },
    }))
}

/// Nobody has asked for a while, and a third version has just failed in its first region.
pub(crate) fn quiet_status() -> DeploymentStatus {
    let mut quiet = status();
    for health in quiet.health.values_mut() {
        (health.requests_per_second, health.errors_per_second) = (0.0, 0.0);
        (health.p50_us, health.p99_us) = (None, None);
    }
    quiet.deployment_status = typed(json!({ "us-east1": "success", "europe-west1": "pending" }));
    quiet.verification_status = typed(json!({ "us-east1": "failed", "europe-west1": "pending" }));
    (quiet.routing_configured, quiet.monitoring_active) = (false, false);
    quiet.rollout = typed(json!({ "revision": 3, "state": "failed", "soak": "skipped", "soak_until": null }));
    quiet
}

pub(crate) fn regions(gateway: &str) -> Vec<RegionStatus> {
    let member = |address: &str, alive: bool| json!({ "address": address, "alive": alive, "pid": 4242, "last_report": before_now(if alive { 0 } else { 12 }), "stale": false });
    let replica = json!({
        "id": "digits-b-1", "model": "digits", "slot": "green", "revision": 2, "version": 2, "address": "127.0.0.1:9001",
        "pid": 4243, "started_at": before_now(7_200), "ready": true, "restarts": 1,
    });
    typed(json!([
        {
            "name": "us-east1", "location": { "latitude": 33.2, "longitude": -80.0 }, "drained": false, "healthy": true,
            "reason": null, "agents": [member("127.0.0.1:9000", true)], "gateways": [member(gateway, true)],
            "replicas": [replica], "round_trips_us": { "europe-west1": 88_400 },
            "failover": failover("does_not_fit", 0.6),
        },
        {
            "name": "europe-west1", "location": null, "drained": false, "healthy": false, "reason": "no agent for 12 s",
            "agents": [member("127.0.0.1:9100", false)], "gateways": [], "replicas": [], "round_trips_us": {},
        },
    ]))
}

/// Users of us-east1 go abroad; one of them has not come home yet.
pub(crate) fn explanation(user: Option<&str>) -> RouteExplanation {
    let replica = |id: &str, ready: bool, ejected: bool, latency_us: u64| {
        json!({ "id": id, "address": "127.0.0.1:9001",
        "ready": ready, "ejected": ejected, "in_flight": 3, "limit": 16, "latency_us": latency_us })
    };
    let away = user.is_some();
    let home = if away { "takes its users back gradually, this one later" } else { "has no ready replica" };
    typed(json!({
        "schema_version": 1, "model": "digits", "gateway": "127.0.0.1:7410", "region": "us-east1", "from": "us-east1",
        "epoch": 3, "revision": 2, "slot": "green", "goes_to": "asia-northeast1",
        "regions": [
            { "region": "us-east1", "eligible": away, "reason": home, "ready": u8::from(away), "round_trip_us": null },
            { "region": "europe-west1", "eligible": false, "reason": "is unreachable", "ready": 0, "round_trip_us": null },
            { "region": "asia-northeast1", "eligible": true, "reason": "has 2 ready", "ready": 2, "round_trip_us": 161_200 },
            { "region": "us-west1", "eligible": true, "reason": "has 1 ready", "ready": 1, "round_trip_us": 164_000 },
        ],
        "replicas": [replica("digits-g-1", away, false, 640), replica("digits-g-2", true, true, 0)],
    }))
}

/// Users of us-east1 go to europe-west1, or part of them.
pub(crate) fn failover(fit: &str, share: f64) -> Value {
    let target = json!({ "region": "europe-west1", "in_flight": 9.6 * share, "utilisation": 0.1, "utilisation_then": 0.1 + 0.3 * share });
    let model = json!({ "model": "digits", "fit": fit, "in_flight": 9.6, "share": share, "targets": [target] });
    json!({ "fit": fit, "models": [model] })
}

pub(crate) fn drained(dry_run: bool) -> DrainAnswer {
    typed(json!({
        "schema_version": 1, "region": "us-east1", "drained": !dry_run, "changed": !dry_run,
        "failover": failover("fits", 1.0),
        "estimate": { "moved_ms": 1000, "answered_ms": 12, "limit_ms": 60_000 },
    }))
}

/// The first went as expected; control was away for a part of the second, which somebody stopped.
pub(crate) fn drills() -> DrillList {
    let counted = |requests: u64, failed: u64| json!({ "requests": requests, "failed": failed, "requests_of_others": 812, "failed_of_others": 0 });
    let estimate = json!({
        "failover": failover("fits", 1.0), "moved_ms": 1000, "failed": 0, "p99_us": 90_230, "returned_ms": 12_000,
    });
    let used = json!([{ "model": "digits", "region": "europe-west1", "in_flight": 13.8, "utilisation": 0.43 }]);
    let drill = |number: u64, ago: i64, ended: Value, measured: Value, interrupted: bool| {
        json!({
            "number": number, "region": "us-east1", "lasts": "30s", "started_at": before_now(ago),
            "started_by": "ada@engine", "forced": false, "state": "done", "ended": ended, "estimate": estimate,
            "before": counted(0, 0), "measured": measured, "interrupted": interrupted,
        })
    };
    let whole = json!({
        "moved_ms": 180, "counted": counted(3012, 0), "p99_before_us": 1830, "p99_during_us": 91_200,
        "p99_after_us": 2100, "targets": used, "returned_ms": 10_400,
    });
    typed(json!({ "schema_version": 1, "drills": [
        drill(2, 3600, json!({ "at": before_now(3588), "reason": "stopped" }), json!({ "moved_ms": 210 }), true),
        drill(1, 7200, json!({ "at": before_now(7170), "reason": "time" }), whole, false),
    ] }))
}

pub(crate) fn world(gateway: &str, models: Vec<DeploymentStatus>) -> WorldStatus {
    let regions: BTreeMap<_, _> = regions(gateway).into_iter().map(|region| (region.name.clone(), region)).collect();
    WorldStatus { schema_version: 1, models, regions: regions.into_values().collect(), drill: None }
}

pub(crate) fn events() -> Vec<Event> {
    typed(json!([
        { "sequence": 1, "at": "2026-11-03T14:32:07.123Z", "severity": "info", "kind": "rollout_started",
          "region": null, "model": "digits", "message": "revision 2 begins in 2 regions" },
        { "sequence": 4, "at": "2026-11-03T14:35:00Z", "severity": "error", "kind": "region_unhealthy",
          "region": "europe-west1", "model": null, "message": "no agent for 3 s" },
    ]))
}
