//! A world of real processes.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tradewind_api::Client;
use tradewind_core::RegionName;
use tradewind_process::{Identity, Signal};

use crate::{ports::Ports, wait::eventually_ok};

/// Ten times what a start takes.
const START_LIMIT: Duration = Duration::from_secs(40);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How a world is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `tradewind` binary.
    pub program: PathBuf,
    pub regions: Vec<RegionName>,
    /// Further arguments of `up`.
    pub arguments: Vec<String>,
    /// Where data is kept; a temporary directory unless given.
    pub data_dir: Option<PathBuf>,
    pub port_base: Option<u16>,
}

impl Options {
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let regions = ["us-east1", "europe-west1", "asia-northeast1"];
        Self {
            program: program.into(),
            regions: regions.iter().map(|name| name.parse().expect("region names are valid")).collect(),
            arguments: Vec::new(),
            data_dir: None,
            port_base: None,
        }
    }

    #[must_use]
    pub fn regions(mut self, regions: &[&str]) -> Self {
        self.regions = regions.iter().map(|name| name.parse().expect("region names are valid")).collect();
        self
    }

    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// `world.json`
#[derive(Debug, Clone, Deserialize)]
pub struct WorldFile {
    pub control_url: String,
    pub token_file: PathBuf,
    pub processes: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listed {
    pub role: String,
    pub region: Option<RegionName>,
    pub pid: u32,
    pub address: String,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The JSON document on stdout.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {self:?}"))
    }
}

/// A running `tradewind up`. Dropping it kills everything that it started.
#[derive(Debug)]
pub struct World {
    pub options: Options,
    pub port_base: u16,
    pub data_dir: PathBuf,
    temporary: Option<TempDir>,
    /// Kept while the world lives, unless its ports were chosen by the caller.
    _ports: Option<Ports>,
    up: Option<Child>,
}

