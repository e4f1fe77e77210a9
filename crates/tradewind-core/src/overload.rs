//! How many requests a replica should have in flight at once, where nobody has said it.

use std::time::Duration;

/// A replica that has not answered yet may have so many: a slow one must not be held to a few for as long as it takes
/// to see what it can do.
pub const UNKNOWN: u32 = 256;
/// A replica may always have so many.
pub const LEAST: u32 = 16;
/// And never more.
pub const MOST: u32 = 4096;
/// What may wait in a replica beyond what it works on, in time.
const QUEUE: Duration = Duration::from_millis(250);
/// How much of the usual rate is remembered after a second without as many requests.
const FADING: f64 = 0.9;

/// How many times what is still free one model may have, at least.
const EAGERNESS: u32 = 4;

/// Whether one more request of a model is taken, `own` of which are under way already, where `all` models together have
/// `all` and at most `limit`.
///
/// A model may have a multiple of what is free, so nobody needs to know who else is there (dynamic thresholds, Choudhury
/// and Hahne, 1998): one alone gets four fifths, two that both ask without end four ninths each, and so on, and something
/// is always left for a model that begins to ask. Who has more than its part when others come gets no more until its
/// part is larger than what it has.
pub fn takes(own: u32, all: u32, limit: u32) -> bool {
    own < limit.saturating_sub(all).saturating_mul(EAGERNESS)
}

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
    use proptest::{collection, prelude::*};

    use super::*;

    const LIMIT: u32 = 1000;

    /// What models have that ask for as much as this, in turn.
    fn filled(had: &mut [u32], wanted: &[u32]) {
        while let Some(model) = (0..had.len())
            .filter(|&model| had[model] < wanted[model] && takes(had[model], had.iter().sum(), LIMIT))
            .min_by_key(|&model| had[model])
        {
            had[model] += 1;
        }
    }

    #[test]
    fn who_asks_without_end_gets_equal_parts() {
        for (models, part) in [(1, 800), (2, 444), (3, 307), (10, 97)] {
            let mut had = vec![0; models];
            filled(&mut had, &vec![u32::MAX; models]);
            assert!(had.iter().all(|had| had.abs_diff(part) <= 4), "{models} models: {had:?}");
        }
    }

    proptest! {
        #[test]
        fn who_asks_for_less_than_its_part_gets_it_whatever_others_do(
            greedy in collection::vec(0..LIMIT, 1..8),
            small in 1..100_u32,
        ) {
            let mut had = vec![0; greedy.len() + 1];
            let mut wanted = greedy.clone();
            wanted.push(0);
            filled(&mut had, &wanted);
            let before: u32 = had.iter().sum();
            prop_assert!(before < LIMIT);
            // It comes last, when all others have what they could get.
            let part = (LIMIT - before) * EAGERNESS / (EAGERNESS + 1);
            wanted[greedy.len()] = small.min(part);
            filled(&mut had, &wanted);
            prop_assert_eq!(had[greedy.len()], small.min(part));
            prop_assert!(part > 0);
        }
    }

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
