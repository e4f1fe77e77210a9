//! What users saw, request by request, and what it comes to. No clock is read here.

use std::time::{Duration, Instant};

use http::StatusCode;

use crate::spread::quantile;

/// One request, from the moment when it was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub due: Instant,
    pub took: Duration,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Rightly; with the name of who served it, where the answer has one.
    Served(Option<String>),
    /// Answered with something else.
    Refused(StatusCode),
    /// Not answered, or not in time, or wrongly.
    Failed(String),
}

impl Sample {
    pub(crate) fn ended(&self) -> Instant {
        self.due + self.took
    }

    pub(crate) fn is_served(&self) -> bool {
        matches!(self.outcome, Outcome::Served(_))
    }

    /// Served by something whose name does not begin so.
    fn is_served_elsewhere(&self, place: &str) -> bool {
        matches!(&self.outcome, Outcome::Served(Some(by)) if !by.starts_with(place))
    }
}

/// Samples that were due in a span of time.
pub(crate) fn due(samples: &[Sample], from: Instant, to: Instant) -> Vec<Sample> {
    samples.iter().filter(|sample| from <= sample.due && sample.due < to).cloned().collect()
}

/// From a fault until the first answer came from elsewhere than the place that it struck.
pub(crate) fn first_elsewhere(samples: &[Sample], fault: Instant, struck: &str) -> Option<Duration> {
    let elsewhere = samples.iter().filter(|sample| sample.is_served_elsewhere(struck));
    elsewhere.map(Sample::ended).filter(|ended| *ended >= fault).min().map(|ended| ended - fault)
}

/// When all is well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Well<'a> {
    /// Requests are served within this time,
    pub slow: Duration,
    /// elsewhere than here, where a place was struck,
    pub struck: Option<&'a str>,
    /// all that become due for so long. What a busy machine does later is not the fault's.
    pub span: Duration,
}

impl Well<'_> {
    fn holds(&self, sample: &Sample) -> bool {
        let place = self.struck.is_none_or(|struck| sample.is_served_elsewhere(struck));
        sample.is_served() && place && sample.took <= self.slow
    }

    /// From a moment until the first answer of a span in which all is well. `None` if there was none.
    pub(crate) fn after(&self, samples: &[Sample], since: Instant) -> Option<Duration> {
        let mut later: Vec<&Sample> = samples.iter().filter(|sample| sample.due >= since).collect();
        later.sort_unstable_by_key(|sample| sample.due);
        let last = later.last()?.due;
        let mut begin = None;
        for sample in later {
            if !self.holds(sample) {
                begin = None;
                continue;
            }
            let first: &Sample = begin.get_or_insert(sample);
            if sample.due - first.due >= self.span {
                return Some(first.ended() - since);
            }
        }
        // At the end it may have been well for a shorter time.
        begin.filter(|first| last - first.due >= self.span / 2).map(|first| first.ended() - since)
    }
}

/// The longest time between two moments in which no good answer came.
pub(crate) fn longest_silence(samples: &[Sample], from: Instant, to: Instant) -> Duration {
    let served = samples.iter().filter(|sample| sample.is_served()).map(Sample::ended);
    let mut heard: Vec<Instant> = served.filter(|ended| (from..to).contains(ended)).chain([from, to]).collect();
    heard.sort_unstable();
    heard.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// How many were not served.
pub(crate) fn failures(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| !sample.is_served()).count()
}

/// The time of those that `wanted` picks, below which `share` (0 to 1) of them lie; `None` if there are none.
pub(crate) fn time_of(samples: &[Sample], share: f64, wanted: impl Fn(&Sample) -> bool) -> Option<Duration> {
    let mut times: Vec<Duration> = samples.iter().filter(|sample| wanted(sample)).map(|sample| sample.took).collect();
    times.sort_unstable();
    (!times.is_empty()).then(|| quantile(&times, share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn well(struck: Option<&str>) -> Well<'_> {
        Well { slow: ms(250), struck, span: ms(100) }
    }

    /// Requests that were due so many milliseconds after `start`, what they took, and who served them (`-`: nobody).
    fn samples(start: Instant, all: &[(u64, u64, &str)]) -> Vec<Sample> {
        let sample = |(due, took, by): &(u64, u64, &str)| Sample {
            due: start + ms(*due),
            took: ms(*took),
            outcome: match *by {
                "-" => Outcome::Failed("no answer".to_owned()),
                by => Outcome::Served(Some(by.to_owned())),
            },
        };
        all.iter().map(sample).collect()
    }

    #[test]
    fn a_move_is_over_when_the_last_request_went_astray() {
        let start = Instant::now();
        let all = [(0, 5, "us"), (100, 5, "-"), (200, 90, "eu"), (300, 5, "us"), (400, 5, "eu"), (500, 5, "eu")];
        let all = samples(start, &all);
        let fault = start + ms(100);
        assert_eq!(first_elsewhere(&all, fault, "us"), Some(ms(190)));
        assert_eq!(well(Some("us")).after(&all, fault), Some(ms(305)));
        // Where no place was struck, whoever serves is right.
        assert_eq!(well(None).after(&all, fault), Some(ms(190)));
        assert_eq!(failures(&all), 1);
    }

    #[test]
    fn slow_answers_are_not_well_and_what_ends_badly_never_is() {
        let start = Instant::now();
        let slow = samples(start, &[(0, 5, "us"), (100, 900, "eu"), (200, 800, "eu"), (300, 5, "eu"), (400, 5, "eu")]);
        assert_eq!(well(None).after(&slow, start), Some(ms(305)));
        let never = samples(start, &[(0, 5, "us"), (100, 5, "-")]);
        assert_eq!(well(None).after(&never, start), None);
        assert_eq!(first_elsewhere(&never, start, "us"), None);
    }

    #[test]
    fn a_later_hiccup_is_another_matter() {
        let start = Instant::now();
        let all = [(0, 5, "-"), (100, 5, "eu"), (200, 5, "eu"), (300, 5, "eu"), (400, 900, "eu"), (500, 5, "eu")];
        assert_eq!(well(None).after(&samples(start, &all), start), Some(ms(105)));
        assert_eq!(well(None).after(&samples(start, &all[3..]), start + ms(300)), None);
    }

    #[test]
    fn silence_lasts_to_the_next_good_answer_or_to_the_end() {
        let start = Instant::now();
        let all = samples(start, &[(0, 10, "us"), (100, 400, "us"), (200, 50, "-"), (600, 10, "us")]);
        assert_eq!(longest_silence(&all, start, start + ms(700)), ms(490));
        assert_eq!(longest_silence(&all, start, start + ms(2000)), ms(1390));
        assert_eq!(longest_silence(&[], start, start + ms(30)), ms(30));
    }

    #[test]
    fn times_are_of_those_that_are_meant() {
        let start = Instant::now();
        let all = samples(start, &[(0, 10, "us"), (100, 400, "us"), (200, 50, "-")]);
        assert_eq!(time_of(&all, 1.0, Sample::is_served), Some(ms(400)));
        assert_eq!(time_of(&all, 0.5, |sample| !sample.is_served()), Some(ms(50)));
        assert_eq!(time_of(&all[..1], 0.5, |sample| !sample.is_served()), None);
        assert_eq!(due(&all, start + ms(100), start + ms(200)).len(), 1);
    }
}
