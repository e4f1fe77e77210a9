//! An agent whose replicas are upstreams of the benchmark. It speaks an agent's protocol with the real control plane and
//! the real gateway, so that a model's route is deployed, committed and health-checked as any other.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, bail};
use axum::{Router, routing::get};
use tokio::{net::TcpListener, runtime::Handle, sync::watch};
use tokio_stream::wrappers::WatchStream;
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::{
    Client,
    agent::{AgentReport, ENDPOINTS_PATH, Endpoint, Endpoints, HEARTBEAT, ModelStatus},
    auth::{Authority, Scope},
    ndjson,
};
use tradewind_core::{
    Generation, RegionName, Timestamp,
    assignment::{
        Assignment, Check, CheckName, CheckResult, ReplicaCount, SlotAssignment, SlotPhase, SlotStatus, Verification,
    },
};
use tradewind_testkit::{Part, Roles};

use crate::progress::say;

#[derive(Debug)]
pub(crate) struct StandIn {
    client: Client,
    region: RegionName,
    /// By model.
    upstreams: BTreeMap<String, SocketAddr>,
    endpoints: watch::Sender<Endpoints>,
    address: SocketAddr,
    started_at: Timestamp,
    _server: AbortOnDropHandle<()>,
}

impl StandIn {
    /// Takes the place of a region's agent in a world whose control plane runs. On the runtime of `servers`.
    pub(crate) fn take_place(
        roles: &Roles,
        servers: &Handle,
        region: RegionName,
        upstreams: BTreeMap<String, SocketAddr>,
    ) -> Result<AbortOnDropHandle<()>> {
        let token = token(roles, &Scope::Agent(region.clone()))?;
        let client = Client::new(&format!("http://{}", roles.address(&Part::Control)?), Some(token));
        let agent = servers.spawn(async move {
            let started = Self::start(client, region, upstreams).await?;
            started.run().await
        });
        let agent = AbortOnDropHandle::new(agent);
        Ok(AbortOnDropHandle::new(servers.spawn(async move {
            if let Ok(Err(error)) = agent.await {
                say(&format!("the agent's place is empty: {error:#}"));
            }
        })))
    }

    /// `client` has the token of the region's agents.
    async fn start(client: Client, region: RegionName, upstreams: BTreeMap<String, SocketAddr>) -> Result<Self> {
        let none = Endpoints {
            region: region.clone(),
            instance: "bench".to_owned(),
            endpoints: Vec::new(),
            resting: Vec::new(),
        };
        let endpoints = watch::Sender::new(none);
        let told = endpoints.clone();
        let stream = move || async move { ndjson::respond(WatchStream::new(told.subscribe())) };
        let router = Router::new().route(ENDPOINTS_PATH, get(stream));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("an address for the agent")?;
        let (address, started_at) = (listener.local_addr()?, Timestamp::now());
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        let server = AbortOnDropHandle::new(server);
        Ok(Self { client, region, upstreams, endpoints, address, started_at, _server: server })
    }

    /// Does at once what it is told; ends only with an error.
    async fn run(self) -> Result<()> {
        let mut assignments = self.client.watch_assignments().await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut held = Vec::new();
        loop {
            tokio::select! {
                told = assignments.next() => held = told?.assignments,
                _ = heartbeat.tick() => {}
            }
            let endpoints = self.endpoints_of(&held)?;
            self.endpoints.send_if_modified(|known| {
                let changed = *known != endpoints;
                *known = endpoints;
                changed
            });
            self.client.report_agent(&self.report(&held)).await?;
        }
    }

    fn endpoints_of(&self, held: &[Assignment]) -> Result<Endpoints> {
        let mut endpoints = Vec::new();
        for assignment in held {
            let model = &assignment.model;
            let Some(address) = self.upstreams.get(model.as_str()) else { bail!("there is no upstream for {model}") };
            endpoints.extend(assignment.slots.iter().map(|(slot, assigned)| Endpoint {
                id: format!("{model}-{slot}-{}", assigned.revision.0),
                model: model.clone(),
                slot: *slot,
                revision: assigned.revision,
                version: assigned.version,
                address: address.to_string(),
                ready: true,
                suspect: false,
                health: assigned.health,
                desired: assigned.scale.replicas,
                concurrency: assigned.scale.concurrency,
                runtime: Default::default(),
                probe: Default::default(),
            }));
        }
        Ok(Endpoints { region: self.region.clone(), instance: "bench".to_owned(), endpoints, resting: Vec::new() })
    }

    fn report(&self, held: &[Assignment]) -> AgentReport {
        let model = |held: &Assignment| ModelStatus {
            model: held.model.clone(),
            observed_generation: Generation(held.generation.0),
            slots: held.slots.iter().map(|(slot, assigned)| (*slot, ready(assigned))).collect(),
        };
        AgentReport {
            region: self.region.clone(),
            instance: "bench".to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            address: self.address.to_string(),
            models: held.iter().map(model).collect(),
            replicas: Vec::new(),
            events: Vec::new(),
            scaling: Vec::new(),
            cases: Vec::new(),
            disk: None,
        }
    }
}

fn ready(assigned: &SlotAssignment) -> SlotStatus {
    let desired = assigned.scale.replicas;
    let check = Check { name: CheckName::Smoke, result: CheckResult::Skipped, detail: "a benchmark".to_owned() };
    let verified = |attempt| Verification { attempt, checks: vec![check], finished_at: Timestamp::now() };
    SlotStatus {
        revision: assigned.revision,
        attempt: assigned.attempt,
        phase: SlotPhase::Ready,
        replicas: ReplicaCount { ready: desired, desired },
        resting: false,
        monitored: assigned.monitored,
        armed: assigned.armed,
        verification: assigned.verify.map(verified),
    }
}

/// Issued by whoever can read control's directory.
pub(crate) fn token(roles: &Roles, scope: &Scope) -> Result<String> {
    Ok(Authority::open(&roles.data_dir(&Part::Control))?.issue(scope))
}
