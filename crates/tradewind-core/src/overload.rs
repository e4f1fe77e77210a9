//! How many requests a replica should have in flight at once, where nobody has said it.

use std::time::Duration;

/// A replica may always have so many.
pub const LEAST: u32 = 16;
/// And never more.
pub const MOST: u32 = 4096;
/// What may wait in a replica beyond what it works on, in time.
const QUEUE: Duration = Duration::from_millis(250);
/// How much of the usual rate is remembered after a second without as many requests.
const FADING: f64 = 0.9;

/// A rate of answers per second that follows a rise at once and a fall slowly: an idle minute does not make a replica
/// slow.
pub fn rate(before: f64, this_second: f64) -> f64 {
    this_second.max(before * FADING)
}

/// By Little's law a replica that gives `per_second` answers, the fastest of them in `fastest`, works on their product
/// at once. Twice that lets it show that it can do more; what is beyond only waits, and may wait a quarter of a second.
pub fn limit(per_second: f64, fastest: Duration) -> u32 {
    let at_once = per_second * (2.0 * fastest.as_secs_f64() + QUEUE.as_secs_f64());
    // The cast saturates.
    (at_once.ceil() as u32).clamp(LEAST, MOST)
}

/// The share of its users that a region serves itself while `ready` of `desired` replicas are ready: a few may be
/// missing without anybody having to go (Envoy's factor 1.4).
pub fn share(ready: u32, desired: u32) -> f64 {
    if desired == 0 { 1.0 } else { (1.4 * f64::from(ready) / f64::from(desired)).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that a replica ends at which does up to `parallel` requests at once, each in `latency`, and is always
    /// asked more than it can do.
    fn settled(parallel: u32, latency: Duration) -> u32 {
        let mut settled = LEAST;
        let mut usual = 0.0;
        for _second in 0..100 {
            usual = rate(usual, f64::from(settled.min(parallel)) / latency.as_secs_f64());
            settled = limit(usual, latency);
        }
        settled
    }

    #[test]
    fn the_limit_finds_what_a_replica_can_do() {
        for (parallel, latency_ms, expected) in [
            // 10,000 a second: a quarter of a second of them.
            (1, 1, 252..=252),
            (10, 1, 2520..=2520),
            // A slow one that does many at once: twice as many, and a little.
            (100, 1000, 225..=225),
            (100, 30_000, 201..=201),
            (1, 1000, LEAST..=LEAST),
        ] {
            let settled = settled(parallel, Duration::from_millis(latency_ms));
            assert!(expected.contains(&settled), "{parallel} at once in {latency_ms} ms: {settled}");
        }
    }

    #[test]
    fn a_rate_fades_slowly() {
        let after_a_quiet_second = rate(100.0, 0.0);
        assert!((after_a_quiet_second - 90.0).abs() < 1e-9);
        assert!((rate(after_a_quiet_second, 300.0) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn a_region_serves_its_share() {
        let shares = [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4), (1, 0)].map(|(ready, desired)| share(ready, desired));
        for (share, expected) in shares.iter().zip([0.0, 0.35, 0.7, 1.0, 1.0, 1.0]) {
            assert!((share - expected).abs() < 1e-9, "{shares:?}");
        }
    }
}
