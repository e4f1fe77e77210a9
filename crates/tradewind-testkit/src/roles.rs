//! A world that is put together by hand: roles started one by one, each on its own host, without `up`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tradewind_api::{Client, auth::write_private, status::DeploymentStatus};
use tradewind_core::{ModelName, RegionName};
use tradewind_process::{Identity, Signal};

use crate::{
    hosts::Host,
    ports::Ports,
    wait::{eventually, eventually_ok},
    world::{Output, processes_below, signal},
};

/// Ten times what a role needs until it is ready.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A process that was sent SIGKILL is gone within this time.
const DEATH_LIMIT: Duration = Duration::from_secs(10);
/// Where ports begin on hosts that nobody else uses.
const PORT_BASE: u16 = 7400;
const GATEWAYS: u16 = 10;
const AGENTS: u16 = 110;
/// So much of a role's log is shown when it does not start.
const LOG_TAIL_LINES: usize = 20;

/// One process of a world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Control,
    Agent(RegionName),
    Gateway(RegionName),
}

impl Part {
    /// # Panics
    /// If it is no name of a region.
    pub fn agent(region: &str) -> Self {
        Self::Agent(region.parse().expect("the name of a region"))
    }

    /// # Panics
    /// If it is no name of a region.
    pub fn gateway(region: &str) -> Self {
        Self::Gateway(region.parse().expect("the name of a region"))
    }

    fn role(&self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Agent(_) => "agent",
            Self::Gateway(_) => "gateway",
        }
    }

    fn region(&self) -> Option<&RegionName> {
        match self {
            Self::Control => None,
            Self::Agent(region) | Self::Gateway(region) => Some(region),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.region() {
            Some(region) => write!(f, "{}-{region}", self.role()),
            None => f.write_str(self.role()),
        }
    }
}

/// Where a region is.
#[derive(Debug, Clone)]
struct Site {
    region: RegionName,
    host: Host,
}

/// A control plane, and an agent and a gateway for each region. Dropping it kills everything that it started.
#[derive(Debug)]
pub struct Roles {
    program: PathBuf,
    control: Host,
    sites: Vec<Site>,
    /// Of this machine; other hosts' ports are nobody else's.
    ports: Option<Ports>,
    running: BTreeMap<Part, Child>,
    directory: TempDir,
}

impl Roles {
    /// Nothing runs yet.
    pub fn new(program: impl Into<PathBuf>, control: &Host, regions: &[(&str, &Host)]) -> Result<Self> {
        let site = |(region, host): &(&str, &Host)| Ok(Site { region: region.parse()?, host: (*host).clone() });
        let sites: Vec<Site> = regions.iter().map(site).collect::<Result<_>>()?;
        let ports = control.is_this().then(|| Ports::claim(u16::try_from(sites.len())?)).transpose()?;
        let (program, control, running) = (program.into(), control.clone(), BTreeMap::new());
        Ok(Self { program, control, sites, ports, running, directory: TempDir::new()? })
    }

    pub fn regions(&self) -> impl Iterator<Item = &RegionName> {
        self.sites.iter().map(|site| &site.region)
    }

    /// Control first: whatever else there is needs a token that it made.
    pub fn parts(&self) -> Vec<Part> {
        let members = |region: &RegionName| [Part::Agent(region.clone()), Part::Gateway(region.clone())];
        std::iter::once(Part::Control).chain(self.regions().flat_map(members)).collect()
    }

    /// Starts everything that does not run.
    pub async fn start_all(&mut self) -> Result<()> {
        for part in self.parts() {
            if !self.running.contains_key(&part) {
                self.start(&part).await?;
            }
        }
        Ok(())
    }

    /// Starts a role and waits until it is ready.
    pub async fn start(&mut self, part: &Part) -> Result<()> {
        self.spawn(part, &[]).await?;
        ensure!(self.ready(part).await?, "{part} ended at once:\n{}", self.log_tail(part));
        Ok(())
    }

