//! Whether a disk has room for what comes: bundles, logs, and state that must be written before it is acknowledged.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::alert::Severity;

/// The room on one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskRoom {
    /// For who is not root.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Somebody should make room: less than a tenth is free, and less than this.
const SCARCE_BYTES: u64 = 10 << 30;
/// The next bundle may not fit: less than a fiftieth is free, and less than this.
const NEARLY_FULL_BYTES: u64 = 1 << 30;
/// Whatever its size, a disk with less than this is full: what is left is kept for logs and state.
const FULL_BYTES: u64 = 64 << 20;

impl DiskRoom {
    /// How bad it is, if it is.
    pub fn severity(&self) -> Option<Severity> {
        let Self { free_bytes: free, total_bytes: total } = *self;
        if free < FULL_BYTES || (free < total / 50 && free < NEARLY_FULL_BYTES) {
            return Some(Severity::Critical);
        }
        (free < total / 10 && free < SCARCE_BYTES).then_some(Severity::Warning)
    }

    /// `3.2 GB of 100.0 GB free`
    pub fn summary(&self) -> String {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        format!("{:.1} GB of {:.1} GB free", gigabytes(self.free_bytes), gigabytes(self.total_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_share_and_by_size() {
        let check = |free_megabytes: u64, total_megabytes: u64, expected| {
            let room = DiskRoom { free_bytes: free_megabytes << 20, total_bytes: total_megabytes << 20 };
            assert_eq!(room.severity(), expected, "{room:?}");
        };
        check(50_000, 100_000, None);
        check(9_000, 100_000, Some(Severity::Warning));
        check(900, 100_000, Some(Severity::Critical));
        // A twentieth of a large disk is plenty.
        check(50_000, 1_000_000, None);
        check(9_000, 1_000_000, Some(Severity::Warning));
        check(63, 128, Some(Severity::Critical));
        check(100, 128, None);
    }
}
