//! Which requests a model runs together: what a batch costs is learned, and a batch grows as long as that pays.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most rows of a batch, unless told otherwise.
pub const USUAL_ROWS: u32 = 64;
/// The most rows that a batch may be told to have.
pub const ROWS_LIMIT: u32 = 4096;

/// What an inference costs apart from its rows may be this part of what the rows cost: a batch that has brought it down
/// so far grows no further, because its first row would wait for little.
const OVERHEAD_WORTH_SHARING: f64 = 0.05;
/// How much of what was learned is left after one more inference.
const MEMORY: f64 = 0.98;
/// Sizes that vary less say nothing of what a row costs.
const LEAST_VARIANCE: f64 = 0.05;
/// A batch may be so many times larger than what was measured of late.
const STEP: f64 = 2.0;

/// How a model's requests are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchOptions {
    pub mode: BatchMode,
    /// The most rows of one inference that is made of several requests.
    pub max_rows: u32,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { mode: BatchMode::Auto, max_rows: USUAL_ROWS }
    }
}

impl BatchOptions {
    pub fn check(&self) -> Result<(), String> {
        let is_sound = (1..=ROWS_LIMIT).contains(&self.max_rows);
        if is_sound { Ok(()) } else { Err(format!("it is a number from 1 to {ROWS_LIMIT}")) }
    }
}

/// Whether requests run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BatchMode {
    /// Where the signature allows it and trials show that rows do not heed each other.
    #[default]
    Auto,
    /// Where the signature allows it.
    On,
    Off,
}

impl FromStr for BatchMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let modes = [Self::Auto, Self::On, Self::Off];
        modes.into_iter().find(|mode| mode.as_str() == text).ok_or("write auto, on or off")
    }
}

impl BatchMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What an inference of so many rows costs: a line through what the last ones took, older ones counting less.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostLine {
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_squared: f64,
    rows_seconds: f64,
    /// The most rows that were measured, fading.
    largest: f64,
}

/// A line: seconds that an inference takes, and each row of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    fixed: f64,
    per_row: f64,
}

impl CostLine {
    pub fn observe(&mut self, rows: usize, took: Duration) {
        let (rows, seconds) = (rows as f64, took.as_secs_f64());
        for sum in [&mut self.weight, &mut self.rows, &mut self.seconds, &mut self.rows_squared, &mut self.rows_seconds]
        {
            *sum *= MEMORY;
        }
        self.weight += 1.0;
        self.rows += rows;
        self.seconds += seconds;
        self.rows_squared += rows * rows;
        self.rows_seconds += rows * seconds;
        self.largest = rows.max(self.largest * MEMORY);
    }

    /// `None` while too little was measured, or inferences of one size alone.
    fn line(&self) -> Option<Line> {
        if self.weight < 2.0 {
            return None;
        }
        let (rows, seconds) = (self.rows / self.weight, self.seconds / self.weight);
        let variance = self.rows_squared / self.weight - rows * rows;
        if variance < LEAST_VARIANCE {
            return None;
        }
        let slope = (self.rows_seconds / self.weight - rows * seconds) / variance;
        // Noise may make more rows look cheaper than fewer.
        let per_row = slope.clamp(0.0, seconds / rows);
        Some(Line { fixed: seconds - per_row * rows, per_row })
    }

    /// How long an inference of so many rows takes; what is not known yet is taken to grow with the rows.
    pub fn estimate(&self, rows: usize) -> Option<Duration> {
        let rows = rows as f64;
        let seconds = match self.line() {
            Some(line) => line.fixed + line.per_row * rows,
            None if self.rows > 0.0 => self.seconds / self.rows * rows,
            None => return None,
        };
        Some(Duration::from_secs_f64(seconds))
    }

    /// How many rows a batch should have, of at most `most`: so many that what they share is a small part of what it costs,
    /// but not many more than were measured.
    pub fn worthwhile(&self, most: usize) -> usize {
        let reach = (self.largest * STEP).max(STEP);
        let rows = match self.line() {
            None => reach,
            Some(Line { fixed, per_row }) => (fixed / (OVERHEAD_WORTH_SHARING * per_row)).ceil().min(reach),
        };
        (rows as usize).clamp(1, most.max(1))
    }
}