    /// Starts a role with further arguments, and does not wait.
    pub async fn spawn(&mut self, part: &Part, further: &[&str]) -> Result<()> {
        ensure!(!self.running.contains_key(part), "{part} runs already");
        let directory = self.data_dir(part);
        let mut command = self.command(self.host(part)?);
        command.arg(part.role()).arg("--data-dir").arg(&directory).args(["--listen", &self.address(part)?]);
        if let Some(region) = part.region() {
            let control = format!("http://{}", self.address(&Part::Control)?);
            command.args(["--region", region.as_str(), "--control", &control]);
            command.arg("--token-file").arg(self.token_file(part).await?);
        } else {
            let regions: Vec<&str> = self.regions().map(AsRef::as_ref).collect();
            command.args(["--regions", &regions.join(",")]);
        }
        let log = File::options().create(true).append(true).open(self.log(part))?;
        command.args(further).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {part}"))?;
        self.running.insert(part.clone(), child);
        Ok(())
    }

    /// Waits until a role is ready; false if it ended instead.
    pub async fn ready(&mut self, part: &Part) -> Result<bool> {
        let client = Client::new(&format!("http://{}", self.address(part)?), None);
        let host = self.host(part)?.clone();
        let running = self.running.get_mut(part).with_context(|| format!("{part} was not started"))?;
        let running = std::cell::RefCell::new(running);
        let what = format!("{part} is ready");
        let ready = eventually(&what, START_LIMIT, || {
            let (client, ended) = (client.clone(), running.borrow_mut().try_wait());
            let asked = host.run(async move { client.ready().await });
            async move {
                match ended {
                    Ok(None) => asked.await.ok().filter(|ready| *ready),
                    Ok(Some(_)) | Err(_) => Some(false),
                }
            }
        });
        ready.await.with_context(|| self.log_tail(part))
    }

    /// Whether a role has ended without being told to.
    pub fn has_ended(&mut self, part: &Part) -> Result<bool> {
        let child = self.running.get_mut(part).with_context(|| format!("{part} was not started"))?;
        Ok(child.try_wait()?.is_some())
    }

    /// Waits for the end of a role that is not told to end. It can be started again then.
    pub async fn ended(&mut self, part: &Part) -> Result<ExitStatus> {
        let mut child = self.running.remove(part).with_context(|| format!("{part} was not started"))?;
        let ended = tokio::time::timeout(DEATH_LIMIT, child.wait()).await;
        Ok(ended.with_context(|| format!("{part} goes on:\n{}", self.log_tail(part)))??)
    }

    /// SIGKILL to one role. Replicas live on.
    pub async fn kill(&mut self, part: &Part) -> Result<()> {
        let mut child = self.running.remove(part).with_context(|| format!("{part} does not run"))?;
        child.start_kill()?;
        let ended = child.wait().await?;
        ensure!(ended.signal() == Some(Signal::KILL.as_raw()), "{part} had ended by itself: {ended}");
        Ok(())
    }

    /// SIGKILL to an agent and its replicas at once.
    pub async fn kill_agent_and_replicas(&mut self, region: &str) -> Result<()> {
        let replicas = self.replicas(region);
        let mut agent = self.running.remove(&Part::agent(region)).context("the agent does not run")?;
        agent.start_kill()?;
        kill_all(&replicas)?;
        agent.wait().await?;
        gone(&replicas).await
    }

    /// SIGKILL to every process of this world at once.
    pub async fn kill_everything(&mut self) -> Result<()> {
        let replicas: Vec<Identity> = self.sites.iter().flat_map(|site| self.replicas(site.region.as_str())).collect();
        for child in self.running.values_mut() {
            child.start_kill()?;
        }
        kill_all(&replicas)?;
        for (_, mut child) in std::mem::take(&mut self.running) {
            child.wait().await?;
        }
        gone(&replicas).await
    }

    /// The living replicas of a region.
    pub fn replicas(&self, region: &str) -> Vec<Identity> {
        processes_below(&format!("{}/", self.data_dir(&Part::agent(region)).display()))
    }

    pub fn data_dir(&self, part: &Part) -> PathBuf {
        let root = self.directory.path();
        match part.region() {
            Some(region) => root.join(region.as_str()).join(part.role()),
            None => root.join(part.role()),
        }
    }

