//! A store that outlives its user: after a commit that the test chooses, nothing comes back from it any more, as for a
//! process that was killed right after that commit.

use std::{
    future::pending,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tradewind_store::{
    Incarnation, Lease, LeaseId, Range, RangeResponse, Result, Revision, SqliteStore, Stats, Store, Txn, TxnResponse,
    Watch, WatchStream,
};

#[derive(Debug)]
pub struct CrashingStore {
    store: SqliteStore,
    crash_after: u64,
    commits: AtomicU64,
    leases: Mutex<Vec<LeaseId>>,
    dead: CancellationToken,
}

impl CrashingStore {
    /// Dies right after that many commits.
    pub fn new(store: SqliteStore, crash_after: u64) -> Self {
        let (commits, leases) = (AtomicU64::new(0), Mutex::default());
        Self { store, crash_after, commits, leases, dead: CancellationToken::new() }
    }

    /// Waits until its last commit is made.
    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// Ends the leases of the dead process, as time does, or the next process that opens the directory.
    pub async fn end_leases(&self) {
        let leases = std::mem::take(&mut *self.leases.lock().unwrap_or_else(PoisonError::into_inner));
        for lease in leases {
            // One that has ended already is what is wanted.
            let _ = self.store.lease_revoke(lease).await;
        }
    }

    async fn commit(&self, txn: Txn) -> Result<TxnResponse> {
        if self.dead.is_cancelled() {
            return pending().await;
        }
        let response = self.store.txn(txn).await?;
        if response.succeeded && self.commits.fetch_add(1, Ordering::Relaxed) + 1 >= self.crash_after {
            self.dead.cancel();
            return pending().await;
        }
        Ok(response)
    }
}

impl Store for CrashingStore {
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse>> {
        self.store.range(range)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(self.commit(txn))
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream>> {
        self.store.watch(watch)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.store.compact(revision)
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        Box::pin(async move {
            let lease = self.store.lease_grant(ttl).await?;
            self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(lease.id);
            Ok(lease)
        })
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        self.store.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            if self.dead.is_cancelled() {
                return pending().await;
            }
            self.store.lease_revoke(lease).await
        })
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<Incarnation>> {
        self.store.incarnation()
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.store.health()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        self.store.stats()
    }
}
