//! Durations, counted without locks: cumulative buckets for Prometheus, and quantiles over the last minute or so.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Upper bounds in seconds, as Prometheus shows them.
pub(crate) const BOUNDS: [f64; 16] =
    [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Default)]
pub(crate) struct Buckets {
    counts: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Buckets {
    pub(crate) fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(index) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[index].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros(duration), Ordering::Relaxed);
    }

    /// Counts up to each bound, the count of all, and the sum in seconds.
    pub(crate) fn read(&self) -> ([u64; BOUNDS.len()], u64, f64) {
        let mut total = 0;
        let cumulative = array::from_fn(|index| {
            total += self.counts[index].load(Ordering::Relaxed);
            total
        });
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        (cumulative, self.count.load(Ordering::Relaxed).max(total), sum)
    }
}

/// Each power of two is divided so often: quantiles are good to one part in 16.
const STEPS: usize = 16;
/// From 1 us to about 18 minutes.
const POWERS: usize = 30;
const CELLS: usize = STEPS * POWERS;

/// Two alternating halves; what is read spans both, so between one and two rotations.
#[derive(Debug)]
pub(crate) struct Window {
    halves: [Box<[AtomicU64]>; 2],
    current: AtomicUsize,
}

impl Default for Window {
    fn default() -> Self {
        let half = || (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { halves: [half(), half()], current: AtomicUsize::new(0) }
    }
}

impl Window {
    pub(crate) fn record(&self, duration: Duration) {
        self.halves[self.current.load(Ordering::Relaxed)][cell(micros(duration))].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the older half.
    pub(crate) fn rotate(&self) {
        let next = 1 - self.current.load(Ordering::Relaxed);
        self.halves[next].iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.current.store(next, Ordering::Relaxed);
    }

    /// The quantiles in microseconds, 0 where nothing was recorded.
    pub(crate) fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [u64; N] {
        let counts: Vec<u64> =
            (0..CELLS).map(|cell| self.halves.iter().map(|half| half[cell].load(Ordering::Relaxed)).sum()).collect();
        let total: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total.max(1));
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            found.filter(|_| total > 0).map_or(0, middle)
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn cell(micros: u64) -> usize {
    let value = micros.max(1);
    let power = value.ilog2() as usize;
    let step = (((value - (1 << power)) as u128 * STEPS as u128) >> power) as usize;
    (power * STEPS + step).min(CELLS - 1)
}

fn middle(cell: usize) -> u64 {
    let base = 1_u64 << (cell / STEPS);
    base + (base * (2 * (cell % STEPS) as u64 + 1)) / (2 * STEPS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_and_forget_after_two_rotations() {
        let window = Window::default();
        assert_eq!(window.quantiles([0.5, 0.99]), [0, 0]);
        for micros in 1..=10_000 {
            window.record(Duration::from_micros(micros));
        }
        let [p50, p99] = window.quantiles([0.5, 0.99]);
        assert!((4600..5400).contains(&p50), "{p50}");
        assert!((9200..10_600).contains(&p99), "{p99}");
        window.rotate();
        assert_ne!(window.quantiles([0.5]), [0]);
        window.rotate();
        assert_eq!(window.quantiles([0.5]), [0]);
        window.record(Duration::MAX);
        window.record(Duration::ZERO);
        assert_eq!(window.quantiles([0.1]), [1]);
    }

    #[test]
    fn buckets_are_cumulative() {
        let buckets = Buckets::default();
        for millis in [1, 40, 40, 100_000] {
            buckets.record(Duration::from_millis(millis));
        }
        let (cumulative, count, sum) = buckets.read();
        assert_eq!((cumulative[2], cumulative[7], cumulative[15], count), (1, 3, 3, 4));
        assert!((sum - 100.081).abs() < 1e-6);
    }
}
