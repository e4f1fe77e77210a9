//! One role of the world: its process is started or adopted, waited for, restarted, stopped.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tradewind_api::Client;
use tradewind_core::{RegionName, Timestamp, backoff::Backoff};
use tradewind_process::{Process, Spawn};

use super::{
    Restart,
    layout::{Layout, Role},
    roster::{Entry, Roster},
    wan::Links,
};
use crate::{failure::Failure, roles, terminal};

/// A process that was asked to stop is killed after this time.
pub(super) const GRACE: Duration = Duration::from_millis(2500);
/// A process that has run for this long begins its back-off anew.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How often a starting process is asked whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(15);
/// The end of a log that is shown when a role does not start.
const LOG_TAIL_LINES: usize = 5;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Member {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    role: Role,
    region: Option<RegionName>,
    layout: Layout,
    links: Links,
    roster: Roster,
    restart: Restart,
    /// The gateway's socket, held for its successors; none while an adopted gateway holds the only one.
    socket: Mutex<Option<TcpListener>>,
    process: Mutex<Option<Process>>,
}

impl Member {
    /// All members of the world. Ports are taken or tried before anything is started.
    pub(super) fn all(layout: &Layout, links: &Links, roster: &Roster, restart: Restart) -> Result<Vec<Self>, Failure> {
        let mut members = vec![Self::new(layout, links, roster, restart, Role::Control, None)?];
        for role in [Role::Agent, Role::Gateway] {
            for region in layout.regions() {
                members.push(Self::new(layout, links, roster, restart, role, Some(region.clone()))?);
            }
        }
        Ok(members)
    }

