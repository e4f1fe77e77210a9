//! What was counted of a revision in a region in some span of time.

use std::{ops::AddAssign, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Monitors, statistics};
use crate::histogram::Histogram;

/// Requests of users that the region answered, and golden cases that its agent asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub requests: u64,
    /// Answered with a failure of the server's.
    pub failed: u64,
    /// Slower than the objective.
    pub slow: u64,
    /// Golden cases asked.
    pub cases: u64,
    /// Those that were answered wrongly.
    pub wrong: u64,
    /// Those that were not answered.
    pub unanswered: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = self.with(other, u64::saturating_add);
    }
}

impl Tally {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What came since `before`, an earlier state of the same counts.
    pub fn since(&self, before: &Self) -> Self {
        self.with(*before, u64::saturating_sub)
    }

    fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            failed: combine(self.failed, other.failed),
            slow: combine(self.slow, other.slow),
            cases: combine(self.cases, other.cases),
            wrong: combine(self.wrong, other.wrong),
            unanswered: combine(self.unanswered, other.unanswered),
        }
    }
}

/// An objective: how much of what may be bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    pub kind: ObjectiveKind,
    /// The share that may be bad: 0.001 of availability 0.999.
    pub budget: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectiveKind {
    Availability,
    Latency,
}

impl Objective {
    /// `bad` of `total`.
    pub fn counts(&self, tally: &Tally) -> (u64, u64) {
        match self.kind {
            ObjectiveKind::Availability => (tally.failed, tally.requests),
            ObjectiveKind::Latency => (tally.slow, tally.requests),
        }
    }

    /// How many times faster than allowed the budget is spent; `None` without requests.
    pub fn burn(&self, tally: &Tally) -> Option<f64> {
        let (bad, total) = self.counts(tally);
        (total > 0).then(|| bad as f64 / total as f64 / self.budget)
    }

    /// Whether the counts prove that it is spent more than `factor` times faster than allowed. A generous budget cannot be
    /// spent that fast; then half of what lies between the budget and everything is too much.
    pub fn burns(&self, tally: &Tally, factor: f64) -> bool {
        let (bad, total) = self.counts(tally);
        let most = f64::midpoint(self.budget, 1.0);
        statistics::exceeds(bad, total, (factor * self.budget).min(most))
    }
}

impl Monitors {
    pub fn objectives(&self) -> Vec<Objective> {
        let availability = Objective { kind: ObjectiveKind::Availability, budget: 1.0 - self.availability };
        let latency = |share: f64| Objective { kind: ObjectiveKind::Latency, budget: 1.0 - share };
        std::iter::once(availability).chain(self.latency.map(|latency_of| latency(latency_of.share))).collect()
    }

    /// How many of these durations miss the objective.
    pub fn slow(&self, durations: &Histogram) -> u64 {
        self.latency.map_or(0, |latency| durations.slower_than(latency.within.duration()))
    }
}

/// A span of time in full: what was counted, and how long answers took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    pub tally: Tally,
    pub durations: Histogram,
}

impl Evidence {
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        self.durations.quantile(quantile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generous_budget_can_be_spent_too_fast_too() {
        let objective = Objective { kind: ObjectiveKind::Availability, budget: 0.1 };
        let check = |failed, expected| {
            let tally = Tally { requests: 1000, failed, ..Tally::default() };
            assert_eq!(objective.burns(&tally, 14.4), expected, "{failed}");
        };
        check(500, false);
        check(1000, true);
    }
}
