//! What one fault came to for one kind of users.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    progress::say,
    samples::{Outcome, Sample, Well, failures, first_elsewhere, longest_silence, time_of},
};

/// What takes longer is not well yet. It is far above what a busy machine does to a good answer.
const SLOW: Duration = Duration::from_millis(250);
/// So long it has to be well.
const SPAN: Duration = Duration::from_secs(2);
/// So many kinds of failures are told.
const KINDS: usize = 3;

/// All requests around a fault.
#[derive(Debug)]
pub(super) struct Taken {
    pub samples: Vec<Sample>,
    pub at: Instant,
    /// By how much the users themselves were late at most.
    pub late: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// From the fault to the first answer from elsewhere, where a whole place is gone.
    pub first: Option<Duration>,
    /// From the fault until requests are served promptly again.
    pub well: Option<Duration>,
    pub asked: usize,
    pub failed: usize,
    pub silence: Duration,
    pub slowest: Duration,
}

impl Figures {
    pub(super) fn of(taken: &Taken, struck: Option<&str>, window: Duration) -> Self {
        let Taken { samples, at, .. } = taken;
        Self {
            first: struck.and_then(|struck| first_elsewhere(samples, *at, struck)),
            well: Well { slow: SLOW, struck, span: SPAN }.after(samples, *at),
            asked: samples.len(),
            failed: failures(samples),
            silence: longest_silence(samples, *at, *at + window),
            slowest: time_of(samples, 1.0, Sample::is_served).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, well, asked, failed, silence, slowest } = self;
        write!(f, "first {first:.0?}, well {well:.0?}, {failed} of {asked} failed, silence {silence:.0?}, ")?;
        write!(f, "slowest {slowest:.0?}")
    }
}

impl Taken {
    /// On stderr, since the table counts them only.
    pub(super) fn tell_failures(&self) {
        let mut kinds: BTreeMap<String, (usize, &Sample)> = BTreeMap::new();
        for sample in &self.samples {
            let kind = match &sample.outcome {
                Outcome::Served(_) => continue,
                Outcome::Refused(status) => format!("answered {status}"),
                Outcome::Failed(why) => why.clone(),
            };
            kinds.entry(kind).or_insert((0, sample)).0 += 1;
        }
        for (kind, (count, first)) in kinds.into_iter().take(KINDS) {
            // Negative if it was under way already.
            let after = first.due.saturating_duration_since(self.at).as_secs_f64()
                - self.at.saturating_duration_since(first.due).as_secs_f64();
            say(&format!(
                "  {count} x {kind}; one was due {after:.3} s after the fault and ended {:.0?} later",
                first.took
            ));
        }
    }
}
