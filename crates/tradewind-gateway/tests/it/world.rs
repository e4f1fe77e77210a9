//! A small world: one control, an agent and a gateway per region, and replicas that can be killed.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt, stream::select};
use tokio::{
    runtime::Runtime,
    sync::{broadcast, watch},
};
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    agent::{DEMAND_PATH, DemandReport, Endpoint, Endpoints, ModelDemand, RestingSlot},
    gateway::{
        GatewayReport, GatewaySnapshot, RegionMembers,
        config::{ConfigMessage, Edition, diff},
    },
    ndjson,
};
use tradewind_core::{
    Digest, Epoch, ModelName, RegionName, RevisionNumber, Slot, VersionNumber, catalogue,
    deployment::HealthPolicy,
    duration::Span,
    route::{Route, RouteState},
};
use tradewind_gateway::{GatewayOptions, Listen};

use crate::{
    process::{Process, listener, runtime},
    replica::Replica,
};

pub(crate) const MESH: &str = "mesh-token";
pub(crate) const MODEL: &str = "digits";
pub(crate) const US: &str = "us-east1";
pub(crate) const EU: &str = "europe-west1";
pub(crate) const ASIA: &str = "asia-northeast1";
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

pub(crate) fn model() -> ModelName {
    MODEL.parse().unwrap()
}

/// Quick, so that tests are.
pub(crate) fn policy() -> HealthPolicy {
    HealthPolicy {
        interval: Span::from_millis(100),
        timeout: Span::from_millis(2000),
        unhealthy_after: 2,
        healthy_after: 1,
    }
}

/// A fake agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) process: Process,
    endpoints: watch::Sender<Endpoints>,
    /// What it was told last.
    demand: watch::Sender<Option<ModelDemand>>,
}

impl Agent {
    fn start(name: &str, replicas: &[&Replica]) -> Self {
        let endpoints = watch::Sender::new(endpoints(name, replicas));
        let demand = watch::Sender::default();
        let told = demand.clone();
        let take = move |Json(report): Json<DemandReport>| async move {
            report.check().unwrap();
            told.send_replace(report.models.into_iter().next());
        };
        let router = Router::new().route("/v1/endpoints", get(stream_endpoints)).with_state(endpoints.clone());
        let router = router.route(DEMAND_PATH, post(take));
        Self { process: Process::start(listener(), router), endpoints, demand }
    }

    pub(crate) fn tell(&self, replicas: &[&Replica]) {
        self.tell_of(replicas.iter().map(|replica| replica.endpoint()).collect());
    }

    pub(crate) fn tell_of(&self, endpoints: Vec<Endpoint>) {
        self.endpoints.send_modify(|known| (known.endpoints, known.resting) = (endpoints, Vec::new()));
    }

    /// The model was scaled to zero here.
    pub(crate) fn rest(&self) {
        let resting = RestingSlot { model: model(), slot: Slot::Blue, revision: RevisionNumber(1) };
        self.endpoints.send_modify(|known| (known.endpoints, known.resting) = (Vec::new(), vec![resting]));
    }

    /// Waits until a gateway has told of as much demand.
    pub(crate) async fn asked(&self, wanted: impl Fn(Option<&ModelDemand>) -> bool) {
        let mut told = self.demand.subscribe();
        let found = told.wait_for(|told| wanted(told.as_ref()));
        tokio::time::timeout(DEADLINE, found).await.expect("it is told of").unwrap();
    }

    /// Whether any gateway listens to it.
    pub(crate) fn is_followed(&self) -> bool {
        self.endpoints.receiver_count() > 0
    }
}

fn endpoints(name: &str, replicas: &[&Replica]) -> Endpoints {
    Endpoints {
        region: region(name),
        instance: "test".to_owned(),
        endpoints: replicas.iter().map(|replica| replica.endpoint()).collect(),
        resting: Vec::new(),
    }
}

async fn stream_endpoints(State(endpoints): State<watch::Sender<Endpoints>>, headers: HeaderMap) -> Response {
    let authorised = headers.get("authorization").is_some_and(|value| value == format!("Bearer {MESH}").as_str());
    if !authorised {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    ndjson::respond(WatchStream::new(endpoints.subscribe()))
}

/// A fake control.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) process: Process,
    pub(crate) snapshot: watch::Sender<GatewaySnapshot>,
    pub(crate) reports: watch::Sender<BTreeMap<String, GatewayReport>>,
    /// Sent on all streams as it is, whatever was sent before.
    pub(crate) raw: broadcast::Sender<ConfigMessage>,
    /// Streams that were opened, each of which began with a snapshot.
    pub(crate) streams: Arc<AtomicU64>,
    /// What it gives as tables of pinned users, by their digests.
    pub(crate) tables: watch::Sender<BTreeMap<Digest, Vec<u8>>>,
}

