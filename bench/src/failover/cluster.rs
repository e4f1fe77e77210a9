//! Three regions of real processes, each on a host of its own where there are network namespaces, and HAProxy beside the
//! gateways before the same replicas.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tradewind_api::{Client, auth::Scope};
use tradewind_testkit::{Host, Loss, Network, Part, Roles, Signal, eventually_ok, processes_below, signal};

use super::{
    PATIENCE, PER_SECOND, USERS,
    fault::{BEYOND, Fault, NEXT, STRUCK, View},
};
use crate::{
    agent::token,
    client::{Connection, Question},
    contender::Contender,
    repository,
    samples::Outcome,
    server::{Server, fill, find, free_address},
    users::{Asking, Users},
};

pub(super) const MODEL: &str = "examples/digits/v1";
const REQUEST: &str = "examples/digits/request.json";
const INFER: &str = "/v2/models/digits/infer";
const CONFIG: &str = "bench/failover/haproxy.cfg";
const REPLICAS: usize = 2;
/// Ten times what it takes until everybody knows everybody.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// Gateways take regions that differ by less than this for equally near.
const NOISE_US: u64 = 1000;
/// So many answers in a row prove that a route is settled.
const MANY: usize = 50;
/// On hosts that nobody else uses.
const HAPROXY_PORT: u16 = 8080;

/// What the regions stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// This machine's own loopback: nothing can be cut.
    Loopback,
    /// A network namespace each, on a switch.
    Hosts { cuttable: bool },
}

impl Ground {
    /// The best there is here, and what is left out because of it.
    pub(super) fn find() -> (Self, Option<String>) {
        let tried = Network::new().and_then(|mut network| {
            let host = network.host("probe")?;
            Ok(find("nft").and_then(|_| network.lose(&host, Loss::Both)))
        });
        let left_out = |why: &anyhow::Error| Some(format!("Networks are not cut here: {why:#}."));
        match tried {
            Ok(Ok(())) => (Self::Hosts { cuttable: true }, None),
            Ok(Err(error)) => (Self::Hosts { cuttable: false }, left_out(&error)),
            Err(error) => (Self::Loopback, left_out(&error)),
        }
    }

    pub(super) fn bears(self, fault: Fault) -> bool {
        !fault.is_of_network() || self == Self::Hosts { cuttable: true }
    }
}

/// Dropping it ends everything in it; the network goes last.
#[derive(Debug)]
pub(super) struct Cluster {
    haproxies: BTreeMap<&'static str, (Server, SocketAddr)>,
    roles: Roles,
    people: Host,
    struck: Host,
    question: Question,
    network: Option<Network>,
    _directory: TempDir,
}

impl Cluster {
    /// Everybody who will watch the fault is served by the region that it strikes.
    pub(super) async fn start(program: &Path, ground: Ground, fault: Fault) -> Result<Self> {
        let mut network = (ground != Ground::Loopback).then(Network::new).transpose()?;
        let mut host = |label: &str| network.as_mut().map_or_else(|| Ok(Host::this()), |network| network.host(label));
        let (control, people) = (host("control")?, host("people")?);
        let (struck, next, beyond) = (host("struck")?, host("next")?, host("beyond")?);
        let sites = [(STRUCK, &struck), (NEXT, &next), (BEYOND, &beyond)];
        let mut roles = Roles::new(program, &control, &sites)?;
        start(&mut roles).await?;
        let bundle = repository::root()?.join(MODEL);
        let bundle = bundle.to_str().context("the repository's path is no text")?;
        let (regions, replicas) = (format!("{STRUCK},{NEXT}"), REPLICAS.to_string());
        let deploy = ["deploy", bundle, "--name", "digits", "--regions", &regions, "--replicas", &replicas];
        roles.cli_ok(deploy.into_iter().chain(["--max-parallel", "all"])).await?;

        let mut words = Vec::new();
        for (region, host, names) in [(STRUCK, &struck, ["us-a", "us-b"]), (NEXT, &next, ["europe-a", "europe-b"])] {
            let replicas = replicas_of(&roles, region, host).await?;
            words.extend(names.into_iter().zip(replicas.iter().map(ToString::to_string)));
        }
        let question = first_answer(&people, roles.address(&Part::gateway(STRUCK))?.parse()?).await?;
        let directory = tempfile::tempdir()?;
        let mut haproxies = BTreeMap::new();
        for (region, host) in [(STRUCK, &struck), (BEYOND, &beyond)] {
            let free = if host.is_this() { free_address()?.port() } else { HAPROXY_PORT };
            let address = SocketAddr::new(host.address(), free);
            let words: Vec<_> = words.iter().cloned().chain([("listen", address.to_string())]).collect();
            let config = fill(repository::file(CONFIG)?, &words);
            let mut server = Server::on_host(host, &directory.path().join(region), "haproxy", &config, &[address])?;
            server.ready().await?;
            haproxies.insert(region, (server, address));
        }
        let cluster = Self { haproxies, roles, people, struck, question, network, _directory: directory };
        for View { contender, entry, .. } in fault.views() {
            let address = cluster.address(*contender, entry)?;
            let settled = settled(&cluster.people, address, &cluster.question).await;
            settled.with_context(|| format!("{} in {entry}", contender.name()))?;
        }
        Ok(cluster)
    }

