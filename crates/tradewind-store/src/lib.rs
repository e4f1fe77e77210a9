//! The store: one watchable, revisioned key-value space, the part of etcd's contract that every backend keeps.
//!
//! - Every transaction that changes something gets the next [`Revision`], exactly one; a transaction that changes
//!   nothing gets none. Transactions are flat (compares, then operations) and happen one after the other.
//! - Each key carries the revision that created it, the one that last changed it, and how many changes it has seen
//!   since it was created (`version`).
//! - Reads are of one revision, now or pinned in the past ([`Range::at`]), until [`Store::compact`] takes it away.
//! - A watch is ordered and resumable: every revision that touched its prefix, once, whole, from any revision that is
//!   not compacted. One that is ends the watch with [`Error::Compacted`]; list again at one pinned revision, and
//!   watch from the next. [`list_then_watch`] does it for you.
//! - A lease ends when it is not kept alive, and takes the keys attached to it along, in one revision. A lease alone
//!   does not exclude: guard what its holder writes by the create revision of a key attached to it.
//!
//! What is refused is refused by every backend alike, with the limits of this crate, which are etcd's or below.
//! This crate knows nothing of what is stored. [`SqliteStore`] is the embedded backend; `conformance` holds the cases
//! that each backend passes.

mod error;
mod follow;
mod lease;
mod range;
mod revision;
mod sqlite;
mod txn;
mod watch;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;

pub use error::Error;
pub use follow::{Update, list_then_watch};
pub use lease::{Lease, LeaseId, MAX_LEASE_TTL, MAX_LEASES, MIN_LEASE_TTL};
pub use range::{
    KeyValue, Listing, MAX_KEY_BYTES, MAX_PAGE_BYTES, MAX_PAGE_KEYS, Range, RangeResponse, Selector, Want,
};
pub use revision::{Incarnation, Revision};
pub use sqlite::{DEFAULT_MAX_BYTES, DEFAULT_RETAINED_REVISIONS, OpenError, SqliteOptions, SqliteStore};
pub use txn::{Compare, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Relation, Target, Txn, TxnResponse};
pub use watch::{Batch, Event, Watch, WatchStream};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A backend. Futures are boxed so that `Arc<dyn Store>` works.
///
/// A future that is dropped before it is ready leaves its outcome unknown: a transaction may still happen.
pub trait Store: Debug + Send + Sync + 'static {
    /// Reads one key, or one page of a prefix, in the order of the keys' bytes.
    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse>>;

    /// Compares and, if all compares hold, applies all operations in one revision. It is durable when this returns.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>>;

    /// Opens a watch. A compacted starting point is reported by the stream.
    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream>>;

    /// Forgets what was replaced or deleted at or before `revision`: reads pinned before it, and watches from it or
    /// from before it, end with [`Error::Compacted`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>>;

    /// Starts a lease of at least `ttl`; the answer says how long it is.
    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>>;

    /// Starts the lease's time anew. [`Error::LeaseNotFound`] means that its keys are gone or going.
    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Lease>>;

    /// Ends the lease now and deletes its keys in one revision.
    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<()>>;

    /// Which life of the data this is: random, made with the database, and made anew when a snapshot is restored,
    /// because then revisions go back. Revisions of different incarnations are not comparable.
    fn incarnation(&self) -> BoxFuture<'_, Result<Incarnation>>;

    /// Whether the store answers.
    fn health(&self) -> BoxFuture<'_, Result<()>>;

    /// What the store cost so far.
    fn stats(&self) -> BoxFuture<'_, Result<Stats>>;

    /// The key as it is now.
    fn get<'a>(&'a self, key: &str) -> BoxFuture<'a, Result<Option<KeyValue>>> {
        let range = Range::key(key);
        Box::pin(async move { Ok(self.range(range).await?.kvs.pop()) })
    }

    /// Every key under the prefix, all as of one revision.
    fn list<'a>(&'a self, prefix: &str) -> BoxFuture<'a, Result<Listing>> {
        let mut range = Range::prefix(prefix);
        Box::pin(async move {
            let mut page = self.range(range.clone()).await?;
            let revision = page.revision;
            let mut kvs = std::mem::take(&mut page.kvs);
            while page.more {
                range = range.at(revision).after(&kvs.last().expect("a page with more to come has a key").key);
                page = self.range(range.clone()).await?;
                kvs.append(&mut page.kvs);
            }
            Ok(Listing { revision, kvs })
        })
    }
}

/// What a store cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Transactions that changed something, since this handle was opened; ends of leases are among them.
    pub transactions: u64,
    /// Bytes that hold data at the moment, history included.
    pub bytes: u64,
}
