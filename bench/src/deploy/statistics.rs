//! What the samples of one way to deploy come to.

use super::sample::Sample;
use crate::spread::Spread;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub transactions: Spread,
    pub stored_bytes: Spread,
    pub resident_bytes: Spread,
    pub cpu_ms: Spread,
    pub wall_ms: Spread,
}

impl Summary {
    /// # Panics
    /// If there are no samples.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect());
        Self {
            transactions: spread(|sample| sample.transactions),
            stored_bytes: spread(|sample| sample.stored_bytes),
            resident_bytes: spread(|sample| sample.resident_bytes),
            cpu_ms: spread(|sample| sample.cpu_ms),
            wall_ms: spread(|sample| sample.wall_ms),
        }
    }
}