    fn address(&self, contender: Contender, region: &str) -> Result<SocketAddr> {
        match contender {
            Contender::Haproxy => Ok(self.haproxies.get(region).context("no HAProxy is there")?.1),
            _ => Ok(self.roles.address(&Part::gateway(region))?.parse()?),
        }
    }

    pub(super) async fn users(&self, view: View) -> Result<Asking> {
        let mut entries = vec![self.address(view.contender, view.entry)?];
        if view.second_address {
            entries.push(self.address(view.contender, NEXT)?);
        }
        let question = self.question.clone();
        let users = Users { entries, question, count: USERS, per_second: PER_SECOND, patience: PATIENCE };
        self.people.run(async move { users.start() }).await
    }

    /// Breaks it, and says when.
    pub(super) fn strike(&self, fault: Fault) -> Result<Instant> {
        let of = |part: &Part| pids(&self.roles.data_dir(part));
        let (agent, gateway) = (Part::agent(STRUCK), Part::gateway(STRUCK));
        let replicas = |count| self.roles.replicas(STRUCK).into_iter().map(|process| process.pid).take(count).collect();
        let everything = || [of(&agent), of(&gateway)].concat();
        let lose = |loss| {
            let network = self.network.as_ref().context("there is no network to cut")?;
            let at = Instant::now();
            network.lose(&self.struck, loss).map(|()| at)
        };
        match fault {
            Fault::ReplicaKill => send(Signal::KILL, replicas(1)),
            Fault::ReplicaStop => send(Signal::STOP, replicas(1)),
            Fault::ReplicasStop => send(Signal::STOP, replicas(REPLICAS)),
            Fault::AgentKill => send(Signal::KILL, of(&agent)),
            Fault::GatewayKill => send(Signal::KILL, of(&gateway)),
            Fault::RegionKill => send(Signal::KILL, everything()),
            Fault::RegionStop => send(Signal::STOP, everything()),
            Fault::Cut => lose(Loss::Both),
            Fault::CutIn => lose(Loss::In),
            Fault::CutOut => lose(Loss::Out),
        }
    }
}

/// The gateway beyond keeps to the region that it knew first and that is as near as the next one can be: the network
/// makes none of them nearer than another.
async fn start(roles: &mut Roles) -> Result<()> {
    for part in [Part::Control, Part::agent(STRUCK), Part::gateway(STRUCK), Part::gateway(BEYOND)] {
        roles.start(&part).await?;
    }
    eventually_ok("the nearest region is measured", SETTLE_LIMIT, || async {
        let region = roles.cli_ok(["regions", "show", BEYOND, "-o", "json"]).await?.json()?;
        let round_trip = region["round_trips_us"][STRUCK].as_u64();
        ensure!(round_trip.is_some_and(|micros| micros < NOISE_US), "{region}");
        Ok(())
    })
    .await?;
    roles.start_all().await
}

fn pids(directory: &Path) -> Vec<u32> {
    processes_below(&directory.display().to_string()).into_iter().map(|process| process.pid).collect()
}

fn send(word: Signal, pids: Vec<u32>) -> Result<Instant> {
    ensure!(!pids.is_empty(), "there is nothing to strike");
    let at = Instant::now();
    pids.into_iter().try_for_each(|pid| signal(pid, word)).context("striking a process")?;
    Ok(at)
}

/// Where a region's replicas are, by what its agent says.
async fn replicas_of(roles: &Roles, region: &str, host: &Host) -> Result<Vec<SocketAddr>> {
    let agent = format!("http://{}", roles.address(&Part::agent(region))?);
    let client = Client::new(&agent, Some(token(roles, &Scope::Mesh)?));
    let told = host.run(async move { anyhow::Ok(client.watch_endpoints().await?.next().await?) }).await??;
    let ready = told.endpoints.iter().filter(|endpoint| endpoint.ready);
    let replicas: Vec<SocketAddr> = ready.map(|endpoint| endpoint.address.parse()).collect::<Result<_, _>>()?;
    ensure!(replicas.len() == REPLICAS, "{region} has {} replicas", replicas.len());
    Ok(replicas)
}

/// What users ask, with the answer that it has from now on.
pub(crate) async fn first_answer(people: &Host, address: SocketAddr) -> Result<Question> {
    let (path, body) = (INFER.to_owned(), Bytes::from(repository::file(REQUEST)?));
    let asking = eventually_ok("the model is served", SETTLE_LIMIT, || {
        let (path, body) = (path.clone(), body.clone());
        let asked = async move { Connection::open(address).await?.post(&path, body).await };
        async move {
            let (status, answer) = people.run(asked).await??;
            ensure!(status.is_success(), "it answers {status}: {}", String::from_utf8_lossy(&answer));
            Ok(answer)
        }
    });
    let answer = asking.await?;
    Ok(Question { path, body, answer })
}

/// Waits until an entry has everything served by the region that will be struck.
pub(super) async fn settled(people: &Host, address: SocketAddr, question: &Question) -> Result<()> {
    eventually_ok("users are in the region", SETTLE_LIMIT, || {
        let question = question.clone();
        let asked = people.run(async move {
            let mut connection = Connection::open(address).await?;
            for _ in 0..MANY {
                let outcome = connection.ask_whom(&question).await?;
                let right = matches!(&outcome, Outcome::Served(Some(by)) if by.starts_with(STRUCK));
                ensure!(right, "{outcome:?}");
            }
            Ok(())
        });
        async { asked.await? }
    })
    .await
}
