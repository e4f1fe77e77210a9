//! What one spike came to.

use std::{
    fmt,
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::samples::{Outcome, Sample, Well, due, time_of};

/// What takes longer is not well again: five times what a request takes where nobody waits.
const SLOW: Duration = Duration::from_millis(250);
/// So long it has to be well.
const SPAN: Duration = Duration::from_secs(1);
/// Of the time before the spike, this much is left out: connections are opened then.
const WARM_UP: Duration = Duration::from_secs(1);

/// All requests around a spike.
#[derive(Debug)]
pub(super) struct Taken {
    /// What the upstreams can do, in requests per second.
    pub peak: f64,
    pub began: Instant,
    pub ended: Instant,
    /// Of those who ask all the time, and of those who come with the spike.
    pub usual: Vec<Sample>,
    pub extra: Vec<Sample>,
    /// By how much the users themselves were late at most.
    pub late: Duration,
}

/// Rates are in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub peak: f64,
    pub before: f64,
    pub during: f64,
    pub after: f64,
    /// Of what was due in the spike: how long the served, and the refused, took.
    pub served: Quantiles,
    pub refused: Quantiles,
    /// Those that had no answer in time, or a wrong one.
    pub failed: usize,
    pub asked: usize,
    /// From the end of the spike.
    pub recovery: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantiles {
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Figures {
    pub(super) fn of(taken: &Taken, time: Duration) -> Self {
        let Taken { peak, began, ended, usual, extra, .. } = taken;
        let all = [usual.as_slice(), extra.as_slice()].concat();
        let spike = due(&all, *began, *ended);
        let refused = |sample: &Sample| matches!(sample.outcome, Outcome::Refused(StatusCode::SERVICE_UNAVAILABLE));
        Self {
            peak: *peak,
            before: goodput(&all, *began - time + WARM_UP.min(time / 2), *began),
            during: goodput(&all, *began, *ended),
            after: goodput(&all, *ended, *ended + time),
            served: Quantiles::of(&spike, Sample::is_served),
            refused: Quantiles::of(&spike, refused),
            failed: spike.iter().filter(|sample| !sample.is_served() && !refused(sample)).count(),
            asked: spike.len(),
            recovery: Well { slow: SLOW, struck: None, span: SPAN }.after(usual, *ended),
        }
    }
}

impl Quantiles {
    fn of(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> Self {
        Self { p50: time_of(samples, 0.5, &wanted), p99: time_of(samples, 0.99, &wanted) }
    }
}

/// Good answers that came in a span of time, per second. Users give up at their deadline, so all of them were in time.
fn goodput(samples: &[Sample], from: Instant, to: Instant) -> f64 {
    let served = samples.iter().filter(|sample| sample.is_served() && (from..to).contains(&sample.ended()));
    served.count() as f64 / (to - from).as_secs_f64()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peak, before, during, after, served, refused, failed, asked, recovery } = self;
        write!(
            f,
            "peak {peak:.0}/s, goodput {before:.0}, {during:.0}, {after:.0}/s, served in {:.0?}, {:.0?}, ",
            served.p50, served.p99
        )?;
        write!(
            f,
            "refused in {:.0?}, {:.0?}, {failed} of {asked} failed, well after {recovery:.0?}",
            refused.p50, refused.p99
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_counts_answers_when_they_come() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let sample = |due: u64, took: u64, outcome: Outcome| Sample { due: start + ms(due), took: ms(took), outcome };
        let (served, refused) = (Outcome::Served(None), Outcome::Refused(StatusCode::SERVICE_UNAVAILABLE));
        let usual = vec![
            sample(1_100, 50, served.clone()),
            sample(2_100, 900, served.clone()),
            sample(3_900, 400, served.clone()),
            sample(4_400, 50, served.clone()),
            sample(5_500, 50, served.clone()),
        ];
        let extra = vec![sample(2_200, 2, refused.clone()), sample(2_300, 2_000, Outcome::Failed("late".to_owned()))];
        let taken = Taken { peak: 2.0, began: start + ms(2_000), ended: start + ms(4_000), usual, extra, late: ms(0) };
        let figures = Figures::of(&taken, ms(2_000));
        assert!((figures.before, figures.during, figures.after) == (1.0, 0.5, 1.5), "{figures:?}");
        assert_eq!((figures.failed, figures.asked), (1, 4));
        assert_eq!(figures.refused, Quantiles { p50: Some(ms(2)), p99: Some(ms(2)) });
        assert_eq!(figures.recovery, Some(ms(450)));
    }
}
