//! Durations counted by bounds, without locks.

use std::{
    iter,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bounds for what takes from a quarter of a millisecond to half a minute, in seconds.
pub const SECONDS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A histogram as it is counted.
#[derive(Debug)]
pub struct Buckets {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

/// A histogram as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bounds in seconds, rising.
    pub bounds: &'static [f64],
    /// How many are at most as large as each bound.
    pub cumulative: Vec<u64>,
    pub count: u64,
    pub sum_seconds: f64,
}

impl Buckets {
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = iter::repeat_with(AtomicU64::default).take(bounds.len()).collect();
        Self { bounds, counts, count: AtomicU64::new(0), nanoseconds: AtomicU64::new(0) }
    }

    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(index) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.counts[index].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn read(&self) -> Distribution {
        let mut total = 0;
        let cumulative = self.counts.iter().map(|count| {
            total += count.load(Ordering::Relaxed);
            total
        });
        let cumulative = cumulative.collect();
        // The count may lag behind the buckets; a histogram must not shrink towards +Inf.
        let count = self.count.load(Ordering::Relaxed).max(total);
        let sum_seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Distribution { bounds: self.bounds, cumulative, count, sum_seconds }
    }
}
