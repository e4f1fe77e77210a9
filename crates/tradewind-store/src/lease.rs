//! Leases: keys that live as long as someone says so.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Shorter leases are lengthened to this.
pub const MIN_LEASE_TTL: Duration = Duration::from_secs(1);
/// Longer leases are shortened to this.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Leases are for processes, not for data.
pub const MAX_LEASES: usize = 10_000;

/// Random, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(u64);

impl LeaseId {
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// The time from the last sign of life to the end.
    pub ttl: Duration,
}
