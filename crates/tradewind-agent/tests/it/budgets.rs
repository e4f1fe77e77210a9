//! Replicas with budgets of processor time and memory. Where this machine lets nobody make groups, they run without, and
//! that is what has to be reported.

use rustix::process::Signal;
use tradewind_agent::ReplicaRecord;
use tradewind_core::{
    Digest,
    assignment::{ReplicaStatus, SlotAssignment, SlotPhase},
    event::EventKind,
    resources::{Cpu, Memory},
    scale::Scale,
};
use tradewind_process::{Cgroups, Controller, Group, Limits};

use crate::world::{World, eventually, get, group_of, signal};

/// `/eat/N` takes N MiB and keeps them; so does each start, if it is told to.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os, sys
held = [bytearray(b"x") * (int(os.environ.get("EAT", "0")) << 20)]
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/eat/"):
            held.append(bytearray(b"x") * (int(self.path[5:]) << 20))
        body = " ".join(f"{name}={os.environ.get(name)}" for name in sorted(os.environ)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Server).serve_forever()
"#;
const BUDGET: Memory = Memory::from_bytes(64 << 20);

fn push(world: &World, version: u64, env: &str) -> Digest {
    let manifest =
        format!("runtime = \"command\"\n[command]\nrun = [\"./server\"]\nready = \"/\"\nenv = {{ {env} }}\n");
    world.push_server(version, &manifest, &[("server", SERVER)])
}

fn within(slot: SlotAssignment, memory: Option<Memory>, cpu: Option<Cpu>) -> SlotAssignment {
    SlotAssignment { scale: Scale { memory, cpu, ..slot.scale.clone() }, ..slot }
}

/// Replicas with this memory, ready.
async fn serving(replicas: u32) -> World {
    let mut world = World::start().await;
    let digest = push(&world, 1, "");
    world.assign(within(world.slot(1, digest, replicas), Some(BUDGET), None));
    world.ready().await;
    world
}

/// Whether this machine can limit memory. If not, that is told of each replica, and none has a group that limits it.
fn limits_memory(world: &World, replicas: &[ReplicaStatus]) -> bool {
    let name = format!("tradewind-test-asks-{}", std::process::id());
    let unavailable = Cgroups::open(&name).unavailable(Controller::Memory).map(ToString::to_string);
    for replica in replicas {
        match (&unavailable, &replica.unenforced) {
            (None, None) => {}
            (Some(why), Some(told)) => {
                assert!(told.starts_with(&format!("the memory limit is not enforced: {why}")), "{told}");
            }
            different => panic!("{different:?}"),
        }
    }
    assert!(unavailable.is_none() == world.records().iter().all(|record| limited(record).is_some()));
    unavailable.is_none()
}

fn limited(record: &ReplicaRecord) -> Option<&Group> {
    group_of(record).filter(|group| group.oom_kills().is_some())
}

/// Asks for more than it may have.
async fn eat(record: &ReplicaRecord) {
    let http = tradewind_api::client::http_client().build().unwrap();
    // Nobody is left to answer.
    http.get(format!("http://{}/eat/256", record.address)).send().await.unwrap_err();
}

