//! The agent of a region: pulls what the region should run, installs bundles, supervises replicas, verifies them,
//! announces them to the region's gateways and reports to control.
//!
//! Everything is level-triggered: `desired` holds what should be, one task per model and slot
//! (`slot`) compares that with what is, asks `decide` and acts. The agent must not depend on control
//! being there: it goes on with what it last knew, also across its own restart, and it leaves its replicas running
//! when it ends, for its successor to adopt.

mod agent;
mod board;
mod budget;
mod bundles;
mod connections;
mod decide;
mod demand;
mod desired;
mod events;
mod home;
mod launch;
mod logs;
mod metrics;
mod probe;
mod record;
mod report;
mod server;
mod slot;
mod stream;
mod verify;

use std::{io, net::SocketAddr, path::PathBuf};

use tradewind_core::RegionName;

pub use agent::run;
pub use budget::Budget;
pub use record::{ReplicaRecord, ServerRecord, recorded_replicas, stop_replicas};

/// Where an agent listens unless told otherwise; the port is remembered in its data directory.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// What an agent is told at its start.
#[derive(Clone)]
pub struct AgentOptions {
    pub region: RegionName,
    /// `http://host:port`
    pub control: String,
    /// Of scope `agent/REGION`.
    pub token: String,
    pub data_dir: PathBuf,
    /// Default [`DEFAULT_LISTEN`]. Replicas listen on the same interface.
    pub listen: SocketAddr,
    /// host:port under which others reach this agent, where it is not the address that it listens on.
    pub advertise: Option<String>,
    /// The `tradewind` binary, whose `replica` subcommand is a replica.
    pub program: PathBuf,
}

impl std::fmt::Debug for AgentOptions {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentOptions")
            .field("region", &self.region)
            .field("control", &self.control)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use the data directory {}", path.display())]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("another agent runs in {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot use the store of bundles in {}", path.display())]
    Bundles { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot take over the replica {id}, which still runs")]
    Adopt { id: String, source: io::Error },
    #[error("cannot stop the replica {id}")]
    Stop { id: String, source: io::Error },
    #[error("cannot serve on the listening socket")]
    Serve { source: io::Error },
    #[error("the agent's {task} task ended unexpectedly")]
    Task { task: &'static str, source: tokio::task::JoinError },
}
