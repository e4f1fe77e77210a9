//! One region on this machine: the fake control, the agent in this process, fake replicas as processes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tradewind_agent::{AgentOptions, DEFAULT_LISTEN, Error, ReplicaRecord, recorded_replicas, run};
use tradewind_api::{
    agent::{AgentEvent, AgentReport, ENDPOINTS_PATH, Endpoint, Endpoints, RegionAssignments},
    ndjson,
};
use tradewind_artifacts::bundle_digest;
use tradewind_core::{
    Digest, Generation, ModelName, RegionName, RevisionNumber, Slot, Timestamp, VersionNumber,
    assignment::{Assignment, SlotAssignment, SlotPhase, SlotStatus},
    bundle::{BundleFile, BundleIndex, Manifest, ModelVersion, Signature, TensorSpec, command::REPLICA_ID_VARIABLE},
    deployment::HealthPolicy,
    duration::Span,
    event::EventKind,
    inference::Datatype,
    monitor::Monitors,
    scale::Scale,
    scaler::ByHand,
};
use tradewind_process::{Family, Group};

use crate::{
    fake_control::{FakeControl, Running, TOKEN},
    fake_replica::{FakeModel, SPOILED_FILE, program},
};

/// Ten times what anything here takes on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const MESH_TOKEN: &str = "tw1.mesh.test";

pub(crate) struct World {
    pub(crate) control: Arc<FakeControl>,
    running: Option<Running>,
    address: SocketAddr,
    directory: TempDir,
    agent: Option<(JoinHandle<Result<(), Error>>, CancellationToken)>,
    slots: BTreeMap<Slot, SlotAssignment>,
    by_hand: Option<ByHand>,
    revision: u64,
}

pub(crate) fn model() -> ModelName {
    "digits".parse().unwrap()
}

pub(crate) fn signature() -> Signature {
    let spec =
        |name: &str, datatype, shape: &[i64]| TensorSpec { name: name.to_owned(), datatype, shape: shape.to_vec() };
    Signature {
        inputs: vec![spec("image", Datatype::Fp32, &[-1, 2])],
        outputs: vec![spec("label", Datatype::Int64, &[-1])],
    }
}

/// A model that answers 7.
pub(crate) fn good() -> FakeModel {
    FakeModel { label: 7, crash: None }
}

/// A golden case that expects 7.
pub(crate) fn case() -> String {
    let case = json!({
        "request": {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}]},
        "expect": {"outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [7]}]},
    });
    case.to_string()
}

impl World {
    /// With the agent and control running, and nothing assigned.
    pub(crate) async fn start() -> Self {
        let control = FakeControl::new();
        let running = control.run("127.0.0.1:0".parse().unwrap()).await;
        let address = running.address;
        let directory = TempDir::new().unwrap();
        let mut world = Self {
            control,
            running: Some(running),
            address,
            directory,
            agent: None,
            slots: BTreeMap::new(),
            by_hand: None,
            revision: 0,
        };
        world.send();
        world.start_agent();
        world.settled().await;
        world
    }

    /// The agent has taken up what control says.
    async fn settled(&self) {
        let asking = async {
            while !self.get("/readyz", None).await.status().is_success() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("the agent takes up what control says");
    }

    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("agent")
    }

    pub(crate) fn options(&self) -> AgentOptions {
        AgentOptions {
            region: "us-east1".parse().unwrap(),
            control: format!("http://{}", self.address),
            token: TOKEN.to_owned(),
            data_dir: self.data_dir(),
            listen: DEFAULT_LISTEN,
            advertise: None,
            program: program(self.directory.path()),
        }
    }

