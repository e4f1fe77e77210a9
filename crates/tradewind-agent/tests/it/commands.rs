//! Servers of authors' own: real ones, with children, streams, and ways of not starting.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rustix::process::Signal;
use tradewind_agent::ReplicaRecord;
use tradewind_core::{
    Digest,
    assignment::{CheckName, CheckResult, SlotAssignment, SlotPhase, SlotStatus},
    bundle::{Runtime, command::REPLICA_ID_VARIABLE},
    event::EventKind,
};
use tradewind_process::Family;

use crate::world::{DEADLINE, World, eventually, signal};

/// In a directory of its own it starts a child that leaves its session, and then is the example's server.
const START: &str = r#"#!/bin/sh
setsid sleep 1000 &
touch ../left-behind
echo "model $TRADEWIND_MODEL, greeting $GREETING, secret ${CARGO_MANIFEST_DIR:-unknown}, in $(basename "$PWD")"
exec python3 ../server.py --host "$HOST" --port "$PORT"
"#;
const CASE: &str = r#"{"http": {"path": "/v1/completions", "body": {"prompt": "over", "max_tokens": 2}},
    "expect": {"json": {"text": "the wind"}}}"#;

fn manifest(ready: &str, more: &str) -> String {
    format!(
        "runtime = \"command\"\n[command]\nrun = [\"./start\"]\ndirectory = \"app\"\nready = \"{ready}\"\n\
         env = {{ GREETING = \"hello {{model}}\" }}\n{more}"
    )
}

fn push(world: &World, version: u64, manifest: &str) -> Digest {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tokens/v1/server.py");
    let server = std::fs::read_to_string(server).unwrap();
    let files = [("app/start", START), ("server.py", &*server), ("cases/001.json", CASE)];
    world.push_server(version, manifest, &files)
}

/// One server, ready and verified.
async fn serving(manifest: &str) -> World {
    let mut world = World::start().await;
    let digest = push(&world, 1, manifest);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.verify = Some(1));
    world.blue("verified", |slot| slot.verification.is_some()).await;
    world
}

/// The processes of a server, its children included.
fn family(record: &ReplicaRecord) -> Family {
    Family::new(REPLICA_ID_VARIABLE, &record.id)
}