async fn metric(world: &World, series: &str) -> Option<f64> {
    let page = world.get("/metrics", None).await.text().await.unwrap();
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_over_its_memory_is_restarted_and_its_sibling_goes_on() {
    let world = serving(2).await;
    if !limits_memory(&world, &world.ready().await.replicas) {
        return;
    }
    let [greedy, sibling] = world.records().try_into().unwrap();
    let labels = r#"{region="us-east1",model="digits",slot="blue",replica="0"}"#;
    let limit = metric(&world, &format!("tradewind_agent_replica_memory_limit_bytes{labels}")).await;
    assert_eq!(limit, Some((64 << 20) as f64));
    let used = metric(&world, &format!("tradewind_agent_replica_memory_bytes{labels}")).await;
    assert!(used > Some(1e6) && used < limit, "{used:?}");

    eat(&greedy).await;
    let exited = world.event(EventKind::ReplicaExited).await;
    assert!(exited.message.ends_with("ended: over its memory of 64MiB: killed"), "{}", exited.message);
    let is_back = |replica: &ReplicaStatus| replica.restarts == 1 && replica.ready;
    let report = world.report("replaced", |report| report.replicas.iter().any(is_back)).await;
    let back = report.replicas.iter().find(|replica| is_back(replica)).unwrap();
    assert_eq!(back.last_end.as_deref(), Some("over its memory of 64MiB: killed"));
    let other = report.replicas.iter().find(|replica| replica.id == sibling.id).unwrap();
    assert_eq!((other.pid, other.restarts), (sibling.identity.as_ref().unwrap().pid, 0));
    assert!(get(&sibling.address, "/", None).await.status().is_success());

    let log = std::fs::read_to_string(world.data_dir().join("logs/digits/1.blue.0.log")).unwrap();
    assert!(log.contains("tradewind: over its memory of 64MiB: killed\n"), "{log}");
    let kills = r#"tradewind_agent_replica_oom_kills_total{region="us-east1",model="digits",slot="blue"}"#;
    assert_eq!(metric(&world, kills).await, Some(1.0));
    let group = group_of(&greedy).unwrap();
    eventually("its group is gone", || group.oom_kills().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_otherwise_is_not_called_greedy() {
    let world = serving(1).await;
    signal(&world.records()[0], Signal::KILL);
    let exited = world.event(EventKind::ReplicaExited).await;
    assert!(exited.message.ends_with("ended: killed by signal 9 (SIGKILL)"), "{}", exited.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_model_does_not_fit_fails_and_says_what_to_do() {
    let mut world = World::start().await;
    let digest = push(&world, 1, "EAT = \"256\"");
    world.assign(within(world.slot(1, digest, 1), Some(BUDGET), None));
    let is_over = |phase: &SlotPhase| matches!(phase, SlotPhase::Failed { .. } | SlotPhase::Ready);
    let slot = world.blue("over", |slot| is_over(&slot.phase)).await;
    let SlotPhase::Failed { failure } = slot.phase else {
        assert!(!limits_memory(&world, &world.ready().await.replicas), "it has more than it may");
        return;
    };
    assert!(failure.message.ends_with("before the slot was ready, the last one over its memory"), "{failure:?}");
    assert_eq!(failure.causes[0], "over its memory of 64MiB: killed");
    assert!(failure.hint.unwrap().contains("`tradewind deploy digits --memory 128MiB`"));
    assert!(!failure.retryable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_finds_the_groups_of_what_it_adopts_and_removes_those_of_what_is_gone() {
    let mut world = serving(2).await;
    if !limits_memory(&world, &world.ready().await.replicas) {
        return;
    }
    let [gone, adopted] = world.records().try_into().unwrap();
    world.kill_agent().await;
    signal(&gone, Signal::KILL);
    eventually("one has ended", || world.records().len() == 1).await;
    // As an agent leaves one that is killed between making a group and writing that down.
    let held = serde_json::to_value(limited(&gone).unwrap()).unwrap();
    let directory = held["parts"]["memory"]["directory"].as_str().unwrap().to_owned();
    let name = std::path::Path::new(&directory).parent().unwrap().file_name().unwrap().to_str().unwrap();
    let unrecorded = Cgroups::open(name).create("unrecorded", &Limits::default()).unwrap().unwrap();

    world.start_agent();
    let report = world.ready().await;
    assert!(report.replicas.iter().any(|replica| replica.id == adopted.id), "{report:?}");
    eventually("the group of the dead one is gone", || !std::path::Path::new(&directory).exists()).await;
    eventually("so is the one of nobody", || unrecorded.oom_kills().is_none()).await;

    // The adopted one is in its group still: what ends it is told, and its group goes with it.
    eat(&adopted).await;
    let over = |report: &tradewind_api::agent::AgentReport| {
        report.replicas.iter().any(|replica| replica.last_end.as_deref() == Some("over its memory of 64MiB: killed"))
    };
    world.report("it is told", over).await;
    let records = world.records();
    world.assign_all([]);
    world.report("nothing is left", |report| report.replicas.is_empty()).await;
    for record in [&adopted].into_iter().chain(&records) {
        let group = group_of(record).unwrap();
        eventually("its group is gone", || group.oom_kills().is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_its_budget() {
    let mut world = World::start().await;
    let digest = push(&world, 1, "OMP_NUM_THREADS = \"7\"");
    world.assign(within(world.slot(1, digest, 1), Some(BUDGET), Some(Cpu::from_milli(2500))));
    world.ready().await;
    let told = async |world: &World| get(&world.records()[0].address, "/", None).await.text().await.unwrap();
    let text = told(&world).await;
    for said in ["TRADEWIND_CPU=2.5", "TRADEWIND_MEMORY=67108864", "TRADEWIND_THREADS=2", "OMP_NUM_THREADS=7"] {
        assert!(text.split(' ').any(|word| word == said), "{said}: {text}");
    }
    let digest = push(&world, 2, "");
    world.assign(within(world.slot(2, digest, 1), None, Some(Cpu::from_milli(2500))));
    world.ready().await;
    eventually("one is left", || world.records().len() == 1).await;
    let text = told(&world).await;
    assert!(text.contains("OMP_NUM_THREADS=2") && !text.contains("TRADEWIND_MEMORY"), "{text}");
    let digest = push(&world, 3, "");
    world.assign(world.slot(3, digest, 1));
    world.ready().await;
    eventually("one is left", || world.records().len() == 1).await;
    let text = told(&world).await;
    assert!(text.contains("TRADEWIND_THREADS=1") && !text.contains("OMP_NUM_THREADS"), "{text}");
}