impl Control {
    pub(crate) fn start(snapshot: GatewaySnapshot) -> Self {
        let snapshot = watch::Sender::new(snapshot);
        let reports = watch::Sender::default();
        let (told, heard) = (snapshot.clone(), reports.clone());
        let raw = broadcast::Sender::new(16);
        let streams = Arc::new(AtomicU64::new(0));
        let (odd, opened) = (raw.clone(), Arc::clone(&streams));
        let stream = move || {
            opened.fetch_add(1, Ordering::SeqCst);
            let odd = BroadcastStream::new(odd.subscribe()).map(Result::unwrap);
            let messages = select(stream_of(&told), odd);
            async move { ndjson::respond(messages) }
        };
        let report = move |Json(report): Json<GatewayReport>| {
            let heard: watch::Sender<BTreeMap<String, GatewayReport>> = heard.clone();
            async move {
                heard.send_modify(|known| drop(known.insert(report.region.to_string(), report)));
                StatusCode::OK
            }
        };
        let tables = watch::Sender::<BTreeMap<Digest, Vec<u8>>>::default();
        let given = tables.subscribe();
        let table = move |Path(digest): Path<Digest>| {
            let table = given.borrow().get(&digest).cloned();
            async move { table.ok_or(StatusCode::NOT_FOUND) }
        };
        let router = Router::new()
            .route("/v1/gateway/snapshot", get(stream))
            .route("/v1/gateway/report", post(report))
            .route("/v1/gateway/pins/{digest}", get(table));
        Self { process: Process::start(listener(), router), snapshot, reports, raw, streams, tables }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.process.address)
    }

    /// Changes the snapshot, with a higher revision.
    pub(crate) fn change(&self, change: impl FnOnce(&mut GatewaySnapshot)) {
        self.snapshot.send_modify(|snapshot| {
            snapshot.revision += 1;
            change(snapshot);
        });
    }

    /// Waits until a gateway has reported what is wanted.
    pub(crate) async fn reported(&self, name: &str, wanted: impl Fn(&GatewayReport) -> bool) -> GatewayReport {
        let mut reports = self.reports.subscribe();
        let found = reports.wait_for(|reports| reports.get(name).is_some_and(&wanted));
        let reports = tokio::time::timeout(DEADLINE, found).await;
        match reports {
            Ok(reports) => reports.unwrap()[name].clone(),
            Err(_) => panic!("{name} did not report it, but {:#?}", self.reports.borrow().get(name)),
        }
    }

    pub(crate) async fn committed(&self, name: &str, epoch: u64) {
        self.reported(name, |report| report.committed.get(&model()).is_some_and(|c| c.epoch == Epoch(epoch))).await;
    }
}

/// A snapshot, then what changes.
fn stream_of(sender: &watch::Sender<GatewaySnapshot>) -> impl Stream<Item = ConfigMessage> + Send + Unpin + use<> {
    let mut sent: Option<Edition> = None;
    WatchStream::new(sender.subscribe()).map(move |snapshot| {
        let next = Edition::new(snapshot);
        let delta = sent.as_ref().and_then(|sent| diff(sent, &next));
        sent = Some(next.clone());
        delta.map_or(ConfigMessage::Snapshot(next), ConfigMessage::Delta)
    })
}

/// A gateway in a runtime of its own.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
    running: Option<tokio::task::JoinHandle<Result<(), tradewind_gateway::Error>>>,
}

impl Gateway {
    pub(crate) fn start(name: &str, listener: TcpListener, control_url: String, data_dir: PathBuf) -> Self {
        Self::with(name, listener, control_url, data_dir, |_| {})
    }

    pub(crate) fn with(
        name: &str,
        listener: TcpListener,
        control_url: String,
        data_dir: PathBuf,
        more: impl FnOnce(&mut GatewayOptions),
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut options = GatewayOptions {
            region: region(name),
            control_url,
            token: "gateway-token".to_owned(),
            data_dir,
            listen: Listen::Inherited(listener),
            advertise: None,
            trust_client_region: true,
            user_key: None,
            epoch_cookie: false,
            workers: None,
            links: BTreeMap::new(),
            tls: None,
            access_log: None,
        };
        more(&mut options);
        let runtime = runtime();
        let running = runtime.spawn(tradewind_gateway::run(options, shutdown.clone()));
        Self { address, shutdown, runtime: Some(runtime), running: Some(running) }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
        self.kill();
    }

