//! How much may be tried again: a share of what is asked, so that retries cannot multiply an overload.

use std::time::Duration;

/// A retry for every five requests.
const SHARE: i64 = 5;
/// And so many a second whatever is asked.
const EACH_SECOND: i64 = 3;
/// What is saved up at most, in retries: ten seconds' worth of a thousand requests a second.
const SAVED_LIMIT: i64 = 2000;
/// Counted in parts of a retry, so that a request can pay in a fifth.
const PARTS: i64 = 1000;

/// A budget of retries. It holds no clock: who keeps it tells how much time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    parts: i64,
}

impl Default for Budget {
    /// A few, for who has just started.
    fn default() -> Self {
        Self { parts: EACH_SECOND * PARTS }
    }
}

impl Budget {
    /// A request was asked for the first time.
    pub fn deposit(&mut self) {
        self.add(PARTS / SHARE);
    }

    /// Time has passed. The floor is not saved up: it is there only for who asks little.
    pub fn pass(&mut self, time: Duration) {
        let floor = EACH_SECOND * PARTS;
        if self.parts < floor {
            let earned = i64::try_from(time.as_millis()).unwrap_or(floor).saturating_mul(EACH_SECOND);
            self.parts = (self.parts + earned).min(floor);
        }
    }

    /// Whether one more may be tried again.
    pub fn withdraw(&mut self) -> bool {
        let pays = self.parts >= PARTS;
        if pays {
            self.parts -= PARTS;
        }
        pays
    }

    fn add(&mut self, parts: i64) {
        self.parts = (self.parts + parts).min(SAVED_LIMIT * PARTS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_a_second_without_any_traffic() {
        let mut budget = Budget::default();
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
        budget.pass(Duration::from_millis(400));
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 1);
        budget.pass(Duration::from_secs(3600));
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3, "the floor is not saved up");
    }

    proptest! {
        #[test]
        fn never_more_than_a_fifth_and_the_floor(requests in 0_u32..5000, seconds in 0_u32..10, tries in 0_u32..5000) {
            let mut budget = Budget::default();
            (0..requests).for_each(|_| budget.deposit());
            budget.pass(Duration::from_secs(seconds.into()));
            let granted = (0..tries).filter(|_| budget.withdraw()).count() as u32;
            prop_assert_eq!(granted, tries.min((requests / 5 + 3).min(2000)));
        }
    }
}