    pub(crate) fn start_agent(&mut self) {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(self.options(), shutdown.clone()));
        self.agent = Some((task, shutdown));
    }

    /// As SIGTERM does.
    pub(crate) async fn stop_agent(&mut self) {
        let (task, shutdown) = self.agent.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, task).await.expect("the agent ends").unwrap().unwrap();
        self.control.reports.send_replace(None);
    }

    /// As SIGKILL does: nothing of it runs on.
    pub(crate) async fn kill_agent(&mut self) {
        let (task, _) = self.agent.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        // Its parts are dropped by whichever threads run them, a moment later.
        let address = self.remembered_address();
        eventually("nothing of it listens", || std::net::TcpStream::connect(&address).is_err()).await;
        self.control.reports.send_replace(None);
    }

    pub(crate) async fn stop_control(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    /// Publishes a bundle as a version, and returns its digest.
    pub(crate) fn push(&self, version: u64, fake: &FakeModel, cases: &[(&str, String)]) -> Digest {
        let mut files = vec![("model.onnx", serde_json::to_string(fake).unwrap())];
        files.extend(cases.iter().cloned());
        self.publish(version, serde_json::from_str("{}").unwrap(), signature(), &files)
    }

    /// Publishes a bundle of the runtime `command`.
    pub(crate) fn push_server(&self, version: u64, manifest: &str, files: &[(&str, &str)]) -> Digest {
        let files: Vec<_> = files.iter().map(|(path, content)| (*path, (*content).to_owned())).collect();
        let manifest: Manifest = toml::from_str(manifest).unwrap();
        let signature = manifest.signature.clone().unwrap_or_default();
        self.publish(version, manifest, signature, &files)
    }

    fn publish(&self, version: u64, manifest: Manifest, signature: Signature, files: &[(&str, String)]) -> Digest {
        let mut index = BundleIndex::default();
        for (path, content) in files {
            let content = content.clone().into_bytes();
            let digest = Digest::from_bytes(*blake3::hash(&content).as_bytes());
            let executable = content.starts_with(b"#!");
            index.files.insert((*path).to_owned(), BundleFile { size: content.len() as u64, digest, executable });
            self.control.blobs.lock().unwrap().insert(digest, content);
        }
        let digest = bundle_digest(&index);
        let cases = files.iter().map(|(path, _)| (*path).to_owned()).filter(|path| path.starts_with("cases/"));
        let published = ModelVersion {
            name: model(),
            version: VersionNumber(version),
            digest,
            index,
            manifest,
            signature,
            cases: cases.collect(),
            pushed_at: Timestamp::now(),
            lineage: None,
        };
        self.control.versions.lock().unwrap().insert((model().to_string(), version), published);
        digest
    }

    /// A slot that holds version N as revision N, with probes quick enough for a test.
    pub(crate) fn slot(&self, version: u64, digest: Digest, replicas: u32) -> SlotAssignment {
        SlotAssignment {
            revision: RevisionNumber(version),
            version: VersionNumber(version),
            digest,
            scale: Scale { replicas, ..Scale::default() },
            health: HealthPolicy {
                interval: Span::from_millis(100),
                timeout: Span::from_secs(2),
                ..Default::default()
            },
            monitors: Monitors::default(),
            attempt: 1,
            monitored: false,
            verify: None,
            armed: false,
            alone: false,
            trace: None,
        }
    }

    /// Assigns blue and nothing else.
    pub(crate) fn assign(&mut self, slot: SlotAssignment) {
        self.assign_all([(Slot::Blue, slot)]);
    }

    pub(crate) fn assign_all(&mut self, slots: impl IntoIterator<Item = (Slot, SlotAssignment)>) {
        self.slots = slots.into_iter().collect();
        self.send();
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut SlotAssignment)) {
        change(self.slots.get_mut(&Slot::Blue).unwrap());
        self.send();
    }

    /// As a person does.
    pub(crate) fn scale(&mut self, replicas: Option<u32>) {
        let by_hand = |replicas| ByHand { replicas, by: "ada@engine".to_owned(), at: Timestamp::now() };
        self.by_hand = replicas.map(by_hand);
        self.send();
    }

    /// The desired state as it would be sent with these numbers.
    pub(crate) fn message(&self, revision: u64, generation: u64) -> RegionAssignments {
        let region: RegionName = "us-east1".parse().unwrap();
        let slots = self.slots.clone();
        let assignment = Assignment {
            region: region.clone(),
            model: model(),
            generation: Generation(generation),
            slots,
            by_hand: self.by_hand.clone(),
        };
        let assignments = if generation == 0 { Vec::new() } else { vec![assignment] };
        RegionAssignments {
            region,
            incarnation: "one".to_owned(),
            revision,
            mesh_token: MESH_TOKEN.to_owned(),
            assignments,
        }
    }

    fn send(&mut self) {
        let generation = self.revision;
        self.revision += 1;
        self.control.desired.send_replace(Some(self.message(self.revision, generation)));
    }

    /// Waits until the agent has reported what `is_there` looks for.
    pub(crate) async fn report(&self, what: &str, is_there: impl Fn(&AgentReport) -> bool) -> AgentReport {
        let mut reports = self.control.reports.subscribe();
        let found = reports.wait_for(|report| report.as_ref().is_some_and(&is_there));
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(report) => report.unwrap().clone().unwrap(),
            Err(_) => panic!("not reported: {what}\n{:#?}\n{:#?}", self.control.reports.borrow(), self.kinds()),
        }
    }

    pub(crate) async fn blue(&self, what: &str, is_there: impl Fn(&SlotStatus) -> bool) -> SlotStatus {
        let report = self.report(what, |report| blue_of(report).is_some_and(&is_there)).await;
        blue_of(&report).unwrap().clone()
    }

    pub(crate) async fn ready(&self) -> AgentReport {
        let wanted = self.slots[&Slot::Blue].clone();
        let is_ready = |slot: &SlotStatus| {
            slot.phase == SlotPhase::Ready
                && slot.revision == wanted.revision
                && slot.attempt == wanted.attempt
                && slot.replicas.ready == wanted.scale.replicas
        };
        self.report("ready", |report| blue_of(report).is_some_and(is_ready)).await
    }

    pub(crate) async fn event(&self, kind: EventKind) -> AgentEvent {
        self.report(&format!("{kind:?}"), |_| self.kinds().contains(&kind)).await;
        self.control.events.lock().unwrap().iter().find(|event| event.kind == kind).unwrap().clone()
    }

    pub(crate) fn kinds(&self) -> Vec<EventKind> {
        self.control.events.lock().unwrap().iter().map(|event| event.kind).collect()
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> reqwest::Response {
        let address = self.report("any", |_| true).await.address;
        get(&address, path, token).await
    }

    /// Reads the stream of endpoints until it shows what `is_there` looks for.
    pub(crate) async fn endpoints(&self, what: &str, is_there: impl Fn(&[Endpoint]) -> bool) -> Vec<Endpoint> {
        let address = self.report("any", |_| true).await.address;
        endpoints_at(&address, what, is_there).await
    }

    pub(crate) fn records(&self) -> Vec<ReplicaRecord> {
        recorded_replicas(&self.data_dir())
    }

    /// The only replica's pid.
    pub(crate) fn pid(&self) -> u32 {
        let records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].identity.as_ref().unwrap().pid
    }

    /// Where the agent listens, as it remembers it.
    pub(crate) fn remembered_address(&self) -> String {
        format!("127.0.0.1:{}", std::fs::read_to_string(self.data_dir().join("port")).unwrap())
    }

    /// From now on these replicas answer wrongly, or with `all` any.
    pub(crate) fn spoil(&self, ids: &str) {
        std::fs::write(self.directory.path().join(SPOILED_FILE), ids).unwrap();
    }

    pub(crate) fn installed(&self, digest: &Digest) -> std::path::PathBuf {
        self.data_dir().join("artifacts/bundles").join(digest.to_hex())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((task, _)) = self.agent.take() {
            task.abort();
        }
        for record in self.records() {
            signal(&record, rustix::process::Signal::KILL);
            // Children of a server.
            let family = Family::new(REPLICA_ID_VARIABLE, &record.id);
            family.members().into_iter().for_each(|identity| signal_pid(identity.pid, rustix::process::Signal::KILL));
            let begun = std::time::Instant::now();
            while let Some(Err(_)) = group_of(&record).map(Group::remove_empty)
                && begun.elapsed() < DEADLINE
            {
                std::thread::yield_now();
            }
        }
    }
}