    /// How it ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), tradewind_gateway::Error> {
        let running = self.running.take().expect("ends once");
        tokio::time::timeout(DEADLINE, running).await.expect("ends in time").unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The whole world: regions with their agents and gateways.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) control: Control,
    pub(crate) agents: BTreeMap<&'static str, Agent>,
    pub(crate) gateways: BTreeMap<&'static str, Gateway>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
}

impl World {
    /// Starts a world whose model is routed to the regions that have replicas, and waits until it serves.
    pub(crate) async fn start(regions: &[(&'static str, &[&Replica])]) -> Self {
        let agents: BTreeMap<_, _> =
            regions.iter().map(|(name, replicas)| (*name, Agent::start(name, replicas))).collect();
        let listeners: BTreeMap<_, _> = regions.iter().map(|(name, _)| (*name, listener())).collect();
        let members = regions.iter().map(|(name, _)| RegionMembers {
            name: region(name),
            location: catalogue::location(name),
            drained: false,
            gateways: Vec::new(),
            agents: vec![agents[name].process.address.to_string()],
            drill: None,
        });
        let mut members: Vec<RegionMembers> = members.collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        let routed = regions.iter().filter(|(_, replicas)| !replicas.is_empty()).map(|(name, _)| region(name));
        let route = Route {
            model: model(),
            committed: Some(state(1, Slot::Blue, routed.collect())),
            prepared: None,
            pins: Default::default(),
        };
        let control = Control::start(GatewaySnapshot {
            incarnation: "first".to_owned(),
            revision: 10,
            deployed: 1,
            mesh_token: MESH.to_owned(),
            regions: members,
            routes: vec![route],
            health: policy(),
        });
        let directory = tempfile::tempdir().unwrap();
        let gateways: BTreeMap<_, _> = listeners
            .into_iter()
            .map(|(name, listener)| (name, Gateway::start(name, listener, control.url(), directory.path().join(name))))
            .collect();
        let http = tradewind_api::client::http_client().build().unwrap();
        let world = Self { control, agents, gateways, directory, http };
        // They hear of each other when each knows its own replicas, so that their first answers to each other say it.
        for (name, _) in regions.iter().filter(|(_, replicas)| !replicas.is_empty()) {
            let home = Some(region(name));
            world.control.reported(name, |report| report.users_go_to.get(&model()) == Some(&home)).await;
        }
        world.control.change(|snapshot| {
            for members in &mut snapshot.regions {
                members.gateways = vec![world.gateways[members.name.as_str()].address.to_string()];
            }
        });
        for (name, _) in regions {
            world.ready(name).await;
        }
        world
    }

    /// Waits until a gateway says that it is ready, and reaches all its peers in times that do not change any more.
    pub(crate) async fn ready(&self, name: &str) {
        let others = self.gateways.len() - 1;
        let before = RefCell::new(None);
        self.control
            .reported(name, |report| {
                let healthy = report.peers.iter().filter(|peer| peer.healthy);
                let times: Vec<u64> = healthy.filter_map(|peer| peer.round_trip_us).collect();
                let reached = times.len() >= others;
                before.replace(Some(times.clone())) == Some(times) && reached
            })
            .await;
        until(async || self.get(name, "/readyz").await.status() == 200).await;
    }

    pub(crate) async fn get(&self, name: &str, path: &str) -> reqwest::Response {
        self.http.get(self.gateways[name].url(path)).send().await.unwrap()
    }

    pub(crate) fn infer(&self, name: &str) -> reqwest::RequestBuilder {
        self.http.post(self.gateways[name].url("/v2/models/digits/infer")).body("{}")
    }

    /// One series of a gateway's metrics, or, without labels, the sum of all of that name.
    pub(crate) async fn metric(&self, name: &str, series: &str) -> u64 {
        let text = self.get(name, "/metrics").await.text().await.unwrap();
        let matches = |line: &&str| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        text.lines().filter(matches).map(value).sum()
    }

    /// The region that answered; panics unless it was a success.
    pub(crate) async fn served_by(&self, name: &str) -> String {
        let response = self.infer(name).send().await.unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        header(&response, "x-tradewind-region")
    }
}

pub(crate) fn state(epoch: u64, live: Slot, regions: Vec<RegionName>) -> RouteState {
    RouteState {
        epoch: Epoch(epoch),
        live,
        revision: RevisionNumber(epoch),
        version: VersionNumber(epoch),
        regions,
        health: policy(),
        region_health: Default::default(),
        stay_in: Default::default(),
        candidate: None,
    }
}

pub(crate) fn header(response: &reqwest::Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Waits for a condition, looking again and again up to a deadline.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
