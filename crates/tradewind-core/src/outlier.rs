//! Which replicas are left out because their answers are bad, though they answer their probes.
//!
//! Only what users' requests show counts here; a replica that is silent is found by probes and by connections that
//! fail. Those are facts and have no cap; this is a suspicion and has one.

use std::time::Duration;

use crate::backoff::Backoff;

/// So many failures in a row eject.
pub const CONSECUTIVE_FAILURES: u32 = 5;
/// A share of failures ejects when there were at least so many answers in a window.
pub const WINDOW_ANSWERS: u64 = 20;
/// The share of failures within a window that ejects.
pub const WINDOW_FAILURES: f64 = 0.5;
/// How often that share is looked at.
pub const WINDOW: Duration = Duration::from_secs(5);
/// The first ejection lasts a second, the next ones twice as long each; after half a minute a replica that still
/// fails is worth one request every half a minute, not less.
const EJECTION: Backoff = Backoff { first: Duration::from_secs(1), limit: Duration::from_secs(30) };
/// Jitter takes away up to this share, so that gateways do not all return at once.
const JITTER: f64 = 0.3;

/// How long the `times`-th ejection in a row lasts; `jitter` is from 0 to 1.
pub fn ejection(times: u32, jitter: f64) -> Duration {
    EJECTION.after(times.max(1)).mul_f64(1.0 - JITTER * jitter.clamp(0.0, 1.0))
}

/// Whether one more of `group` may be ejected when `ejected` already are: never more than half, and a lone replica
/// stays, because a bad answer is better than none.
pub fn may_eject(ejected: usize, group: usize) -> bool {
    (ejected + 1) * 2 <= group
}

/// Whether the answers of one window eject.
pub fn failing(answers: u64, failures: u64) -> bool {
    answers >= WINDOW_ANSWERS && failures as f64 >= answers as f64 * WINDOW_FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_and_end() {
        let seconds: Vec<f64> = (1..8).map(|times| ejection(times, 0.0).as_secs_f64()).collect();
        assert_eq!(seconds, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert!((ejection(1, 1.0).as_secs_f64() - 0.7).abs() < 1e-9);
    }

    #[test]
    fn at_most_half_are_ejected() {
        let most = |group| (0..group).take_while(|ejected| may_eject(*ejected, group)).count();
        assert_eq!([0, 1, 2, 3, 4, 9].map(most), [0, 0, 1, 1, 2, 4]);
    }

    #[test]
    fn a_share_of_failures_counts_only_with_enough_answers() {
        assert!(!failing(19, 19));
        assert!(failing(20, 10));
        assert!(!failing(1000, 499));
    }
}
