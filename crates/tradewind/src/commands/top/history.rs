//! The last minutes of each model, as sparklines show them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tradewind_core::{ModelName, Timestamp};

/// So many bars are kept.
pub(super) const BARS: usize = 60;
/// A bar stands for no less: five minutes in all.
const SHORTEST_BAR: Duration = Duration::from_secs(5);

/// What one look says of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) p99_us: Option<u64>,
}

impl Sample {
    /// The highest of both.
    fn merge(self, other: Self) -> Self {
        Self {
            requests_per_second: self.requests_per_second.max(other.requests_per_second),
            errors_per_second: self.errors_per_second.max(other.errors_per_second),
            p99_us: self.p99_us.max(other.p99_us),
        }
    }
}

/// Bars of equal length, by model. Time without a look has no bar.
#[derive(Debug)]
pub(super) struct History {
    bar_seconds: i64,
    models: BTreeMap<ModelName, VecDeque<(i64, Sample)>>,
}

impl History {
    /// Bars are long enough that each has a look at least, where looks are `interval` apart.
    pub(super) fn new(interval: Duration) -> Self {
        let bar = SHORTEST_BAR.max(interval * 2).as_secs_f64().ceil();
        Self { bar_seconds: bar as i64, models: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, model: &ModelName, at: Timestamp, sample: Sample) {
        let bar = self.bar(at);
        let bars = self.models.entry(model.clone()).or_default();
        match bars.back_mut() {
            // A clock that was set back adds to the newest bar until it has caught up.
            Some((newest, highest)) if *newest >= bar => *highest = highest.merge(sample),
            _ => bars.push_back((bar, sample)),
        }
        if bars.len() > BARS {
            bars.pop_front();
        }
    }

    /// Forgets the models that are not deployed any more.
    pub(super) fn retain(&mut self, deployed: impl Fn(&ModelName) -> bool) {
        self.models.retain(|model, _| deployed(model));
    }

    /// The newest `count` bars, oldest first; nothing where nobody looked.
    pub(super) fn bars(&self, model: &ModelName, now: Timestamp, count: usize) -> Vec<Option<Sample>> {
        let bars = self.models.get(model);
        let newest = bars.and_then(VecDeque::back).map_or(0, |(bar, _)| *bar).max(self.bar(now));
        let oldest = newest - count.min(BARS) as i64 + 1;
        let find = |bar| bars?.iter().find(|(at, _)| *at == bar).map(|(_, sample)| *sample);
        (oldest..=newest).map(find).collect()
    }

    /// The time that so many bars stand for.
    pub(super) fn span(&self, bars: usize) -> Duration {
        Duration::from_secs(self.bar_seconds.unsigned_abs() * bars.min(BARS) as u64)
    }

    fn bar(&self, at: Timestamp) -> i64 {
        at.as_second().div_euclid(self.bar_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn digits() -> ModelName {
        "digits".parse().unwrap()
    }

    fn requests(per_second: f64) -> Sample {
        Sample { requests_per_second: per_second, ..Sample::default() }
    }

    fn shown(history: &History, now: i64, count: usize) -> Vec<Option<f64>> {
        let bars = history.bars(&digits(), at(now), count);
        bars.into_iter().map(|bar| bar.map(|sample| sample.requests_per_second)).collect()
    }

    #[test]
    fn a_bar_is_the_highest_of_its_time_and_a_gap_stays_a_gap() {
        let mut history = History::new(Duration::from_secs(1));
        for (second, per_second) in [(100, 3.0), (101, 7.0), (104, 5.0), (105, 1.0), (117, 2.0)] {
            history.add(&digits(), at(second), requests(per_second));
        }
        assert_eq!(shown(&history, 119, 4), [Some(7.0), Some(1.0), None, Some(2.0)]);
        assert_eq!(shown(&history, 125, 3), [Some(2.0), None, None]);
        history.retain(|_| false);
        assert_eq!(shown(&history, 119, 2), [None, None]);
    }

    #[test]
    fn it_stays_as_long_whatever_the_clock_does() {
        let mut history = History::new(Duration::from_secs(30));
        assert_eq!(history.span(BARS), Duration::from_secs(3600));
        for second in (0..20_000).step_by(30).chain([5, 20_010]) {
            history.add(&digits(), at(second), requests(1.0));
        }
        let bars = shown(&history, 20_010, usize::MAX);
        assert_eq!(bars.len(), BARS);
        assert!(bars.iter().all(Option::is_some), "{bars:?}");
    }
}
