//! A world of three regions with two revisions of a model, both warm, and users who ask at each gateway.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::{
    Client,
    deploy::{PinRequest, SwitchRequest, UnpinRequest},
    gateway::EPOCH_HEADER,
};
use tradewind_core::{
    Digest, Epoch, ModelName, Slot,
    pins::table::{KeyHash, Table},
};
use tradewind_testkit::{Options, World, eventually_ok};

use super::{stored_bytes, user};
use crate::memory::resident_bytes;
use crate::{client::Connection, repository};

const VERSIONS: [&str; 2] = ["examples/digits/v1", "examples/digits/v2"];
const REQUEST: &str = "examples/digits/request.json";
const INFER: &str = "/v2/models/digits/infer";
/// Between two answers to a user: the machine has other things to do.
const PAUSE: Duration = Duration::from_millis(1);
const LOOK_UPS: usize = 200_000;
/// Keys in no order.
const LARGE_PRIME: usize = 15_485_863;
/// Between two switches.
const REST: Duration = Duration::from_millis(300);
/// Ten times what it takes on an idle machine.
const LIMIT: Duration = Duration::from_secs(120);

/// One switch, from the request on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Until control answered: it is written down.
    pub(super) committed: Duration,
    /// Until control knew that every gateway had taken it up.
    pub(super) acknowledged: Duration,
    /// Until a user had the first answer of the new revision, at the last of the gateways.
    pub(super) seen: Duration,
}

/// What it took to pin users, once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinned {
    /// From the upload of their table until every gateway had it.
    pub(super) known: Duration,
    /// To find out whether a key is in the table.
    pub(super) look_up: Duration,
}

/// Where the users are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) control_stored: u64,
    pub(super) gateway_stored: u64,
    pub(super) control_resident: u64,
    pub(super) gateway_resident: u64,
}

#[derive(Debug)]
pub(super) struct Scene {
    watchers: Vec<Watcher>,
    client: Client,
    model: ModelName,
    /// The digest of the table of users who are pinned.
    table: String,
    world: World,
}

impl Scene {
    pub(super) async fn start(program: &Path) -> Result<Self> {
        let world = World::start(Options::new(program)).await?;
        let regions: Vec<&str> = world.options.regions.iter().map(AsRef::as_ref).collect();
        let regions = regions.join(",");
        for version in VERSIONS {
            let path = repository::root()?.join(version).display().to_string();
            let line =
                ["deploy", "--regions", &regions, "--max-parallel", "all", "--soak", "1h", "--standby", "1h", &path];
            let output = world.cli(line).await?;
            ensure!(output.code == Some(0), "the deploy of {version} failed: {}", output.stderr);
        }
        let mut watchers = Vec::new();
        for (_, gateway) in world.gateways()? {
            let address = gateway.strip_prefix("http://").context("a gateway's address")?.parse()?;
            watchers.push(Watcher::start(address).await?);
        }
        Ok(Self { watchers, client: world.client()?, model: "digits".parse()?, table: String::new(), world })
    }

    /// Pins so many users to what is live.
    pub(super) async fn pin(&mut self, users: usize) -> Result<Pinned> {
        let table = tokio::task::spawn_blocking(move || {
            Table::of((0..users).map(|number| KeyHash::of(user(number).as_bytes())).collect())
        })
        .await??;
        let look_up = look_up(&table, users);
        let digest = Digest::from_bytes(*blake3::hash(table.bytes()).as_bytes());
        self.table = digest.to_hex();
        let began = Instant::now();
        self.client.put_pin_table(&digest, table.bytes().to_vec()).await?;
        let request = PinRequest {
            users: Vec::new(),
            table: Some(digest),
            to: "live".parse()?,
            lasts: None,
            requested_by: String::new(),
        };
        self.client.pin(&self.model, &request).await?;
        self.known().await?;
        Ok(Pinned { known: began.elapsed(), look_up })
    }

    pub(super) async fn unpin(&self) -> Result<()> {
        self.client.unpin(&self.model, &UnpinRequest { all: true, ..UnpinRequest::default() }).await?;
        self.known().await
    }

