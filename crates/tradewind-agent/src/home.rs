//! The agent's data directory: one agent at a time, and a place for everything that must outlive it.
//!
//! ```text
//! agent.lock              held by the one agent that runs here
//! port                    the port that was listened on last
//! desired.json            the last good desired state, with a checksum before it
//! slots/MODEL@SLOT.json   how far a slot has come
//! replicas/ID.json        one record per replica, there before the replica is
//! versions/DIGEST.*.json  what control said of a version
//! artifacts/              installed bundles, see `tradewind_artifacts::Installer`
//! logs/MODEL/REVISION.SLOT.PLACE.log
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tradewind_api::auth::write_private;
use tradewind_core::{Digest, ModelName, RevisionNumber, Slot, VersionNumber, monitor::disk::DiskRoom};

use crate::Error;

/// An agent that was killed a moment ago may leave the lock to a child between fork and exec: so long it is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The lock is tried this often meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A data directory that this process alone uses while the value lives.
#[derive(Debug)]
pub(crate) struct Home {
    root: PathBuf,
    _lock: File,
}

impl Home {
    pub(crate) async fn open(root: &Path) -> Result<Self, Error> {
        let failed = |source| Error::DataDirectory { path: root.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        // Absolute, since replicas are told paths in it.
        let root = root.canonicalize().map_err(failed)?;
        let path = root.join("agent.lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => tokio::time::sleep(LOCK_RETRY).await,
                Err(Errno::WOULDBLOCK) => return Err(Error::InUse { path: root }),
                Err(error) => return Err(failed(error.into())),
            }
        }
        for directory in [slots(&root), replicas(&root), versions(&root), artifacts(&root), logs(&root)] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        Ok(Self { root, _lock: lock })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What is free on its file system; `None` if that does not say.
    pub(crate) fn room(&self) -> Option<DiskRoom> {
        tradewind_artifacts::room(&self.root).ok()
    }

    pub(crate) fn desired(&self) -> PathBuf {
        self.root.join("desired.json")
    }

    pub(crate) fn slots(&self) -> PathBuf {
        slots(&self.root)
    }

    pub(crate) fn slot(&self, model: &ModelName, slot: Slot) -> PathBuf {
        slots(&self.root).join(format!("{model}@{slot}.json"))
    }

    /// Named by all three: one content may be a version of two models.
    pub(crate) fn version(&self, model: &ModelName, version: VersionNumber, digest: &Digest) -> PathBuf {
        versions(&self.root).join(format!("{}.{model}@{version}.json", digest.to_hex()))
    }

    /// All that is written down of versions with this content.
    pub(crate) fn versions_of(&self, digest: &Digest) -> Vec<PathBuf> {
        let prefix = format!("{}.", digest.to_hex());
        let entries = fs::read_dir(versions(&self.root)).into_iter().flatten().filter_map(Result::ok);
        let of = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        of.map(|entry| entry.path()).collect()
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        artifacts(&self.root)
    }

    pub(crate) fn model_logs(&self, model: &ModelName) -> PathBuf {
        logs(&self.root).join(model.as_str())
    }

    pub(crate) fn log(&self, model: &ModelName, revision: RevisionNumber, slot: Slot, place: u32) -> PathBuf {
        self.model_logs(model).join(format!("{revision}.{slot}.{place}.log"))
    }

    /// Listens on `address`. Where that leaves the port open, the one of last time is taken again when it is free, so
    /// that gateways find a restarted agent where it was.
    pub(crate) fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let path = self.root.join("port");
        let remembered = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
        let again = remembered
            .filter(|_| address.port() == 0)
            .and_then(|port| TcpListener::bind(SocketAddr::new(address.ip(), port)).ok());
        let listener = match again {
            Some(listener) => listener,
            None => TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?,
        };
        let prepare = || -> io::Result<()> {
            listener.set_nonblocking(true)?;
            write_private(&path, listener.local_addr()?.port().to_string().as_bytes())
        };
        prepare().map_err(|source| Error::Listen { address, source })?;
        Ok(listener)
    }
}

pub(crate) fn replicas(root: &Path) -> PathBuf {
    root.join("replicas")
}

fn slots(root: &Path) -> PathBuf {
    root.join("slots")
}

fn versions(root: &Path) -> PathBuf {
    root.join("versions")
}

fn artifacts(root: &Path) -> PathBuf {
    root.join("artifacts")
}

fn logs(root: &Path) -> PathBuf {
    root.join("logs")
}
