//! Two regions of real processes under a steady load, all monitors as they are without options but for a latency objective.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tradewind_api::monitoring::{AlertQuery, AlertView};
use tradewind_testkit::{Ailment, Disk, Faulty, Host, Part, Roles, Signal, eventually_ok, signal};

use super::fault::Fault;
use crate::{
    client::Question,
    users::{Asking, Users},
};

pub(super) const STRUCK: &str = "us-east1";
pub(super) const OTHER: &str = "europe-west1";
/// Of the users of one region. With two replicas of four requests each, answers of 0.4 s fill it.
pub(super) const PER_SECOND: u32 = 19;
const DEPLOYMENT: &str = r#"
regions = ["us-east1", "europe-west1"]
[strategy]
max_parallel = "all"
soak = "0s"
[scale]
replicas = 2
concurrency = 4
[monitors]
latency = { within = "350ms", share = 0.99 }
"#;
const PATIENCE: Duration = Duration::from_secs(5);
/// Ten times what it takes.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// Fields are dropped in this order: users, processes, what they stand on.
#[derive(Debug)]
pub(super) struct Scene {
    _users: Vec<Asking>,
    pub(super) roles: Roles,
    faulty: Faulty,
    disk: Option<Disk>,
}

impl Scene {
    pub(super) async fn start(program: &Path, has_small_disk: bool) -> Result<Self> {
        let host = Host::this();
        let mut roles = Roles::new(program, &host, &[(STRUCK, &host), (OTHER, &host)])?;
        let agent = roles.data_dir(&Part::agent(STRUCK));
        let disk = has_small_disk.then(|| Disk::mount(&agent)).transpose()?;
        let faulty = Faulty::new()?;
        roles.start_all().await?;
        let deployment = faulty.deployment(DEPLOYMENT)?;
        roles.cli_ok(["deploy".as_ref(), "-f".as_ref(), deployment.as_os_str()]).await?;
        let mut users = Vec::new();
        for region in [STRUCK, OTHER] {
            users.push(start_users(roles.address(&Part::gateway(region))?.parse()?));
        }
        let scene = Self { _users: users, roles, faulty, disk };
        scene.is_watched().await?;
        Ok(scene)
    }

    /// Waits until golden cases have been asked of every region and the monitors find all well.
    async fn is_watched(&self) -> Result<()> {
        eventually_ok("all is well", SETTLE_LIMIT, || async {
            let list = self.roles.cli_ok(["monitors", "-o", "json"]).await?.json()?;
            let monitors = list["monitors"].as_array().context("monitors")?;
            ensure!(monitors.len() == 2 && monitors.iter().all(|each| each["verdict"] == "healthy"), "{list}");
            Ok(())
        })
        .await
    }

    /// All that have fired so far.
    pub(super) async fn alerts(&self) -> Result<Vec<AlertView>> {
        Ok(self.roles.client()?.alerts(&AlertQuery { all: true, limit: None }).await?.alerts)
    }

    /// Breaks it, and says when it was broken.
    pub(super) async fn strike(&mut self, fault: Fault) -> Result<Instant> {
        let falls = |ailment| self.faulty.falls(ailment);
        match fault {
            Fault::Agent => self.roles.kill(&Part::agent(STRUCK)).await?,
            Fault::Gateway => self.roles.kill(&Part::gateway(STRUCK)).await?,
            Fault::Replicas | Fault::Replica => {
                falls(Ailment::Dead)?;
                let replicas = self.roles.replicas(STRUCK);
                ensure!(replicas.len() == 2, "{STRUCK} has {} replicas", replicas.len());
                for replica in replicas.iter().take(if fault == Fault::Replica { 1 } else { 2 }) {
                    signal(replica.pid, Signal::KILL)?;
                }
            }
            Fault::Wrong => falls(Ailment::Wrong)?,
            Fault::Fails => falls(Ailment::Fails)?,
            Fault::Slow => falls(Ailment::Slow)?,
            Fault::Busy => falls(Ailment::Busy)?,
            Fault::Disk => self.disk.as_ref().context("there is no disk to fill")?.fill()?,
            Fault::Version => {
                self.roles.kill(&Part::agent(STRUCK)).await?;
                let deploy = ["deploy", Faulty::MODEL, "--replicas", "3", "--min-regions", "1", "--retries", "0"];
                self.roles.cli_ok(deploy.into_iter().chain(["--progress-deadline", "20s"])).await?;
            }
        }
        Ok(Instant::now())
    }
}

fn start_users(entry: SocketAddr) -> Asking {
    let question = Question {
        path: Faulty::PATH.to_owned(),
        body: Bytes::from_static(b"{}"),
        answer: Bytes::from_static(Faulty::RIGHT.as_bytes()),
    };
    Users { entries: vec![entry], question, count: 4, per_second: PER_SECOND, patience: PATIENCE }.start()
}