fn log(world: &World) -> String {
    std::fs::read_to_string(world.data_dir().join("logs/digits/1.blue.0.log")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_started_as_its_manifest_says_verified_and_announced() {
    let world = serving(&manifest("/health", "")).await;
    let slot = world.blue("ready", |slot| slot.replicas.ready == 1).await;
    let checks = slot.verification.unwrap().checks;
    let found: Vec<_> = checks.iter().map(|check| (check.name, check.result)).collect();
    let expected = [
        (CheckName::Digest, CheckResult::Unproved),
        (CheckName::Ready, CheckResult::Passed),
        (CheckName::Signature, CheckResult::Skipped),
        (CheckName::GoldenCases, CheckResult::Passed),
        (CheckName::Latency, CheckResult::Passed),
    ];
    assert_eq!(found, expected, "{checks:?}");
    let endpoints = world.endpoints("one", |all| all.len() == 1 && all[0].ready).await;
    assert_eq!((endpoints[0].runtime, endpoints[0].probe.to_string()), (Runtime::Command, "/health".to_owned()));
    let log = log(&world);
    assert!(log.contains("model digits, greeting hello digits, secret unknown, in app"), "{log}");
    assert!(log.contains("serving on 127.0.0.1:"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_takes_its_children_with_it_and_another_takes_the_place() {
    let world = serving(&manifest("/health", "")).await;
    let before = world.records().remove(0);
    assert_eq!(family(&before).members().len(), 2, "the server and its child");
    signal(&before, Signal::KILL);
    let exited = world.event(EventKind::ReplicaExited).await;
    assert!(exited.message.ends_with("ended: killed by signal 9 (SIGKILL)"), "{}", exited.message);
    assert!(family(&before).members().is_empty(), "nothing of it is left when its end is told");
    let report = world
        .report("replaced", |report| report.replicas.iter().any(|replica| replica.ready && replica.id != before.id))
        .await;
    assert_eq!((report.replicas.len(), report.replicas[0].restarts), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_adopted_also_when_only_the_intent_was_written() {
    let mut world = serving(&manifest("/health", "")).await;
    let (pid, record) = (world.pid(), world.records().remove(0));
    world.kill_agent().await;
    let path = world.data_dir().join("replicas").join(format!("{}.json", record.id));
    let mut intent = serde_json::to_value(&record).unwrap();
    intent["identity"] = serde_json::Value::Null;
    std::fs::write(path, intent.to_string()).unwrap();
    world.start_agent();
    let report = world.ready().await;
    assert_eq!((report.replicas.len(), report.replicas[0].pid), (1, pid));
    world.event(EventKind::ReplicaAdopted).await;
    assert_eq!(family(&record).members().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_leaves_behind_while_no_agent_runs_is_ended() {
    let mut world = serving(&manifest("/health", "")).await;
    let record = world.records().remove(0);
    world.kill_agent().await;
    signal(&record, Signal::KILL);
    eventually("the server is dead", || world.records().is_empty()).await;
    assert_eq!(family(&record).members().len(), 1, "its child lives on");
    world.start_agent();
    let report = world.ready().await;
    assert_ne!(report.replicas[0].id, record.id);
    assert!(family(&record).members().is_empty());
}

/// A stream of so many tokens, one every 100 ms, of which one has come.
async fn stream(world: &World, tokens: u32) -> reqwest::Response {
    let address = world.endpoints("one", |all| all.len() == 1 && all[0].ready).await.remove(0).address;
    let body = format!(r#"{{"prompt": "over", "max_tokens": {tokens}, "delay_ms": 100, "stream": true}}"#);
    let http = tradewind_api::client::http_client().build().unwrap();
    let mut response = http.post(format!("http://{address}/v1/completions")).body(body).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"token\": \"the\"}\n\n");
    response
}

async fn gone(world: &World, record: &ReplicaRecord) {
    eventually("nothing of it is left", || family(record).members().is_empty() && world.records().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_heard_to_its_end_before_a_server_is_told_to_end() {
    let mut world = serving(&manifest("/health", "")).await;
    let record = world.records().remove(0);
    // Longer than the drain time.
    let stream = stream(&world, 60).await;
    world.assign_all([]);
    world.endpoints("none", <[_]>::is_empty).await;
    let text = tokio::time::timeout(DEADLINE, stream.text()).await.unwrap().unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(text.matches("token").count(), 59);
    gone(&world, &record).await;
    assert!(log(&world).contains("all streams have ended"), "it was told politely");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlasts_the_drain_limit_is_cut() {
    let mut world = serving(&manifest("/health", "drain = \"4s\"\n")).await;
    let record = world.records().remove(0);
    let stream = stream(&world, 600).await;
    world.assign_all([]);
    let cut = tokio::time::timeout(Duration::from_secs(50), stream.text()).await.expect("60 s is its natural end");
    assert!(cut.is_err(), "{cut:?}");
    gone(&world, &record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_become_ready_fails_the_attempt_and_says_why() {
    let mut world = World::start().await;
    let digest = push(&world, 1, &manifest("/nothing", "startup = \"2s\"\n"));
    world.assign(world.slot(1, digest, 1));
    let slot = world.blue("failed", |slot| matches!(slot.phase, SlotPhase::Failed { .. })).await;
    let SlotPhase::Failed { failure } = slot.phase else { unreachable!() };
    assert!(failure.causes[0].starts_with("it was not ready within 2 s and was killed: "), "{failure:?}");
    assert!(failure.causes[0].ends_with("GET /nothing was answered with 404"), "{failure:?}");
    assert!(
        failure.causes.iter().any(|line| line.contains("\"GET /nothing HTTP/1.1\" 404")),
        "its last words: {failure:?}"
    );
    assert!(world.records().is_empty());

    let digest = push(&world, 2, &manifest("tcp", ""));
    world.assign(world.slot(2, digest, 1));
    world.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_leaves_beside_its_files_is_no_drift_but_a_change_of_them_is() {
    let world = serving(&manifest("/health", "")).await;
    let record = world.records().remove(0);
    assert!(record.directory.join("left-behind").exists());
    let path = record.directory.join("server.py");
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "print('somebody else')").unwrap();
    let found = world.event(EventKind::DriftFound).await;
    assert_eq!(found.message, "the installed bundle of digits 1 was altered: `server.py` was altered");
    world.report("replaced", |report| report.replicas.iter().any(|each| each.ready && each.id != record.id)).await;
}

/// Speaks as much of the Open Inference Protocol as a verification needs; doubles its input.
const V2: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        tensor = lambda name: {"name": name, "datatype": "INT64", "shape": [-1]}
        self.answer({"name": "digits", "inputs": [tensor("x")], "outputs": [tensor("y")]})

    def do_POST(self):
        assert self.path == "/v2/models/digits/infer", self.path
        data = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"][0]["data"]
        output = {"name": "y", "datatype": "INT64", "shape": [len(data)], "data": [2 * each for each in data]}
        self.answer({"model_name": "digits", "outputs": [output]})

    def answer(self, document):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_the_open_inference_protocol_is_verified_in_it() {
    let mut world = World::start().await;
    let manifest = |output: &str| {
        format!(
            "runtime = \"command\"\n[command]\nrun = [\"python3\", \"v2.py\"]\nready = \"/v2/health/ready\"\n\
             [[signature.inputs]]\nname = \"x\"\ndatatype = \"INT64\"\nshape = [-1]\n\
             [[signature.outputs]]\nname = \"y\"\ndatatype = \"{output}\"\nshape = [-1]\n"
        )
    };
    let case = r#"{"request": {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [21]}]},
        "expect": {"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [42]}]}}"#;
    let files = [("v2.py", V2), ("cases/001.json", case)];
    for (version, output, expected) in
        [(1, "INT64", "1/1 golden case"), (2, "FP32", "output `y`: expected y FP32 [N], got y INT64 [N]")]
    {
        let digest = world.push_server(version, &manifest(output), &files);
        world.assign(SlotAssignment { verify: Some(1), ..world.slot(version, digest, 1) });
        let is_verified = |slot: &SlotStatus| slot.revision.0 == version && slot.verification.is_some();
        let checks = world.blue("verified", is_verified).await.verification.unwrap().checks;
        assert!(checks.iter().any(|check| check.detail == expected), "{checks:?}");
    }
}