    fn new(
        layout: &Layout,
        links: &Links,
        roster: &Roster,
        restart: Restart,
        role: Role,
        region: Option<RegionName>,
    ) -> Result<Self, Failure> {
        let mut socket = None;
        if roster.find(role, region.as_ref()).is_none() {
            let bound = roles::bind(layout.address(role, region.as_ref())).map_err(|failure| {
                failure.hint("something else listens there; stop it, or choose other ports with --port-base")
            })?;
            // Control and agents bind their ports themselves; here they are only found to be free.
            socket = (role == Role::Gateway).then_some(bound);
        }
        let inner = Inner {
            role,
            region,
            layout: layout.clone(),
            links: links.clone(),
            roster: roster.clone(),
            restart,
            socket: Mutex::new(socket),
            process: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(super) fn role(&self) -> Role {
        self.inner.role
    }

    fn name(&self) -> String {
        match &self.inner.region {
            Some(region) => format!("{} {region}", self.inner.role.as_str()),
            None => self.inner.role.as_str().to_owned(),
        }
    }

    fn log(&self) -> std::path::PathBuf {
        let name = self.inner.region.as_ref().map_or_else(
            || self.inner.role.as_str().to_owned(),
            |region| format!("{}-{region}", self.inner.role.as_str()),
        );
        self.inner.layout.logs().join(format!("{name}.log"))
    }

    fn process(&self) -> Option<Process> {
        self.inner.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adopts what a former `up` has left running, or starts it.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        let inner = &self.inner;
        let Some((identity, started_at)) = inner.roster.find(inner.role, inner.region.as_ref()) else {
            return self.spawn();
        };
        let adopted = Process::adopt(&identity)
            .map_err(|error| Failure::failed(format!("cannot watch {}", self.name())).cause(error.to_string()))?;
        match adopted {
            // Its links end at the former `up`, which is gone.
            Some(process) if inner.role == Role::Gateway && !inner.links.is_empty() => {
                self.end(&process).await;
                self.spawn()
            }
            Some(process) => self.enter(process, started_at),
            None => self.spawn(),
        }
    }

    fn spawn(&self) -> Result<(), Failure> {
        let process = self
            .command()?
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start {}", self.name())).cause(error.to_string()))?;
        self.enter(process, Timestamp::now())
    }

    fn enter(&self, process: Process, started_at: Timestamp) -> Result<(), Failure> {
        let inner = &self.inner;
        let entry = Entry {
            role: inner.role,
            region: inner.region.clone(),
            pid: process.pid(),
            started_at,
            address: inner.layout.address(inner.role, inner.region.as_ref()).to_string(),
        };
        let identity = process.identity().clone();
        *inner.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        inner.roster.enter(entry, identity).map_err(|error| {
            Failure::failed(format!("cannot note {} in the data directory", self.name())).cause(error.to_string())
        })
    }

    fn command(&self) -> Result<Spawn, Failure> {
        let inner = &self.inner;
        let layout = &inner.layout;
        let region = inner.region.as_ref();
        let address = layout.address(inner.role, region).to_string();
        let spawn = Spawn::new(layout.program())
            .arg(inner.role.as_str())
            .arg("--data-dir")
            .arg(layout.directory(inner.role, region))
            .args(["--listen", &address])
            .log(self.log());
        let spawn = layout.otlp_endpoint().into_iter().fold(spawn, |spawn, url| spawn.args(["--otlp-endpoint", url]));
        let Some(region) = region else {
            let regions: Vec<&str> = layout.regions().iter().map(AsRef::as_ref).collect();
            return Ok(spawn.args(["--regions", &regions.join(",")]));
        };
        let spawn = spawn
            .args(["--region", region.as_str(), "--control", &layout.control_url()])
            .arg("--token-file")
            .arg(layout.member_token(inner.role, region));
        if inner.role != Role::Gateway {
            return Ok(spawn);
        }
        let spawn = inner.links.of(region).fold(spawn.arg("--trust-client-region"), |spawn, (to, address)| {
            spawn.arg("--link").arg(format!("{to}={address}"))
        });
        let mut socket = inner.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.is_none() {
            *socket = Some(roles::bind(layout.address(inner.role, Some(region)))?);
        }
        let passed = socket.as_ref().map(TcpListener::try_clone).transpose();
        let passed = passed.map_err(|error| Failure::failed("cannot pass on a socket").cause(error.to_string()))?;
        Ok(passed.into_iter().fold(spawn, Spawn::listener))
    }

    /// Waits until it answers that it is ready; fails as soon as its process has ended.
    pub(super) async fn ready(self) -> Result<(), Failure> {
        let address = self.inner.layout.address(self.inner.role, self.inner.region.as_ref());
        let client = Client::new(&format!("http://{address}"), None);
        let mut ticks = tokio::time::interval(READY_INTERVAL);
        loop {
            ticks.tick().await;
            if let Some(exit) = self.process().and_then(|process| process.try_exited()) {
                return Err(self.did_not_start(&exit.to_string()));
            }
            if client.ready().await {
                return Ok(());
            }
        }
    }

    fn did_not_start(&self, how: &str) -> Failure {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].iter().map(|line| (*line).to_owned());
        let failure = Failure::failed(format!("{} did not start: {how}", self.name()));
        tail.fold(failure, Failure::cause).hint(format!("its log: {}", self.log().display()))
    }

    /// Restarts the process whenever it ends, until told to stop.
    pub(super) async fn supervise(self, stop: CancellationToken) {
        let mut failures = 0;
        while let Some(process) = self.process() {
            let began = Instant::now();
            let Some(exit) = stop.run_until_cancelled(process.exited()).await else { return };
            self.left(&process);
            if self.inner.restart == Restart::Never {
                terminal::complain(&format!("  {} ended: {exit}\n", self.name()));
                self.inner.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
                return;
            }
            failures = if began.elapsed() >= STEADY_AFTER { 0 } else { failures };
            let mut why = exit.to_string();
            loop {
                failures += 1;
                let wait = Backoff::RESTART.after(failures);
                terminal::complain(&format!("  {} ended: {why}; again in {} ms\n", self.name(), wait.as_millis()));
                if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                match self.spawn() {
                    Ok(()) => break,
                    Err(failure) => why = failure.to_string(),
                }
            }
        }
    }

    fn left(&self, process: &Process) {
        if let Err(error) = self.inner.roster.leave(process.identity()) {
            terminal::complain(&format!("  cannot write world.json: {error}\n"));
        }
    }

    async fn end(&self, process: &Process) {
        if let Err(error) = process.terminate(GRACE).await {
            terminal::complain(&format!("  {} could not be stopped: {error}\n", self.name()));
        }
        self.left(process);
    }

    pub(super) async fn stop(self) {
        if let Some(process) = self.process() {
            self.end(&process).await;
        }
    }
}