/// A request that waits, in the order in which they are to run.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<C> {
    pub rows: usize,
    /// Only requests of one class run together; `None`: alone.
    pub class: Option<C>,
    /// Nobody waits for its answer after that, as the time since some fixed moment.
    pub due: Duration,
}

/// Which of those that wait run next, by their places in the order: the first one and, as long as the batch is worth its rows and
/// lets nobody in it come too late, others of its class.
pub fn next_batch<C: PartialEq>(
    waiting: impl IntoIterator<Item = Waiting<C>>,
    line: &CostLine,
    most: usize,
    now: Duration,
) -> Vec<usize> {
    let mut waiting = waiting.into_iter().enumerate();
    let Some((_, first)) = waiting.next() else { return Vec::new() };
    let mut batch = vec![0];
    let (Some(class), mut rows, mut due) = (first.class, first.rows, first.due) else { return batch };
    let most = line.worthwhile(most);
    for (place, request) in waiting {
        if rows >= most {
            break;
        }
        if request.class.as_ref() != Some(&class) || rows + request.rows > most {
            continue;
        }
        let due_then = due.min(request.due);
        let is_late = |took: Duration| now + took > due_then;
        if line.estimate(rows + request.rows).is_some_and(is_late) {
            continue;
        }
        (rows, due) = (rows + request.rows, due_then);
        batch.push(place);
    }
    batch
}

