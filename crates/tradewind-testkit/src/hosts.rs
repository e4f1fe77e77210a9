//! Hosts made of Linux network namespaces: each with a loopback and an address of its own, and a cable to one switch
//! that can be pulled.
//!
//! The switch is a namespace too, so nothing of the machine's own network is touched, and the addresses exist in the
//! network that a test made alone.

mod loss;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tradewind_process::{Identity, Signal};

pub use self::loss::Loss;
use crate::world::signal;

/// Hosts get 10.77.0.1, 10.77.0.2, ...
const NETWORK: [u8; 3] = [10, 77, 0];
/// Where `ip netns` keeps its handles.
const HANDLES: &str = "/var/run/netns";
/// Threads that stand for what people do on one host.
const THREADS: usize = 2;

/// A switch and the hosts on it. When it is dropped, their processes are killed and all of it is removed.
#[derive(Debug)]
pub struct Network {
    /// Unique on this machine while this process lives.
    prefix: String,
    switch: String,
    /// Every namespace that was made.
    namespaces: Vec<String>,
    hosts: u8,
}

/// A machine: this one, or a namespace that stands for one.
#[derive(Debug, Clone)]
pub struct Host {
    address: IpAddr,
    namespace: Option<Arc<Namespace>>,
}

#[derive(Debug)]
struct Namespace {
    name: String,
    /// The switch's end of the cable.
    port: String,
    /// Its threads are on this host, so the sockets that they open are too.
    runtime: Option<Runtime>,
}

impl Network {
    pub fn new() -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        ensure!(
            rustix::process::geteuid().is_root(),
            "worlds of several hosts are made of network namespaces, which only root can make: run the tests as root"
        );
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("tradewind-{}-{serial}", std::process::id());
        let mut network = Self { switch: format!("{prefix}-switch"), prefix, namespaces: Vec::new(), hosts: 0 };
        let switch = network.switch.clone();
        network.add_namespace(&switch)?;
        ip(["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        ip(["-n", &switch, "link", "set", "switch", "up"])?;
        Ok(network)
    }

    /// A further host. `label` is short, and becomes part of names.
    pub fn host(&mut self, label: &str) -> Result<Host> {
        self.hosts += 1;
        let [a, b, c] = NETWORK;
        let address = Ipv4Addr::new(a, b, c, self.hosts);
        let (name, port) = (format!("{}-{label}", self.prefix), format!("to-{label}"));
        self.add_namespace(&name)?;
        let switch = self.switch.as_str();
        ip(["-n", switch, "link", "add", &port, "type", "veth", "peer", "name", "cable", "netns", &name])?;
        ip(["-n", switch, "link", "set", &port, "master", "switch", "up"])?;
        ip(["-n", &name, "address", "add", &format!("{address}/24"), "dev", "cable"])?;
        ip(["-n", &name, "link", "set", "lo", "up"])?;
        ip(["-n", &name, "link", "set", "cable", "up"])?;
        let runtime = Some(runtime_in(&name)?);
        Ok(Host { address: address.into(), namespace: Some(Arc::new(Namespace { name, port, runtime })) })
    }

    /// Pulls a host's cable: nothing gets in or out.
    pub fn cut(&self, host: &Host) -> Result<()> {
        self.switch_port(host, "down")
    }

    /// Puts it back.
    pub fn mend(&self, host: &Host) -> Result<()> {
        self.switch_port(host, "up")
    }

    fn switch_port(&self, host: &Host, state: &str) -> Result<()> {
        let namespace = host.namespace.as_ref().context("this machine's own network is left alone")?;
        ip(["-n", &self.switch, "link", "set", &namespace.port, state])
    }

    fn add_namespace(&mut self, name: &str) -> Result<()> {
        ip(["netns", "add", name])?;
        self.namespaces.push(name.to_owned());
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            for process in processes_in(name) {
                let _ = signal(process.pid, Signal::KILL);
            }
            if let Err(error) = ip(["netns", "delete", name]) {
                tell(&format!("{name} is left behind: {error:#}"));
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a drop has no other way to say that something is left behind")]
fn tell(message: &str) {
    eprintln!("{message}");
}

impl Host {
    /// This machine, over its loopback.
    pub fn this() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), namespace: None }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn is_this(&self) -> bool {
        self.namespace.is_none()
    }

    /// A command that runs on this host. Its pid is that of the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        match &self.namespace {
            None => tokio::process::Command::new(program),
            Some(namespace) => {
                let mut command = tokio::process::Command::new("ip");
                command.args(["netns", "exec", &namespace.name]).arg(program);
                command
            }
        }
    }

    /// Does something on this host: the sockets that it opens are this host's. What it spawns stays here too.
    pub async fn run<F>(&self, work: F) -> Result<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.namespace.as_ref().and_then(|namespace| namespace.runtime.as_ref()) {
            Some(runtime) => runtime.spawn(work).await.context("what ran on a host panicked"),
            None => Ok(work.await),
        }
    }

    /// The processes on this host.
    pub fn processes(&self) -> Vec<Identity> {
        self.namespace.as_ref().map(|namespace| processes_in(&namespace.name)).unwrap_or_default()
    }

    /// The addresses that something on this host listens on, TCP over IPv4.
    pub fn listening(&self) -> Result<Vec<(IpAddr, u16)>> {
        let process = self.processes().into_iter().next().context("nothing runs on this host")?;
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", process.pid))?;
        table.lines().skip(1).filter(|line| line.split_whitespace().nth(3) == Some(LISTEN)).map(local_address).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Also from within another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `   0: 0100007F:1CE8 00000000:0000 0A ...`: the address in the order of the machine's bytes, the port in the
/// network's.
fn local_address(line: &str) -> Result<(IpAddr, u16)> {
    let local = line.split_whitespace().nth(1).context("no local address")?;
    let (address, port) = local.split_once(':').context("no port")?;
    let address = u32::from_str_radix(address, 16)?.to_ne_bytes();
    Ok((Ipv4Addr::from(address).into(), u16::from_str_radix(port, 16)?))
}

fn runtime_in(namespace: &str) -> Result<Runtime> {
    let handle = Path::new(HANDLES).join(namespace);
    let handle = Arc::new(File::open(&handle).with_context(|| handle.display().to_string())?);
    let enter = move || {
        move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("whoever made a namespace may enter it");
    };
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .on_thread_start(enter)
        .enable_all()
        .build()?)
}

fn processes_in(namespace: &str) -> Vec<Identity> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| Identity::of(line.trim().parse().ok()?)).collect()
}

fn ip<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let output = Command::new("ip").args(&arguments).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("worlds of several hosts need the command `ip`: install iproute2 (apt-get install iproute2)")
        }
        _ => anyhow!(error).context("running `ip`"),
    })?;
    if !output.status.success() {
        let (command, said) = (arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        bail!(
            "`ip {command}` failed: {}; a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN for it (`--privileged`)",
            said.trim()
        );
    }
    Ok(())
}