    /// Where a role listens, as host:port.
    pub fn address(&self, part: &Part) -> Result<String> {
        let position = |region: &RegionName| {
            let position = self.sites.iter().position(|site| site.region == *region);
            Ok::<_, anyhow::Error>(u16::try_from(position.with_context(|| format!("{region} is not here"))?)?)
        };
        let base = self.ports.as_ref().map_or(PORT_BASE, |ports| ports.base);
        let port = match part {
            Part::Control => base,
            Part::Gateway(region) => base + GATEWAYS + position(region)?,
            Part::Agent(region) => base + AGENTS + position(region)?,
        };
        Ok(format!("{}:{port}", self.host(part)?.address()))
    }

    /// `http://host:port` of a region's gateway.
    pub fn gateway(&self, region: &str) -> Result<String> {
        Ok(format!("http://{}", self.address(&Part::gateway(region))?))
    }

    /// With the admin's token; to be used on control's host.
    pub fn client(&self) -> Result<Client> {
        let control = format!("http://{}", self.address(&Part::Control)?);
        Ok(Client::new(&control, Some(self.admin_token()?)))
    }

    pub async fn status(&self, model: &str) -> Result<DeploymentStatus> {
        let (client, model) = (self.client()?, model.parse::<ModelName>()?);
        Ok(self.control.run(async move { client.deployment_status(&model).await }).await??)
    }

    /// Runs the CLI on control's host.
    pub async fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        let mut command = self.command(&self.control);
        command
            .args(arguments)
            .env("TRADEWIND_URL", format!("http://{}", self.address(&Part::Control)?))
            .env("TRADEWIND_TOKEN", self.admin_token()?);
        let output = command.output().await?;
        Ok(Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs the CLI on control's host; it has to succeed.
    pub async fn cli_ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        let output = self.cli(arguments).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(output)
    }

    /// The end of a role's log, for people.
    pub fn log_tail(&self, part: &Part) -> String {
        let log = std::fs::read_to_string(self.log(part)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("the log of {part}:\n{}", lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"))
    }

    fn log(&self, part: &Part) -> PathBuf {
        self.directory.path().join(format!("{part}.log"))
    }

    fn host(&self, part: &Part) -> Result<&Host> {
        let Some(region) = part.region() else { return Ok(&self.control) };
        let site = self.sites.iter().find(|site| site.region == *region);
        Ok(&site.with_context(|| format!("{region} is not here"))?.host)
    }

    /// The program, away from whatever this machine's user has set.
    fn command(&self, host: &Host) -> Command {
        let mut command = host.command(&self.program);
        for name in ["TRADEWIND_URL", "TRADEWIND_TOKEN", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", self.directory.path()).env("NO_COLOR", "1").current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    fn admin_token(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.data_dir(&Part::Control).join("admin.token"))?.trim().to_owned())
    }

    /// Issued offline, by whoever may read control's data directory, and carried to the role's host.
    async fn token_file(&self, part: &Part) -> Result<PathBuf> {
        let file = self.data_dir(part).with_extension("token");
        if file.is_file() {
            return Ok(file);
        }
        let region = part.region().context("control makes its own token")?;
        let issued = self
            .command(&self.control)
            .args(["token", "issue", "--role", part.role(), "--data-dir"])
            .arg(self.data_dir(&Part::Control))
            .args(["--region", region.as_str()])
            .output()
            .await?;
        ensure!(issued.status.success(), "no token for {part}: {}", String::from_utf8_lossy(&issued.stderr));
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        write_private(&file, &issued.stdout)?;
        Ok(file)
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.start_kill();
        }
        let _ = kill_all(&processes_below(&format!("{}/", self.directory.path().display())));
    }
}

fn kill_all(processes: &[Identity]) -> Result<()> {
    processes.iter().filter(|process| process.is_alive()).try_for_each(|process| signal(process.pid, Signal::KILL))
}

async fn gone(processes: &[Identity]) -> Result<()> {
    eventually_ok("the killed processes are gone", DEATH_LIMIT, || async {
        ensure!(!processes.iter().any(Identity::is_alive), "some live on");
        Ok(())
    })
    .await
}