pub(crate) fn group_of(record: &ReplicaRecord) -> Option<&Group> {
    record.budget.as_ref()?.group.as_ref()
}

pub(crate) fn signal(record: &ReplicaRecord, signal: rustix::process::Signal) {
    signal_pid(record.identity.as_ref().map_or(0, |identity| identity.pid), signal);
}

fn signal_pid(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
}

pub(crate) fn blue_of(report: &AgentReport) -> Option<&SlotStatus> {
    report.models.iter().find(|status| status.model == model())?.slots.get(&Slot::Blue)
}

pub(crate) async fn get(address: &str, path: &str, token: Option<&str>) -> reqwest::Response {
    let request = tradewind_api::client::http_client().build().unwrap().get(format!("http://{address}{path}"));
    match token {
        Some(token) => request.bearer_auth(token).send().await.unwrap(),
        None => request.send().await.unwrap(),
    }
}

pub(crate) async fn endpoints_at(address: &str, what: &str, is_there: impl Fn(&[Endpoint]) -> bool) -> Vec<Endpoint> {
    let mut stream = ndjson::Reader::<Endpoints>::new(get(address, ENDPOINTS_PATH, Some(MESH_TOKEN)).await);
    let search = async {
        loop {
            let message = stream.next().await.unwrap();
            if is_there(&message.endpoints) {
                return message.endpoints;
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.unwrap_or_else(|_| panic!("no such endpoints: {what}"))
}

/// Waits for a condition that nothing announces.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let poll = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, poll).await.is_ok(), "never so: {what}");
}
