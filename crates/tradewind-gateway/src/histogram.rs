//! Durations, counted without locks.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tradewind_core::histogram::{CELLS, Histogram, cell};

#[derive(Debug)]
pub(crate) struct Durations {
    cells: Box<[AtomicU64; CELLS]>,
    sum_us: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { cells: Box::new(array::from_fn(|_| AtomicU64::new(0))), sum_us: AtomicU64::new(0) }
    }
}

impl Durations {
    pub(crate) fn record(&self, duration: Duration) {
        self.cells[cell(duration)].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        Histogram::of(array::from_fn(|cell| self.cells[cell].load(Ordering::Relaxed)))
    }

    /// Of all durations, in microseconds.
    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_and_summed() {
        let durations = Durations::default();
        for millis in [1, 40, 40, 100_000] {
            durations.record(Duration::from_millis(millis));
        }
        let histogram = durations.read();
        let within = |millis| histogram.within(Duration::from_millis(millis));
        assert_eq!((within(1), within(50), within(30_000), histogram.count()), (1, 3, 3, 4));
        assert_eq!(durations.sum_us(), 100_081_000);
    }
}
