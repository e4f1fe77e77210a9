//! A real world of one region with its gateway on the proxies' core: the control plane, and an agent with a real replica,
//! or the benchmark in the agent's place.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::{Client, auth::Scope};
use tradewind_testkit::{Host, Part, Roles, processes_below};

use crate::{
    agent::{StandIn, token},
    cores::Cores,
};

pub(super) const REGION: &str = "us-east1";
pub(super) const DIGITS: &str = "digits";
const MODEL: &str = "examples/digits/v1";

/// What a world is made of.
#[derive(Debug, Clone)]
pub(super) struct Kit {
    /// The `tradewind` binary.
    pub program: PathBuf,
    /// Of the repository.
    pub root: PathBuf,
    /// Where servers of the benchmark run.
    pub servers: Handle,
}

/// Dropping it kills everything in it.
#[derive(Debug)]
pub(super) struct Tradewind {
    /// Goes before the control plane that it talks to.
    _agent: Option<AbortOnDropHandle<()>>,
    roles: Roles,
    pub gateway: SocketAddr,
}

impl Tradewind {
    /// With the model `digits`, served by a real replica whose address is returned.
    pub(super) async fn with_replica(kit: &Kit, cores: &Cores) -> Result<(Self, SocketAddr)> {
        let mut roles = Roles::new(&kit.program, &Host::this(), &[(REGION, &Host::this())])?;
        roles.start(&Part::Control).await?;
        roles.start(&Part::agent(REGION)).await?;
        let mut world = Self { gateway: address(&roles)?, roles, _agent: None };
        world.start_gateway(cores).await?;
        world.deploy(&kit.root, DIGITS).await?;
        let replica = world.replica().await?;
        Ok((world, replica))
    }

    /// With models that the benchmark serves itself.
    pub(super) async fn with_upstreams(
        kit: &Kit,
        cores: &Cores,
        upstreams: BTreeMap<String, SocketAddr>,
    ) -> Result<Self> {
        let mut roles = Roles::new(&kit.program, &Host::this(), &[(REGION, &Host::this())])?;
        roles.start(&Part::Control).await?;
        let models: Vec<String> = upstreams.keys().cloned().collect();
        let agent = StandIn::take_place(&roles, &kit.servers, REGION.parse()?, upstreams)?;
        let mut world = Self { gateway: address(&roles)?, roles, _agent: Some(agent) };
        world.start_gateway(cores).await?;
        for model in &models {
            world.deploy(&kit.root, model).await?;
        }
        Ok(world)
    }

    /// A new gateway in the place of the old one, ready to serve what is deployed.
    pub(super) async fn start_gateway_again(&mut self, cores: &Cores) -> Result<()> {
        self.roles.kill(&Part::gateway(REGION)).await?;
        self.start_gateway(cores).await
    }

    async fn start_gateway(&mut self, cores: &Cores) -> Result<()> {
        let part = Part::gateway(REGION);
        let visit = cores.visit()?;
        self.roles.spawn(&part, &[]).await?;
        drop(visit);
        ensure!(self.roles.ready(&part).await?, "the gateway ended at once: {}", self.roles.log_tail(&part));
        Ok(())
    }

    async fn deploy(&self, root: &Path, model: &str) -> Result<()> {
        let bundle = root.join(MODEL);
        let bundle = bundle.to_str().context("the repository's path is no text")?;
        self.roles.cli_ok(["deploy", bundle, "--name", model, "--regions", REGION]).await.map(drop)
    }

    async fn replica(&self) -> Result<SocketAddr> {
        let agent = format!("http://{}", self.roles.address(&Part::agent(REGION))?);
        let mut stream = Client::new(&agent, Some(token(&self.roles, &Scope::Mesh)?)).watch_endpoints().await?;
        let endpoints = stream.next().await?.endpoints;
        let replica = endpoints.iter().find(|endpoint| endpoint.ready).context("no replica is ready")?;
        replica.address.parse().context("a replica's address")
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let directory = self.roles.data_dir(&Part::gateway(REGION));
        processes_below(&directory.display().to_string()).into_iter().map(|process| process.pid).collect()
    }
}

fn address(roles: &Roles) -> Result<SocketAddr> {
    roles.address(&Part::gateway(REGION))?.parse().context("a gateway's address")
}