impl World {
    /// Starts a world and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let temporary = options.data_dir.is_none().then(TempDir::new).transpose()?;
        let data_dir = match (&options.data_dir, &temporary) {
            (Some(directory), _) => directory.clone(),
            (None, Some(temporary)) => temporary.path().join("world"),
            (None, None) => bail!("a world needs a directory"),
        };
        let regions = u16::try_from(options.regions.len())?;
        let ports = options.port_base.is_none().then(|| Ports::claim(regions)).transpose()?;
        let port_base = options.port_base.or(ports.as_ref().map(|ports| ports.base)).context("a world needs ports")?;
        let mut world = Self { options, port_base, data_dir, temporary, _ports: ports, up: None };
        world.restart().await?;
        Ok(world)
    }

    /// Starts `up` again on the same directory and ports.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.up.is_none(), "the world is running");
        let _ = std::fs::remove_file(self.data_dir.join("world.json"));
        let regions: Vec<&str> = self.options.regions.iter().map(AsRef::as_ref).collect();
        let mut command = Command::new(&self.options.program);
        command
            .args(["up", "--data-dir"])
            .arg(&self.data_dir)
            .args(["--port-base", &self.port_base.to_string(), "--regions", &regions.join(",")])
            .args(&self.options.arguments)
            .env("XDG_STATE_HOME", self.data_dir.with_extension("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.up = Some(command.spawn().with_context(|| format!("{}", self.options.program.display()))?);
        let ready = eventually_ok("the world is ready", START_LIMIT, || async { self.file() }).await;
        if let Err(error) = ready {
            let output = self.kill_up().await?;
            return Err(error.context(format!("up printed: {output:?}")));
        }
        Ok(())
    }

    pub fn file(&self) -> Result<WorldFile> {
        read_world(&self.data_dir)
    }

    /// A client with the admin's token.
    pub fn client(&self) -> Result<Client> {
        let file = self.file()?;
        let token = std::fs::read_to_string(file.token_file)?.trim().to_owned();
        Ok(Client::new(&file.control_url, Some(token)))
    }

    /// The processes of a role, in a region or in all.
    pub fn processes(&self, role: &str, region: Option<&str>) -> Result<Vec<Listed>> {
        let matches = |process: &Listed| {
            process.role == role
                && region.is_none_or(|name| process.region.as_ref().is_some_and(|region| region.as_str() == name))
        };
        Ok(self.file()?.processes.into_iter().filter(matches).collect())
    }

    /// `http://host:port` of a region's gateway.
    pub fn gateway(&self, region: &str) -> Result<String> {
        let gateways = self.processes("gateway", Some(region))?;
        Ok(format!("http://{}", gateways.first().context("the region has no gateway")?.address))
    }

    pub fn gateways(&self) -> Result<Vec<(RegionName, String)>> {
        self.options.regions.iter().map(|region| Ok((region.clone(), self.gateway(region.as_str())?))).collect()
    }

    /// Sends SIGKILL to every process of a role in a region; their pids are returned.
    pub fn kill(&self, role: &str, region: Option<&str>) -> Result<Vec<u32>> {
        let processes = self.processes(role, region)?;
        ensure!(!processes.is_empty(), "there is no {role} to kill in {region:?}");
        processes.iter().map(|process| signal(process.pid, Signal::KILL).map(|()| process.pid)).collect()
    }

    /// SIGKILL to the agent, the replicas and the gateway of a region.
    pub fn kill_region(&self, region: &str) -> Result<()> {
        for role in ["agent", "replica", "gateway"] {
            self.kill(role, Some(region))?;
        }
        Ok(())
    }

    /// Runs the CLI against this world.
    pub async fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        let output = self.command(arguments)?.output().await?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// The CLI, to be run against this world.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Command> {
        let url = format!("http://127.0.0.1:{}", self.port_base);
        let token = std::fs::read_to_string(self.data_dir.join("control/admin.token"))?;
        let mut command = Command::new(&self.options.program);
        command
            .args(arguments)
            .env("TRADEWIND_URL", url)
            .env("TRADEWIND_TOKEN", token)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Ctrl-C; everything must be gone when this returns.
    pub async fn stop(&mut self) -> Result<Output> {
        let identities = self.identities();
        let mut up = self.up.take().context("the world is not running")?;
        signal(up.id().context("up has ended")?, Signal::INT)?;
        let output = collect(&mut up).await?;
        let left: Vec<&Identity> = identities.iter().filter(|identity| identity.is_alive()).collect();
        ensure!(left.is_empty(), "processes are left behind: {left:?}");
        Ok(output)
    }

    /// kill -9 of `up` alone; its children live on.
    pub async fn kill_up(&mut self) -> Result<Output> {
        let mut up = self.up.take().context("the world is not running")?;
        up.start_kill()?;
        collect(&mut up).await
    }

    pub fn up_pid(&self) -> Option<u32> {
        self.up.as_ref().and_then(Child::id)
    }

    /// Processes that have a path below the world's directory on their command line, listed or not.
    pub fn remains(&self) -> Vec<Identity> {
        processes_below(&format!("{}/", self.data_dir.display()))
    }

    /// All processes of the world, so that no reused pid is taken for one of them.
    pub fn identities(&self) -> Vec<Identity> {
        let processes = self.file().map(|file| file.processes).unwrap_or_default();
        processes.iter().filter_map(|process| Identity::of(process.pid)).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let identities = self.identities();
        if let Some(up) = &mut self.up {
            let _ = up.start_kill();
        }
        for identity in identities.into_iter().chain(self.remains()) {
            if identity.is_alive() {
                let _ = signal(identity.pid, Signal::KILL);
            }
        }
        drop(self.temporary.take());
    }
}

/// Processes with an argument below a directory: also those that the world has not listed.
pub fn processes_below(directory: &str) -> Vec<Identity> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument.starts_with(directory.as_bytes()))
        })
        .filter_map(Identity::of)
        .collect()
}

fn read_world(data_dir: &Path) -> Result<WorldFile> {
    let path = data_dir.join("world.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

async fn collect(up: &mut Child) -> Result<Output> {
    use tokio::io::AsyncReadExt;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (up.stdout.take().context("piped")?, up.stderr.take().context("piped")?);
    let all = async {
        let (_, _, status) =
            tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr), up.wait())?;
        anyhow::Ok(status.code())
    };
    let code = tokio::time::timeout(STOP_LIMIT, all).await.context("up did not end")??;
    Ok(Output { code, stdout, stderr })
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("not a pid")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}
