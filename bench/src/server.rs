//! A server of somebody else's, started and ended as a group of processes.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::TcpStream;
use tradewind_testkit::{Host, eventually_ok};

use crate::marked::{self, MARK};

/// Ten times what a start takes, and more.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const STOP_INTERVAL: Duration = Duration::from_millis(5);

/// A program, and what it is started with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
}

/// Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    host: Host,
    launch: Launch,
    directory: PathBuf,
    /// All of them accept connections when it is ready.
    addresses: Vec<SocketAddr>,
    child: Option<Child>,
}

impl Server {
    /// Starts nginx or HAProxy with a configuration in a folder of its own, on the cores of this thread.
    pub(crate) fn configured(directory: &Path, program: &str, config: &str, addresses: &[SocketAddr]) -> Result<Self> {
        Self::on_host(&Host::this(), directory, program, config, addresses)
    }

    /// The same, on a host.
    pub(crate) fn on_host(
        host: &Host,
        directory: &Path,
        program: &str,
        config: &str,
        addresses: &[SocketAddr],
    ) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let file = directory.join("config");
        fs::write(&file, config).with_context(|| format!("writing {}", file.display()))?;
        let (directory_text, file) = (directory.display().to_string(), file.display().to_string());
        let arguments: &[&str] =
            if program == "nginx" { &["-p", &directory_text, "-c", &file] } else { &["-db", "-f", &file] };
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self::launched(
            host,
            directory,
            Launch { program: find(program)?, arguments, environment: Vec::new() },
            addresses,
        )
    }

    /// Starts a program in a folder of its own.
    pub(crate) fn launched(host: &Host, directory: &Path, launch: Launch, addresses: &[SocketAddr]) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (host, directory, addresses) = (host.clone(), directory.to_owned(), addresses.to_vec());
        let mut server = Self { host, launch, directory, addresses, child: None };
        server.start_again()?;
        Ok(server)
    }

    /// A new process in the place of the old one.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.end();
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let Launch { program, arguments, environment } = &self.launch;
        let mut command = self.host.command(program).into_std();
        command.args(arguments).current_dir(&self.directory).process_group(0);
        command.envs(environment.iter().map(|(name, value)| (name, value))).env(MARK, &self.directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", program.display()))?);
        Ok(())
    }

    pub(crate) async fn ready(&mut self) -> Result<()> {
        let (host, addresses) = (self.host.clone(), self.addresses.clone());
        let open = || {
            let (host, addresses) = (host.clone(), addresses.clone());
            async move {
                let open = async move {
                    for address in addresses {
                        TcpStream::connect(address).await?;
                    }
                    Ok(())
                };
                host.run(open).await?
            }
        };
        self.ready_when(START_LIMIT, open).await
    }

    /// Waits until an attempt succeeds; in vain once it has ended.
    pub(crate) async fn ready_when<F: Future<Output = Result<()>>>(
        &mut self,
        limit: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<()> {
        let child = &mut self.child;
        let ready = eventually_ok("it is ready", limit, || {
            let ended = child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            let attempt = attempt();
            async move { if ended { Ok(false) } else { attempt.await.map(|()| true) } }
        });
        let ready = ready.await;
        let name = self.launch.program.display();
        let said = || fs::read_to_string(self.log()).unwrap_or_default();
        ensure!(ready.with_context(|| format!("{name} does not start: {}", said()))?, "{name} has ended: {}", said());
        Ok(())
    }

    /// Its processes: itself, and all that it has started.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let leader = self.child.as_ref().context("it does not run")?.id();
        let of_group = marked::pids().filter(|pid| group_of(*pid) == Some(leader));
        Ok(of_group.chain(marked::pids_of(&self.directory)).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.as_ref()?.id()).ok()?)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Lets it end its workers; what is left after a while is killed.
    fn end(&mut self) {
        let Some((group, mut child)) = self.group().zip(self.child.take()) else { return };
        // Errors mean that it has ended already.
        let _ = kill_process(group, Signal::TERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(STOP_INTERVAL);
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
        marked::kill(&self.directory);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The process group of a process, if it is there.
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; then come state, parent and group.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// A program of this machine. Debian keeps servers where only root looks.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    let found = places.map(|place| place.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("`{program}` is not installed; `cargo xtask bench` says how to"))
}

/// An address that nobody uses now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Puts values in the places of `{words}`.
pub(crate) fn fill(config: String, words: &[(&str, String)]) -> String {
    words.iter().fold(config, |config, (word, value)| config.replace(&format!("{{{word}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_in_braces_are_filled_in() {
        assert_eq!(fill("http { listen {http}; }".to_owned(), &[("http", "a:1".to_owned())]), "http { listen a:1; }");
    }
}
