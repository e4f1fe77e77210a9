//! A world whose replicas are upstreams of a known capacity, or HAProxy before the same.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tradewind_testkit::{Host, Part, Roles, eventually_ok};

use super::upstream::{ANSWER, PLACES, SERVICE_TIME, Upstream};
use crate::{
    agent::StandIn,
    client::{Connection, Question},
    contender::Contender,
    repository,
    samples::Outcome,
    server::{Server, fill, free_address},
};

/// Of one region, in requests per second.
pub(super) const CAPACITY: f64 = PLACES as f64 / (SERVICE_TIME.as_millis() as f64 / 1e3);
/// The region that is asked, and the one that may help.
const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const MODEL: &str = "places";
/// What is deployed in its name; its files are not used.
const BUNDLE: &str = "examples/digits/v1";
const CONFIG: &str = "bench/spike/haproxy.cfg";
/// How long a request waits for a place in Tradewind's gateway, so HAProxy's may wait as long.
const QUEUE: &str = "1s";
const ROUTE_LIMIT: Duration = Duration::from_secs(60);
/// How long it is measured what the upstreams themselves can do.
const PEAK_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Setting {
    /// There is no other region
    Alone,
    /// Another region of the same capacity has nothing to do
    Spillover,
}

impl Setting {
    pub(super) const ALL: [Self; 2] = [Self::Alone, Self::Spillover];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Alone => "one region",
            Self::Spillover => "with a second region to spill to",
        }
    }

    fn regions(self) -> &'static [&'static str] {
        match self {
            Self::Alone => &REGIONS[..1],
            Self::Spillover => &REGIONS,
        }
    }
}

/// Dropping it ends everything in it.
#[derive(Debug)]
pub(super) struct Scene {
    /// Goes before the control plane that they talk to.
    _agents: Vec<AbortOnDropHandle<()>>,
    _roles: Option<Roles>,
    _haproxy: Option<Server>,
    upstreams: Vec<Upstream>,
    /// Where users ask.
    pub door: SocketAddr,
    pub question: Question,
    _directory: TempDir,
}

impl Scene {
    pub(super) async fn start(program: &Path, setting: Setting, contender: Contender) -> Result<Self> {
        let mut upstreams = Vec::new();
        for _ in setting.regions() {
            upstreams.push(Upstream::start().await?);
        }
        let path = format!("/v2/models/{MODEL}/infer");
        let question = Question { path, body: Bytes::from_static(b"{}"), answer: ANSWER.into() };
        let directory = tempfile::tempdir()?;
        let (mut agents, mut world, mut haproxy) = (Vec::new(), None, None);
        let door = if contender == Contender::Haproxy {
            let address = free_address()?;
            haproxy = Some(start_haproxy(directory.path(), address, &upstreams).await?);
            address
        } else {
            let regions = setting.regions();
            let (roles, started) = start_world(program, regions, &upstreams).await?;
            let door = roles.address(&Part::gateway(regions[0]))?.parse()?;
            (agents, world) = (started, Some(roles));
            door
        };
        let (_agents, _roles, _haproxy, _directory) = (agents, world, haproxy, directory);
        let scene = Self { _agents, _roles, _haproxy, upstreams, door, question, _directory };
        eventually_ok("the model is served", ROUTE_LIMIT, || async {
            let outcome = Connection::open(door).await?.ask_whom(&scene.question).await?;
            ensure!(matches!(outcome, Outcome::Served(_)), "{outcome:?}");
            Ok(())
        })
        .await?;
        Ok(scene)
    }

    /// What the upstreams can do in a second when nobody leaves a place empty: twice as many ask as there are places.
    pub(super) async fn peak(&self) -> Result<f64> {
        let mut asking = JoinSet::new();
        let began = Instant::now();
        for upstream in &self.upstreams {
            for _ in 0..2 * PLACES {
                let (address, question) = (upstream.address, self.question.clone());
                asking.spawn(async move {
                    let mut connection = Connection::open(address).await?;
                    let mut count = 0_u32;
                    while began.elapsed() < PEAK_TIME {
                        connection.ask(&question).await?;
                        count += 1;
                    }
                    anyhow::Ok(count)
                });
            }
        }
        let mut count = 0.0;
        while let Some(asked) = asking.join_next().await {
            count += f64::from(asked??);
        }
        Ok(count / began.elapsed().as_secs_f64())
    }
}

async fn start_world(
    program: &Path,
    regions: &[&'static str],
    upstreams: &[Upstream],
) -> Result<(Roles, Vec<AbortOnDropHandle<()>>)> {
    let host = Host::this();
    let sites: Vec<_> = regions.iter().map(|region| (*region, &host)).collect();
    let mut roles = Roles::new(program, &host, &sites)?;
    roles.start(&Part::Control).await?;
    let mut agents = Vec::new();
    for (region, upstream) in regions.iter().zip(upstreams) {
        let upstreams = BTreeMap::from([(MODEL.to_owned(), upstream.address)]);
        agents.push(StandIn::take_place(&roles, &Handle::current(), region.parse()?, upstreams)?);
        roles.start(&Part::gateway(region)).await?;
    }
    let bundle = repository::root()?.join(BUNDLE);
    let bundle = bundle.to_str().context("the repository's path is no text")?;
    let (regions, places) = (regions.join(","), PLACES.to_string());
    let deploy = ["deploy", bundle, "--name", MODEL, "--regions", &regions, "--concurrency", &places];
    roles.cli_ok(deploy).await?;
    Ok((roles, agents))
}

async fn start_haproxy(directory: &Path, address: SocketAddr, upstreams: &[Upstream]) -> Result<Server> {
    let spillover =
        upstreams.get(1).map(|upstream| format!("server {} {} maxconn {PLACES}", REGIONS[1], upstream.address));
    let words = [
        ("listen", address.to_string()),
        ("queue", QUEUE.to_owned()),
        ("places", PLACES.to_string()),
        ("us", upstreams.first().context("there is no upstream")?.address.to_string()),
        ("spillover", spillover.unwrap_or_default()),
    ];
    let config = fill(repository::file(CONFIG)?, &words);
    let mut haproxy = Server::configured(&directory.join("haproxy"), "haproxy", &config, &[address])?;
    haproxy.ready().await?;
    Ok(haproxy)
}
