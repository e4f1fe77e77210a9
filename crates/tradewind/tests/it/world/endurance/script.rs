//! What goes on in the world, one thing after the other, while a deploy may still be under way.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use tradewind_process::Signal;
use tradewind_testkit::{Load, World, eventually_ok, terminate};

use super::{
    super::{SOON, digits, example, ok, ready, servers::changed_copy, status, successor},
    say,
};

/// After a process has its successor, what it cut off may still be noticed.
const AFTERMATH: Duration = Duration::from_secs(1);
/// So many requests are answered between two disturbances.
const UNDISTURBED: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Deploy(&'static str),
    End(&'static str),
    Kill(&'static str),
}

const ALL: [What; 9] = [
    What::Deploy("digits"),
    What::Deploy("tokens"),
    What::End("agent"),
    What::End("gateway"),
    What::End("control"),
    What::Kill("replica"),
    What::Kill("agent"),
    What::Kill("gateway"),
    What::Kill("control"),
];

pub(super) struct Disturbance {
    pub(super) what: What,
    /// `None` for control and deploys.
    region: Option<String>,
    began: Instant,
    ended: Instant,
}

impl Disturbance {
    pub(super) fn during(&self, (began, ended): (Instant, Instant)) -> bool {
        self.began <= ended && began <= self.ended + AFTERMATH
    }

    /// What was in flight on a gateway that was killed is lost. One that is told to end closes connections that are
    /// kept, and a request may be on its way to one at that moment.
    pub(super) fn excuses_request(&self, region: &str, at: (Instant, Instant)) -> bool {
        let gateway = matches!(self.what, What::Kill("gateway") | What::End("gateway"));
        gateway && self.region.as_deref() == Some(region) && self.during(at)
    }

    /// A stream ends with a gateway on its way, or with the replica that it comes from. One that was never answered is
    /// but a request; its user asks again.
    pub(super) fn excuses_stream(&self, region: &str, server: &str, at: (Instant, Instant)) -> bool {
        if server.is_empty() {
            return self.excuses_request(region, at);
        }
        let killed = match self.what {
            What::Kill("gateway") => [Some(region), Some(server)].contains(&self.region.as_deref()),
            What::Kill("replica") => self.region.as_deref() == Some(server),
            _ => false,
        };
        killed && self.during(at)
    }

    pub(super) fn list(all: &[Self]) -> String {
        let first = all.first().map(|first| first.began);
        let line = |each: &Self| {
            let since = |time: Instant| first.map_or(0.0, |first| (time - first).as_secs_f32());
            format!("{:6.1} to {:6.1} s: {each}", since(each.began), since(each.ended))
        };
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.what, self.region.as_deref().unwrap_or_default())
    }
}

pub(super) struct Script {
    regions: Vec<String>,
    /// xorshift64; never zero.
    random: u64,
    /// What is still to come before everything has come as often.
    left: Vec<What>,
    done: Vec<Disturbance>,
    deploys: usize,
    /// A deploy, and of what.
    under_way: Option<(Child, String)>,
    other_tokens: TempDir,
}

impl Script {
    pub(super) async fn begin(world: &World, regions: &[&str], seed: u64) -> Result<Self> {
        let all = regions.join(",");
        let tokens = digits().join("../tokens/v1");
        let line = format!("deploy --max-parallel all --replicas 2 --standby 1s --soak 0s --regions {all}");
        ok(world, &format!("{line} {}", example("v1"))).await?;
        let line = format!("deploy --max-parallel all --standby 1s --soak 0s --regions {all}");
        ok(world, &format!("{line} {}", tokens.display())).await?;
        Ok(Self {
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            left: Vec::new(),
            done: Vec::new(),
            deploys: 0,
            under_way: None,
            other_tokens: changed_copy()?,
        })
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % limit
    }

    pub(super) async fn disturb(&mut self, world: &World, load: &Load) -> Result<()> {
        if self.left.is_empty() {
            self.left = ALL.into();
        }
        let (next, place) = (self.below(self.left.len()), self.below(self.regions.len()));
        let (what, region) = (self.left.swap_remove(next), self.regions[place].clone());
        let region = match what {
            What::End("control") | What::Kill("control") | What::Deploy(_) => None,
            _ => Some(region),
        };
        let began = Instant::now();
        let disturbed = self.act(world, what, region.as_deref()).await;
        let disturbance = Disturbance { what, region, began, ended: Instant::now() };
        say(&format!("{disturbance}: {:?}", began.elapsed()));
        disturbed.with_context(|| disturbance.to_string())?;
        self.done.push(disturbance);
        let answered = load.answered();
        eventually_ok("users are answered", SOON, || async {
            ensure!(load.answered() >= answered + UNDISTURBED, "{} more", load.answered() - answered);
            Ok(())
        })
        .await
    }

    async fn act(&mut self, world: &World, what: What, region: Option<&str>) -> Result<()> {
        let killed = match what {
            What::Deploy(model) => return self.deploy(world, model).await,
            What::Kill("replica") => return self.kill_replica(world, region).await,
            What::End(role) | What::Kill(role) => role,
        };
        let listed = world.processes(killed, region)?;
        let pid = listed.first().context("nothing runs there")?.pid;
        match what {
            What::End(_) => terminate(pid)?,
            _ => drop(world.kill(killed, region)?),
        }
        successor(world, killed, region, pid).await?;
        ready(world, killed, region).await
    }

    /// Begins; the next things happen meanwhile.
    async fn deploy(&mut self, world: &World, model: &'static str) -> Result<()> {
        self.deployed(world).await?;
        self.deploys += 1;
        let odd = self.deploys % 2 == 1;
        let path = match model {
            "digits" if odd => example("v2"),
            "digits" => example("v1"),
            _ if odd => self.other_tokens.path().join("tokens").display().to_string(),
            _ => digits().join("../tokens/v1").display().to_string(),
        };
        let mut command = world.command(["deploy", "--max-parallel", "all", &path])?;
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
        self.under_way = Some((command.spawn()?, path));
        Ok(())
    }

    async fn deployed(&mut self, world: &World) -> Result<()> {
        let Some((deploy, path)) = self.under_way.take() else { return Ok(()) };
        let output = tokio::time::timeout(SOON, deploy.wait_with_output()).await.context("a deploy goes on")??;
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        if said.contains("no answer from") {
            // Control was killed with the request on it, and may have taken it up or not.
            ok(world, &format!("deploy --replace --max-parallel all {path}")).await?;
            return Ok(());
        }
        ensure!(output.status.success(), "{path} was not deployed: {said}");
        Ok(())
    }

    async fn kill_replica(&mut self, world: &World, region: Option<&str>) -> Result<()> {
        let listed = world.processes("replica", region)?;
        ensure!(!listed.is_empty(), "nothing to kill");
        let victim = &listed[self.below(listed.len())];
        let identity = tradewind_process::Identity::of(victim.pid);
        let pid = i32::try_from(victim.pid).ok().and_then(rustix::process::Pid::from_raw).context("a pid")?;
        // One that was retired at this moment is gone already.
        if identity.is_some_and(|identity| identity.is_alive()) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        all_ready(world).await
    }

    /// Waits for what is under way.
    pub(super) async fn end(mut self, world: &World) -> Result<Vec<Disturbance>> {
        self.deployed(world).await?;
        all_ready(world).await?;
        Ok(self.done)
    }
}

/// Waits until all regions have the replicas of digits that they should have.
async fn all_ready(world: &World) -> Result<()> {
    eventually_ok("every region has its replicas", SOON, || async {
        let status = status(world).await?;
        let live = status["live_slot"].as_str().context("a live slot")?;
        let replicas = status["slots"][live]["replicas"].as_object().context("replicas")?;
        let full = |count: &Value| count["ready"] == count["desired"];
        ensure!(!replicas.is_empty() && replicas.values().all(full), "{replicas:?}");
        Ok(())
    })
    .await
}
