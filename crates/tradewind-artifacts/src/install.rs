//! Installing bundles on a region's machine: whole or not at all, resumed after any crash, found out when altered.
//!
//! Under the root:
//! - `bundles/DIGEST/`: an installed bundle, by the bundle's digest
//! - `records/DIGEST.json`: written last; without it a bundle does not count as installed
//! - `partial/DIGEST/BLOB`: files of a bundle on their way, resumed by offset
//! - `staging/`: directories being put together or taken away; emptied when the installer is opened

mod check;
mod download;
mod error;
mod place;
mod record;

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::sync::OwnedMutexGuard;
use tradewind_api::{Client, client};
use tradewind_core::{Digest, bundle::BundleIndex};

pub use check::{Check, Drift};
pub use download::FETCH_STALL_LIMIT;
pub use error::Error;

use crate::{
    bundle::{bundle_digest, check_index},
    disk::{blocking, create_directory, empty_directory},
};

/// Why bytes could not be fetched.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// The content of a blob from some offset on.
pub type ByteStream = BoxStream<'static, Result<Bytes, FetchError>>;

/// Where blobs come from.
pub trait Fetch: Send + Sync {
    /// The blob's content from `offset` on, to its end. What comes is checked against the digest.
    fn fetch(&self, digest: &Digest, offset: u64) -> impl Future<Output = Result<ByteStream, FetchError>> + Send;
}

/// The blobs of the control plane.
impl Fetch for Client {
    async fn fetch(&self, digest: &Digest, offset: u64) -> Result<ByteStream, FetchError> {
        let response = self.get_blob(digest, offset).await?;
        Ok(client::body_stream(response).map_err(FetchError::from).boxed())
    }
}

/// How far an installation is, in bytes; what was there before counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// Told of progress; called often, from the installing task.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// The right to work on one bundle. Blocking work that outlives a dropped future keeps a clone.
type Held = Arc<OwnedMutexGuard<()>>;

/// Installs bundles under a directory. One process at a time; any number of tasks in it.
#[derive(Clone)]
pub struct Installer {
    root: Arc<PathBuf>,
    /// One lock per bundle, held over a whole installation: the second who wants the same bundle waits for the first
    /// and finds it done.
    locks: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Installer {
    /// Opens or makes the directory, and removes what a killed process left half put together.
    pub async fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref().to_owned();
        let installer = Self { root: Arc::new(root), locks: Arc::default() };
        let this = installer.clone();
        let prepared = blocking(move || {
            for directory in ["bundles", "records", "partial", "staging"] {
                create_directory(&this.root.join(directory))?;
            }
            empty_directory(&this.root.join("staging"))
        });
        prepared.await.map_err(|source| installer.failed("prepare", source))?;
        Ok(installer)
    }

    /// Where the bundle is, or would be.
    pub fn path_of(&self, bundle: &Digest) -> PathBuf {
        self.root.join("bundles").join(bundle.to_hex())
    }

    /// Makes sure that the bundle is installed and unaltered, and returns its directory. What is there already stays;
    /// what an earlier call fetched is not fetched again, also after a crash. Dropping the future is safe.
    pub async fn install(
        &self,
        index: &BundleIndex,
        fetch: &impl Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<PathBuf, Error> {
        self.put_right(index, Check::Quick, fetch, on_progress).await
    }

    /// Puts an altered bundle right: every file is read and checked, those that are as they should be are kept, the
    /// others are fetched; then a new directory takes the old one's place at once. Who has the old files open keeps them.
    pub async fn repair(
        &self,
        index: &BundleIndex,
        fetch: &impl Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<PathBuf, Error> {
        self.put_right(index, Check::Full, fetch, on_progress).await
    }

    /// What differs from the index: nothing, if it is installed as it should be. All files are missing if it is not
    /// installed. Waits while the bundle is being installed.
    pub async fn check(&self, index: &BundleIndex, how: Check) -> Result<Vec<Drift>, Error> {
        check_index(index)?;
        let held = self.hold(bundle_digest(index)).await;
        self.check_held(index, how, &held).await
    }

    /// Digests of the bundles that are installed.
    pub async fn installed(&self) -> Result<Vec<Digest>, Error> {
        let this = self.clone();
        blocking(move || record::list(&this.root)).await.map_err(|source| self.failed("list bundles in", source))
    }

    /// Removes every bundle but these, and what was fetched for it. Returns those removed. One that is being
    /// installed stays.
    pub async fn remove_unused(&self, keep: &[Digest]) -> Result<Vec<Digest>, Error> {
        let list = |this: &Self| record::list_all(&this.root);
        let this = self.clone();
        let present = blocking(move || list(&this)).await.map_err(|source| self.failed("list bundles in", source))?;
        let mut removed = Vec::new();
        for bundle in present.into_iter().filter(|bundle| !keep.contains(bundle)) {
            let Ok(held) = self.lock_of(bundle).try_lock_owned() else { continue };
            let root = self.root.clone();
            let work = move || {
                let _held = held;
                place::remove(&root, &bundle)
            };
            blocking(work).await.map_err(|source| self.failed("remove a bundle from", source))?;
            removed.push(bundle);
        }
        self.forget_idle_locks();
        Ok(removed)
    }

    async fn check_held(&self, index: &BundleIndex, how: Check, held: &Held) -> Result<Vec<Drift>, Error> {
        let (root, index, held) = (self.root.clone(), index.clone(), held.clone());
        let checked = blocking(move || {
            let _held = held;
            check::check(&root, &index, how)
        });
        checked.await.map_err(|source| self.failed("check a bundle in", source))
    }

    /// Fetches and places the bundle unless a check of this kind finds nothing to do.
    async fn put_right(
        &self,
        index: &BundleIndex,
        how: Check,
        fetch: &impl Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<PathBuf, Error> {
        check_index(index)?;
        let bundle = bundle_digest(index);
        let held = self.hold(bundle).await;
        if self.check_held(index, how, &held).await?.is_empty() {
            let total = index.bytes();
            on_progress(Progress { done: total, total });
            return Ok(self.path_of(&bundle));
        }
        let download = download::Download::new(&self.root, index, bundle, held.clone());
        download.run(fetch, on_progress).await?;
        let (root, index) = (self.root.clone(), index.clone());
        let placed = blocking(move || {
            let _held = held;
            place::place(&root, &index, &bundle)
        });
        placed.await.map_err(|source| Error::from_write("install a bundle in", &self.root, source))?;
        Ok(self.path_of(&bundle))
    }

    async fn hold(&self, bundle: Digest) -> Held {
        Arc::new(self.lock_of(bundle).lock_owned().await)
    }

    fn lock_of(&self, bundle: Digest) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).entry(bundle).or_default().clone()
    }

    fn forget_idle_locks(&self) {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
    }

    fn failed(&self, attempt: &'static str, source: io::Error) -> Error {
        Error::Io { attempt, path: self.root.to_path_buf(), source }
    }
}

impl fmt::Debug for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installer").field("root", &self.root).finish_non_exhaustive()
    }
}
