//! Exponential back-off. Pure: jitter is the caller's.

use std::time::Duration;

/// Doubles from `first` up to `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub limit: Duration,
}

impl Backoff {
    /// What restarts a child process that ended: 100 ms, doubling to 30 s.
    pub const RESTART: Self = Self { first: Duration::from_millis(100), limit: Duration::from_secs(30) };
    /// What retries a region of a rollout: 1 s, doubling to 30 s.
    pub const REGION: Self = Self { first: Duration::from_secs(1), limit: Duration::from_secs(30) };
    /// What reconnects to another process: 50 ms, doubling to 2 s.
    pub const RECONNECT: Self = Self { first: Duration::from_millis(50), limit: Duration::from_secs(2) };

    /// How long to wait after `failures` failures in a row; the first failure waits `first`.
    pub fn after(self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        self.first.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(self.limit)
    }

    /// As [`Self::after`], cut by up to a half as `draw` says, a random number from 0 to 1: those who lost the same
    /// process do not all come back at once.
    pub fn spread(self, failures: u32, draw: f64) -> Duration {
        self.after(failures).mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit() {
        let waits: Vec<u128> = (0..12).map(|n| Backoff::RESTART.after(n).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(Backoff::RESTART.after(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn a_draw_spreads_the_wait_over_its_second_half() {
        let waits = [-1.0, 0.0, 0.5, 1.0, 9.0].map(|draw| Backoff::RESTART.spread(2, draw).as_millis());
        assert_eq!(waits, [100, 100, 150, 200, 200]);
        assert_eq!(Backoff::RESTART.spread(0, 1.0), Duration::ZERO);
    }
}
