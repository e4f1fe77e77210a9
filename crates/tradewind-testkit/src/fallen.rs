//! A machine that falls and comes back: processes that are killed, and started again by somebody else than `up`.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};
use tradewind_process::{Identity, Signal};

use crate::{
    wait::eventually,
    world::{World, processes_below, signal},
};

/// A process that was sent SIGKILL is gone within this time.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// What was killed, and when.
#[derive(Debug, Clone)]
pub struct Felled {
    pub at: Instant,
    /// How many processes, replicas included.
    pub processes: usize,
    /// What its agent does not start again by itself.
    pub fallen: Vec<Fallen>,
}

/// An agent or a gateway that was killed, with what it takes to start it again.
#[derive(Debug, Clone)]
pub struct Fallen {
    pub role: String,
    command: Vec<OsString>,
    log: PathBuf,
}

impl World {
    /// SIGKILL to everything that works for a region in these roles (`agent`, which includes its replicas, or
    /// `gateway`), whoever started it. A world with `--restart never` leaves them dead.
    pub async fn fell(&self, region: &str, roles: &[&str]) -> Result<Felled> {
        let mut victims = Vec::new();
        for role in roles {
            let directory = self.data_dir.join(format!("{role}s")).join(region);
            victims.extend(processes_below(&format!("{}/", directory.display())));
        }
        ensure!(!victims.is_empty(), "nothing works for {region} as {roles:?}");
        let mut fallen = Vec::new();
        for victim in &victims {
            fallen.extend(self.command_of(victim, region)?);
        }
        let at = Instant::now();
        for victim in &victims {
            signal(victim.pid, Signal::KILL)?;
        }
        eventually("the killed processes are gone", DEATH_LIMIT, || async {
            (!victims.iter().any(Identity::is_alive)).then_some(())
        })
        .await?;
        Ok(Felled { at, processes: victims.len(), fallen })
    }

    /// SIGKILL to the one process of a role, which its replicas survive.
    pub async fn fell_alone(&self, region: &str, role: &str) -> Result<Fallen> {
        let listed = self.processes(role, Some(region))?;
        let victim = listed.first().and_then(|process| Identity::of(process.pid)).context("nothing to kill")?;
        let fallen = self.command_of(&victim, region)?.context("only agents and gateways are started again")?;
        signal(victim.pid, Signal::KILL)?;
        eventually("the killed process is gone", DEATH_LIMIT, || async { (!victim.is_alive()).then_some(()) }).await?;
        Ok(fallen)
    }

    /// `None` for a replica, which its agent starts again.
    fn command_of(&self, victim: &Identity, region: &str) -> Result<Option<Fallen>> {
        let line = fs::read(format!("/proc/{}/cmdline", victim.pid)).context("a process to kill ended by itself")?;
        let command = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
        let mut command: Vec<OsString> = command.collect();
        command.pop();
        let role = command.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let starts_again = ["agent", "gateway"].contains(&role.as_str());
        let log = self.data_dir.join(format!("logs/{role}-{region}.log"));
        Ok(starts_again.then_some(Fallen { role, command, log }))
    }
}

impl Fallen {
    /// Starts the same command line again. The process ends with its handle.
    pub fn start_again(&self) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(&self.log)?;
        let (program, arguments) = self.command.split_first().context("a process has a command line")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        command.spawn().with_context(|| format!("starting the {} again", self.role))
    }
}

/// Asks a process to end, with SIGTERM.
pub fn terminate(pid: u32) -> Result<()> {
    signal(pid, Signal::TERM)
}