/// When a request with `rows` that comes now would be answered, behind `ahead` rows, if `instances` work side by side. `None`
/// while nothing was measured.
pub fn answered_by(
    line: &CostLine,
    ahead: usize,
    rows: usize,
    instances: usize,
    most: usize,
    now: Duration,
) -> Option<Duration> {
    let size = line.worthwhile(most);
    let batches = ahead.div_ceil(size).div_ceil(instances.max(1));
    let turn = line.estimate(size.min(ahead.max(1)))?.checked_mul(u32::try_from(batches).ok()?)?;
    now.checked_add(turn)?.checked_add(line.estimate(rows)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(micros: f64) -> Duration {
        Duration::from_secs_f64(micros / 1e6)
    }

    /// A model that costs so much per inference and per row, in microseconds, asked for what the line proposes while `queued` wait.
    fn learned(fixed: f64, per_row: f64, queued: usize) -> (CostLine, usize) {
        let mut line = CostLine::default();
        let mut size = 1;
        for _ in 0..300 {
            line.observe(size, micros(fixed + per_row * size as f64));
            size = line.worthwhile(64).min(queued);
        }
        (line, size)
    }

    #[test]
    fn a_batch_grows_where_rows_are_cheap_and_stays_small_where_they_are_not() {
        assert_eq!(learned(9.0, 0.08, 64).1, 64, "a small net");
        let (_, size) = learned(1_000.0, 20_000.0, 64);
        assert!(size <= 2, "a convolution net: {size}");
        let (_, size) = learned(100.0, 100.0, 64);
        assert!((18..=22).contains(&size), "{size}");
        assert_eq!(learned(9.0, 0.08, 1).1, 1, "nobody waits");
    }

    #[test]
    fn what_a_batch_takes_is_told_from_the_line() {
        let (line, _) = learned(100.0, 10.0, 64);
        let estimate = line.estimate(40).unwrap().as_secs_f64() * 1e6;
        assert!((490.0..=510.0).contains(&estimate), "{estimate}");
        assert_eq!(CostLine::default().estimate(1), None);
    }

    #[test]
    fn a_batch_is_of_one_class_and_the_first_one_is_always_in_it() {
        let (line, now) = (learned(9.0, 0.08, 64).0, Duration::from_secs(1000));
        let far = now + Duration::from_secs(60);
        let of = |class, rows| Waiting { rows, class, due: far };
        let next = |waiting: &[Waiting<char>]| next_batch(waiting.iter().copied(), &line, 8, now);
        let (a, b) = (Some('a'), Some('b'));
        assert_eq!(next(&[]), Vec::<usize>::new());
        assert_eq!(next(&[of(a, 1), of(b, 1), of(a, 3), of(None, 1), of(a, 1)]), [0, 2, 4]);
        assert_eq!(next(&[of(None, 1), of(a, 1), of(None, 1)]), [0]);
        assert_eq!(next(&[of(a, 100), of(a, 1)]), [0], "one that is too large runs alone, in its turn");
        assert_eq!(
            next(&[of(a, 6), of(a, 3), of(a, 2), of(a, 1)]),
            [0, 2],
            "what does not fit waits, and what does goes"
        );
    }

    #[test]
    fn nobody_comes_too_late_for_being_in_a_batch() {
        let (line, now) = (learned(1000.0, 100.0, 64).0, Duration::from_secs(1000));
        let waiting = |due: &[u64]| {
            let due = due.iter().map(|due| now + Duration::from_micros(*due));
            due.map(|due| Waiting { rows: 1, class: Some(()), due }).collect::<Vec<_>>()
        };
        let next = |due: &[u64]| next_batch(waiting(due), &line, 64, now);
        assert_eq!(next(&[9000, 9000, 9000]), [0, 1, 2]);
        assert_eq!(next(&[1250, 9000, 9000]), [0, 1], "the first one leaves so much time");
        assert_eq!(next(&[9000, 1150, 9000]), [0, 2], "it would be late either way, and holds nobody up");
        assert_eq!(next(&[0, 9000]), [0]);
    }

    #[test]
    fn who_would_be_answered_too_late_is_known_when_the_request_comes() {
        let (line, now) = (learned(1000.0, 100.0, 64).0, Duration::from_secs(1000));
        let wait = |ahead, instances| {
            let at = answered_by(&line, ahead, 1, instances, 10, now).unwrap();
            (at - now).as_secs_f64() * 1e3
        };
        for (ahead, instances, expected) in [(0, 1, 1.1), (10, 1, 3.1), (100, 1, 21.1), (100, 2, 11.1)] {
            let found = wait(ahead, instances);
            assert!((found - expected).abs() < 0.1, "{ahead} ahead, {instances}: {found} ms");
        }
        assert_eq!(answered_by(&CostLine::default(), 5, 1, 1, 10, now), None);
    }

    #[test]
    fn options_are_checked() {
        assert_eq!(BatchOptions::default().check(), Ok(()));
        for max_rows in [0, ROWS_LIMIT + 1] {
            assert!(BatchOptions { max_rows, ..BatchOptions::default() }.check().is_err());
        }
        for mode in [BatchMode::Auto, BatchMode::On, BatchMode::Off] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert!("always".parse::<BatchMode>().is_err());
    }

    proptest! {
        #[test]
        fn any_measurements_give_sound_proposals(
            measured in prop::collection::vec((1_usize..200, 0_u64..1_000_000), 0..200),
            most in 1_usize..200,
        ) {
            let mut line = CostLine::default();
            for (rows, took) in measured {
                line.observe(rows, Duration::from_micros(took));
                let size = line.worthwhile(most);
                prop_assert!((1..=most).contains(&size));
                let estimates: Vec<_> = [1, 10, 100].map(|rows| line.estimate(rows)).into_iter().flatten().collect();
                prop_assert!(estimates.is_sorted(), "{estimates:?}");
            }
        }

        #[test]
        fn a_batch_never_mixes_and_never_outgrows_its_limit(
            waiting in prop::collection::vec((1_usize..10, prop::option::of(0_u8..3)), 0..40),
            most in 1_usize..50,
        ) {
            let now = Duration::from_secs(1000);
            let due = now + Duration::from_secs(60);
            let requests: Vec<_> = waiting.iter().map(|(rows, class)| Waiting { rows: *rows, class: *class, due }).collect();
            let batch = next_batch(requests.iter().copied(), &learned(9.0, 0.08, 64).0, most, now);
            prop_assert_eq!(batch.first().copied(), (!requests.is_empty()).then_some(0));
            prop_assert!(batch.is_sorted());
            if batch.len() > 1 {
                prop_assert!(batch.iter().map(|&place| requests[place].rows).sum::<usize>() <= most);
                prop_assert!(batch.iter().all(|&place| requests[place].class.is_some()
                    && requests[place].class == requests[0].class));
            }
        }
    }
}
