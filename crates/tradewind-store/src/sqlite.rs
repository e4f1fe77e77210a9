//! The embedded store: SQLite in WAL mode, durable on every commit, one writer, any number of readers.
//!
//! One process owns a data directory (`lock`). Writes queue for the one [`writer`], which commits all that wait in
//! one go; reads have connections of their own. Whatever waits for the disk runs on tokio's blocking pool, so that a
//! paused test clock stands still meanwhile.
//!
//! A commit that fails for any reason but a full disk aborts the process: after a failed fsync nobody knows what is
//! on the disk, and only a new process that reads it again does. A full disk refuses the transaction and no more.

mod apply;
mod database;
mod leases;
mod open;
mod read;
mod schema;
mod snapshot;
mod watch;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::open::OpenError;
use self::{
    leases::Leases,
    read::Readers,
    writer::{Recent, Work, Writer},
};
use crate::{
    Error, Incarnation, Lease, LeaseId, Range, RangeResponse, Result, Revision, Stats, Store, Txn, TxnResponse, Watch,
    WatchStream,
};

/// How many revisions are kept for watches that resume and reads that are pinned.
pub const DEFAULT_RETAINED_REVISIONS: u64 = 10_000;
/// How large the database may grow, as etcd's largest suggested quota.
pub const DEFAULT_MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// At least so many revisions are kept; older ones are compacted as writes go on.
    pub retained_revisions: u64,
    /// Transactions that need more are refused with [`Error::DiskFull`].
    pub max_bytes: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { retained_revisions: DEFAULT_RETAINED_REVISIONS, max_bytes: DEFAULT_MAX_BYTES }
    }
}

/// A handle to the embedded store; clones share it. Call [`close`](Self::close) to wait until the directory is free.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    incarnation: Incarnation,
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    leases: Arc<Leases>,
    recent: broadcast::WeakSender<Recent>,
    tasks: TaskTracker,
    stop: Arc<DropGuard>,
}

impl SqliteStore {
    /// Opens the store in `directory`, and makes both if need be. Leases of the process that had it before end now,
    /// and their keys go, for the lock proves that it is gone. Blocks for a moment; must be called in a tokio runtime.
    pub fn open(directory: &Path, options: SqliteOptions) -> Result<Self, OpenError> {
        let opened = open::open(directory, &options)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let recent = opened.database.recent().downgrade();
        let leases = Arc::new(Leases::default());
        let writer = Arc::new(Writer::new(opened.database, Arc::clone(&leases), tasks.clone()));
        let readers = Arc::new(Readers::new(opened.readers, tasks.clone()));
        tasks.spawn(leases::expire(Arc::clone(&leases), Arc::clone(&writer), stop.clone()));
        let stop = Arc::new(stop.drop_guard());
        Ok(Self { incarnation: opened.incarnation, writer, readers, leases, recent, tasks, stop })
    }

    /// Finishes the writes that wait, refuses all later calls, and frees the directory before it returns.
    pub async fn close(self) {
        self.stop.token().cancel();
        self.readers.close();
        self.writer.close();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Writes a consistent copy of the whole store to `file`, which must not exist.
    pub async fn snapshot(&self, file: &Path) -> Result<()> {
        snapshot::write(&self.readers, file.to_owned()).await
    }

    /// Turns a snapshot into a new store in `directory`, which must not hold one. The store gets a new
    /// [`Incarnation`], since its revisions go back to the snapshot's.
    pub fn restore(snapshot: &Path, directory: &Path) -> Result<(), OpenError> {
        snapshot::restore(snapshot, directory)
    }

    fn check_open(&self) -> Result<()> {
        if self.writer.is_open() { Ok(()) } else { Err(Error::Closed) }
    }
}

impl Store for SqliteStore {
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            range.check()?;
            self.readers.run("read a range", move |tx| read::range(tx, &range)).await
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            txn.check()?;
            self.writer.submit(Work::Txn(txn)).await
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream>> {
        Box::pin(async move {
            let recent = self.recent.upgrade().ok_or(Error::Closed)?.subscribe();
            watch::open(Arc::clone(&self.readers), recent, watch)
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.writer.submit(Work::Compact(revision)).await.map(drop) })
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            self.check_open()?;
            self.leases.grant(ttl)
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            self.check_open()?;
            self.leases.keep_alive(lease)
        })
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check_open()?;
            self.leases.begin_end(lease)?;
            self.writer.submit(Work::EndLease(lease)).await?;
            self.leases.forget(lease);
            Ok(())
        })
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<Incarnation>> {
        Box::pin(async move { Ok(self.incarnation.clone()) })
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check_open()?;
            self.readers.run("read the state", |tx| Ok(schema::State::load(tx).map(drop)?)).await
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(async move {
            let transactions = self.writer.transactions();
            let bytes = self.readers.run("read its size", |tx| Ok(schema::bytes_in_use(tx)?)).await?;
            Ok(Stats { transactions, bytes })
        })
    }
}
