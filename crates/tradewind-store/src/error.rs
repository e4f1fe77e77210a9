//! Why a store refuses or fails.

use std::error::Error as StdError;

use crate::{
    LeaseId, Revision,
    lease::MAX_LEASES,
    range::MAX_KEY_BYTES,
    txn::{MAX_TXN_BYTES, MAX_TXN_OPS},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a key may not be empty")]
    EmptyKey,
    #[error("a key has at most {MAX_KEY_BYTES} bytes, this one has {bytes}")]
    KeyTooLong { bytes: usize },
    #[error("a transaction has at most {MAX_TXN_OPS} compares and as many operations, this one has {count}")]
    TooManyOps { count: usize },
    #[error("a transaction has at most {MAX_TXN_BYTES} bytes, this one has {bytes}")]
    TxnTooLarge { bytes: usize },
    #[error("key `{key}` is changed twice in one transaction")]
    DuplicateKey { key: String },
    #[error("the revision asked for is compacted, the oldest one kept is {compact_revision}")]
    Compacted { compact_revision: Revision },
    #[error("revision {asked} is in the future, the store is at {current}")]
    FutureRevision { asked: Revision, current: Revision },
    #[error("lease {0} does not exist or has ended")]
    LeaseNotFound(LeaseId),
    #[error("a store has at most {MAX_LEASES} leases")]
    TooManyLeases,
    /// Nothing was changed, and the store lives on.
    #[error("the store is full")]
    DiskFull,
    #[error("the store is closed")]
    Closed,
    /// The backend failed while it attempted this. Reads can be tried again; what a transaction did is unknown.
    #[error("the store failed to {attempted}")]
    Backend { attempted: &'static str, source: Box<dyn StdError + Send + Sync> },
}

impl Error {
    /// Whether the same call may succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Backend { .. } | Self::TooManyLeases)
    }
}
