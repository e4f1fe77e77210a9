//! A server of somebody else's, started and ended as a group of processes.

use std::{
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

/// Ten times what a start takes, and more.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const STOP_INTERVAL: Duration = Duration::from_millis(5);

/// Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    host: Host,
    program: PathBuf,
    arguments: Vec<String>,
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
        let mut server = Self {
            host: host.clone(),
            program: find(program)?,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            directory: directory.to_owned(),
            addresses: addresses.to_vec(),
            child: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// A new process in the place of the old one.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.end();
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = self.host.command(&self.program).into_std();
        command.args(&self.arguments).current_dir(&self.directory).process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.program.display()))?);
        Ok(())
    }

    pub(crate) async fn ready(&mut self) -> Result<()> {
        let ready = eventually_ok("its ports are open", START_LIMIT, || async {
            let addresses = self.addresses.clone();
            let open = async move {
                for address in addresses {
                    TcpStream::connect(address).await?;
                }
                Ok(())
            };
            self.host.run(open).await?
        });
        let result = ready.await;
        let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        let said = || fs::read_to_string(self.log()).unwrap_or_default();
        result.with_context(|| format!("{} does not start: {}", self.program.display(), said()))?;
        ensure!(ended.is_none(), "{} has ended: {}", self.program.display(), said());
        Ok(())
    }

    /// Its processes: itself and its workers.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let leader = self.child.as_ref().context("it does not run")?.id();
        let entries = fs::read_dir("/proc").context("listing processes")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        Ok(pids.filter(|pid| group_of(*pid) == Some(leader)).collect())
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
