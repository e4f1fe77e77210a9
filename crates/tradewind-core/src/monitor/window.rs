//! Counts over sliding windows, in buckets that are the coarser the older they are.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::evidence::Tally;

/// A bucket's length in seconds, and how many are kept: half an hour, six hours, three days.
const TIERS: [(i64, i64); 3] = [(10, 180), (60, 360), (1800, 144)];

/// The counts of three days. Times are seconds of the Unix epoch, and do not go back: what comes from before the newest
/// bucket is added to that.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Windows {
    /// One list for each tier, oldest first; each bucket by the number of its length since the epoch.
    tiers: [VecDeque<(i64, Tally)>; 3],
}

impl Windows {
    pub fn add(&mut self, now: i64, tally: Tally) {
        if tally.is_empty() {
            return;
        }
        for ((length, keep), buckets) in TIERS.into_iter().zip(&mut self.tiers) {
            let newest = buckets.back().map(|(number, _)| *number);
            let number = newest.unwrap_or(i64::MIN).max(now.div_euclid(length));
            if newest == Some(number) {
                buckets.back_mut().into_iter().for_each(|(_, sum)| *sum += tally);
            } else {
                buckets.push_back((number, tally));
            }
            while buckets.front().is_some_and(|(oldest, _)| *oldest <= number - keep) {
                buckets.pop_front();
            }
        }
    }

    /// What was counted in the window that ends now, as exactly as the finest buckets that reach so far back.
    pub fn over(&self, now: i64, window: Duration) -> Tally {
        let seconds = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let fitting = TIERS.into_iter().zip(&self.tiers).find(|((length, keep), _)| length * keep >= seconds);
        let Some(((length, _), buckets)) = fitting.or_else(|| TIERS.into_iter().zip(&self.tiers).next_back()) else {
            return Tally::default();
        };
        let since = now.saturating_sub(seconds).div_euclid(length);
        let mut sum = Tally::default();
        buckets.iter().rev().take_while(|(number, _)| *number > since).for_each(|(_, tally)| sum += *tally);
        sum
    }

    /// For how long there have been counts, to one of the coarsest buckets.
    pub fn history(&self, now: i64) -> Duration {
        let [.., (length, _)] = TIERS;
        let [.., coarsest] = &self.tiers;
        let oldest = coarsest.front().map_or(now, |(oldest, _)| oldest * length);
        Duration::from_secs(u64::try_from(now - oldest).unwrap_or(0))
    }

    /// Nothing was counted for as long as counts are kept.
    pub fn is_empty(&self, now: i64) -> bool {
        let [.., (length, keep)] = TIERS;
        let [.., coarsest] = &self.tiers;
        coarsest.back().is_none_or(|(newest, _)| *newest <= now.div_euclid(length) - keep)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests(requests: u64) -> Tally {
        Tally { requests, ..Tally::default() }
    }

    #[test]
    fn windows_forget_what_is_older() {
        let mut windows = Windows::default();
        let check = |windows: &Windows, now, minutes: u64, expected| {
            assert_eq!(
                windows.over(now, Duration::from_secs(minutes * 60)).requests,
                expected,
                "{minutes} min at {now}"
            );
        };
        windows.add(0, requests(1));
        windows.add(1000, requests(10));
        check(&windows, 1000, 5, 10);
        check(&windows, 1000, 30, 11);
        check(&windows, 1299, 5, 10);
        check(&windows, 1310, 5, 0);
        check(&windows, 1310, 60, 11);
        assert_eq!(
            (windows.history(4000), Windows::default().history(4000)),
            (Duration::from_secs(4000), Duration::ZERO)
        );
        check(&windows, 5000, 60, 0);
        check(&windows, 5000, 360, 11);
        check(&windows, 3 * 86_400 - 1800, 3 * 1440, 11);
        assert!(!windows.is_empty(3 * 86_400 - 1800));
        check(&windows, 4 * 86_400, 3 * 1440, 0);
        assert!(windows.is_empty(4 * 86_400) && Windows::default().is_empty(0));
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut windows = Windows::default();
        windows.add(10_000, requests(1));
        windows.add(5000, requests(2));
        assert_eq!(windows.over(10_000, Duration::from_secs(300)).requests, 3);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut windows = Windows::default();
        (0..400_000).step_by(7).for_each(|now| windows.add(now, requests(1)));
        let lengths = windows.tiers.each_ref().map(VecDeque::len);
        assert!(lengths.iter().zip(TIERS).all(|(length, (_, keep))| *length <= keep as usize), "{lengths:?}");
    }

    proptest! {
        #[test]
        fn a_window_counts_what_lies_in_it_to_one_bucket(times in proptest::collection::vec(0_i64..20_000, 1..200)) {
            let mut times = times;
            times.sort_unstable();
            let mut windows = Windows::default();
            times.iter().for_each(|at| windows.add(*at, requests(1)));
            let now = times[times.len() - 1];
            for (seconds, bucket) in [(300, 10), (1800, 10), (3600, 60), (21_600, 60)] {
                let within = |age: i64| times.iter().filter(|at| now - **at < age).count() as u64;
                let counted = windows.over(now, Duration::from_secs(seconds as u64)).requests;
                prop_assert!(within(seconds - bucket) <= counted && counted <= within(seconds + bucket));
            }
        }
    }
}