    /// Waits until every gateway has taken up the pins that there are.
    async fn known(&self) -> Result<()> {
        eventually_ok("every gateway knows", LIMIT, || async {
            let pins = self.client.pins(&self.model).await?;
            ensure!(pins.acknowledged >= pins.gateways, "{} of {}", pins.acknowledged, pins.gateways);
            Ok(())
        })
        .await
    }

    /// Moves all users to the slot that they are not in.
    pub(super) async fn switch(&mut self) -> Result<Taken> {
        sleep(REST).await;
        let status = self.client.deployment_status(&self.model).await?;
        let to = if status.live_slot == Some(Slot::Blue) { Slot::Green } else { Slot::Blue };
        let request = SwitchRequest { to, requested_by: String::new() };
        let began = Instant::now();
        let answer = self.client.switch(&self.model, &request).await?;
        let committed = began.elapsed();
        let (rollout, epoch) = answer.rollout.zip(answer.epoch).context("nothing was switched")?;
        ensure!(answer.warm, "the other slot is not warm any more");
        let mut views = self.client.watch_rollout(&self.model, &rollout.to_string()).await?;
        while views.next().await?.routing.is_none_or(|routing| routing.acknowledged < routing.gateways) {}
        let acknowledged = began.elapsed();
        let mut seen = Duration::ZERO;
        for watcher in &mut self.watchers {
            seen = seen.max(watcher.seen(epoch).await?.saturating_duration_since(began));
        }
        Ok(Taken { committed, acknowledged, seen })
    }

    /// Of the gateways, the one that takes most.
    pub(super) fn space(&self) -> Result<Space> {
        let resident = |role| {
            let processes = self.world.processes(role, None)?;
            let all: Vec<u64> = processes.iter().map(|process| resident_bytes(process.pid)).collect::<Result<_>>()?;
            anyhow::Ok(all.into_iter().max().unwrap_or_default())
        };
        let control_stored = stored_bytes(&self.world.data_dir.join("control"), &self.table)?;
        let all = stored_bytes(&self.world.data_dir, &self.table)?;
        Ok(Space {
            control_stored,
            gateway_stored: (all - control_stored) / self.watchers.len() as u64,
            control_resident: resident("control")?,
            gateway_resident: resident("gateway")?,
        })
    }
}

/// The mean of looking up keys from all over the table, and as many that are not in it.
fn look_up(table: &Table, users: usize) -> Duration {
    let keys: Vec<String> = (0..LOOK_UPS).map(|number| user(number * LARGE_PRIME % (2 * users))).collect();
    let began = Instant::now();
    let found = keys.iter().filter(|key| table.contains(KeyHash::of(key.as_bytes()))).count();
    let took = began.elapsed();
    assert!(found > 0, "half of the keys are in the table");
    took / u32::try_from(keys.len()).expect("it is a constant")
}

/// A user who asks at one gateway, and remembers the newest epoch and when it came.
#[derive(Debug)]
struct Watcher {
    newest: watch::Receiver<(Epoch, Instant)>,
    asking: AbortOnDropHandle<Result<()>>,
}

impl Watcher {
    async fn start(address: SocketAddr) -> Result<Self> {
        let body = Bytes::from(repository::file(REQUEST)?);
        let mut connection = Connection::open(address).await?;
        let (tell, newest) = watch::channel((Epoch::default(), Instant::now()));
        let asking = tokio::spawn(async move {
            loop {
                let (status, headers) = connection.post_as(&user(0), INFER, body.clone()).await?;
                ensure!(status.is_success(), "a user was answered with {status}");
                let epoch = headers.get(EPOCH_HEADER).context("an answer has no epoch")?.to_str()?.parse()?;
                let now = Instant::now();
                tell.send_if_modified(|newest| {
                    let is_new = newest.0 < epoch;
                    if is_new {
                        *newest = (epoch, now);
                    }
                    is_new
                });
                sleep(PAUSE).await;
            }
        });
        Ok(Self { newest, asking: AbortOnDropHandle::new(asking) })
    }

    /// When the first answer of that epoch came.
    async fn seen(&mut self, epoch: Epoch) -> Result<Instant> {
        match self.newest.wait_for(|newest| newest.0 >= epoch).await {
            Ok(newest) => Ok(newest.1),
            Err(_) => {
                (&mut self.asking).await??;
                anyhow::bail!("a user does not ask any more")
            }
        }
    }
}
