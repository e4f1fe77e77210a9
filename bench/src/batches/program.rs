//! A program that is run to its end, with a look at its memory meanwhile.

use std::{
    fs::{self, File},
    path::Path,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::{
    marked::{self, MARK},
    memory,
    server::Launch,
};

/// How often the memory of the first process is looked at.
const INTERVAL: Duration = Duration::from_millis(10);
/// Each so many times that of all is, which takes longer.
const TIMES: u32 = 20;
const LIMIT: Duration = Duration::from_secs(600);
/// What a program printed, in its directory.
pub(super) const PRINTED: &str = "printed";
const LOG: &str = "log";

/// How it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub took: Duration,
    /// The most memory, in KiB.
    pub peak: Peak,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Peak {
    /// Of the first process alone: its resident pages.
    pub first: u64,
    /// Of all processes together, each page once; absent where nobody asked.
    pub all: Option<u64>,
}

/// What remains of its processes ends with this.
struct Family<'a>(&'a Path);

impl Drop for Family<'_> {
    fn drop(&mut self) {
        marked::kill(self.0);
    }
}

/// Runs a program in a directory that is its own, where what it prints is kept. Looking at the memory of `all` its processes
/// takes a part of the cores.
pub(super) async fn run(launch: &Launch, directory: &Path, all: bool) -> Result<Ran> {
    let Launch { program, arguments, environment } = launch;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).kill_on_drop(true);
    command.envs(environment.iter().map(|(name, value)| (name, value))).env(MARK, directory);
    let log = File::create(directory.join(LOG))?;
    command.stdin(Stdio::null()).stdout(File::create(directory.join(PRINTED))?).stderr(log);
    let family = Family(directory);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
    let pid = child.id().context("it has a pid until it is waited for")?;
    let mut interval = tokio::time::interval(INTERVAL);
    let (mut peak, mut looks) = (Peak::default(), 0);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = interval.tick() => {
                peak.look(pid, (all && looks % TIMES == TIMES / 2).then_some(directory));
                looks += 1;
            }
        }
        ensure!(began.elapsed() < LIMIT, "it takes longer than {} s", LIMIT.as_secs());
    };
    let took = began.elapsed();
    drop(family);
    check(status, directory)?;
    Ok(Ran { took, peak })
}

impl Peak {
    /// A process that ends meanwhile has no memory to tell of.
    fn look(&mut self, pid: u32, all: Option<&Path>) {
        self.first = memory::peak_kib(pid).unwrap_or(0).max(self.first);
        if let Some(directory) = all {
            let now: u64 = marked::pids_of(directory).filter_map(|pid| memory::proportional_kib(&[pid]).ok()).sum();
            self.all = self.all.max(Some(now));
        }
    }
}

fn check(status: ExitStatus, directory: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(directory.join(LOG)).unwrap_or_default();
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
    bail!("it ended with {status}: {last}")
}
