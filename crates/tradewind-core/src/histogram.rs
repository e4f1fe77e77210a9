//! Durations as counts in cells, so that they add up: over gateways, over time, and against each other.
//!
//! Bounds of cells are, in each decade, the places where people set limits (1, 1.5, 2, 2.5, 3 and the like), each about 11 %
//! above the one before. A limit that is such a bound is counted exactly; a quantile is good to one cell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// In each decade, in tenths of its first bound.
const MANTISSAS: [u64; 21] = [10, 11, 12, 13, 15, 17, 20, 22, 25, 27, 30, 35, 40, 45, 50, 55, 60, 70, 75, 80, 90];
/// From 10 us to 90 s.
const DECADES: usize = 7;
/// The last cell takes what is above all bounds.
pub const CELLS: usize = MANTISSAS.len() * DECADES + 1;
/// The upper bounds of all cells but the last, in microseconds; a bound belongs to its cell.
pub const UPPER_US: [u64; CELLS - 1] = upper_bounds();

const fn upper_bounds() -> [u64; CELLS - 1] {
    let mut bounds = [0; CELLS - 1];
    let (mut index, mut scale) = (0, 1);
    while index < bounds.len() {
        bounds[index] = MANTISSAS[index % MANTISSAS.len()] * scale;
        index += 1;
        if index % MANTISSAS.len() == 0 {
            scale *= 10;
        }
    }
    bounds
}

/// Where the search for a cell begins, by the highest five bits of a duration: at most a few bounds lie between.
const STARTS: [u8; 64 * 16] = starts();

const fn starts() -> [u8; 64 * 16] {
    let mut starts = [0; 64 * 16];
    let (mut place, mut cell) = (0, 0);
    while place < starts.len() {
        let (power, step) = (place / 16, (place % 16) as u128);
        let least = (1_u128 << power) + ((step << power) >> 4);
        while cell < CELLS - 1 && (UPPER_US[cell] as u128) < least {
            cell += 1;
        }
        starts[place] = cell as u8;
        place += 1;
    }
    starts
}

/// The cell that a duration belongs to.
#[inline]
pub fn cell(duration: Duration) -> usize {
    let part = u64::from(duration.subsec_nanos().div_ceil(1000));
    let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(part).max(1);
    let power = micros.ilog2();
    let rest = micros - (1 << power);
    let step = if power < 4 { rest << (4 - power) } else { rest >> (power - 4) } as usize;
    let mut cell = usize::from(STARTS[power as usize * 16 + step]);
    while cell < CELLS - 1 && UPPER_US[cell] < micros {
        cell += 1;
    }
    cell
}

/// How many durations fell into each cell. On the wire it is a list of cells that are not empty, each with its count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct Histogram {
    counts: Box<[u64; CELLS]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; CELLS]) }
    }
}

impl Histogram {
    pub fn of(counts: [u64; CELLS]) -> Self {
        Self { counts: Box::new(counts) }
    }

    pub fn record(&mut self, duration: Duration) {
        self.counts[cell(duration)] += 1;
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(one, other)| *one = one.saturating_add(*other));
    }

    /// What came since `before`, an earlier state of the same counts.
    pub fn since(&self, before: &Self) -> Self {
        let mut counts = self.counts.clone();
        counts.iter_mut().zip(before.counts.iter()).for_each(|(one, before)| *one = one.saturating_sub(*before));
        Self { counts }
    }

    /// The bound of the cell that the quantile lies in; `None` where nothing was counted. What is above all bounds is told as
    /// the highest bound.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.count();
        let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0_u64;
        let found = self.counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        })?;
        let bound = UPPER_US[found.min(CELLS - 2)];
        (total > 0).then(|| Duration::from_micros(bound))
    }

    /// How many took no longer than `limit`, rounded up to a bound.
    pub fn within(&self, limit: Duration) -> u64 {
        self.counts[..=cell(limit)].iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// How many took longer than `limit`, rounded up to a bound.
    pub fn slower_than(&self, limit: Duration) -> u64 {
        self.counts.iter().skip(cell(limit) + 1).fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl TryFrom<Vec<(usize, u64)>> for Histogram {
    type Error = String;

    fn try_from(cells: Vec<(usize, u64)>) -> Result<Self, String> {
        let mut histogram = Self::default();
        for (cell, count) in cells {
            let place =
                histogram.counts.get_mut(cell).ok_or_else(|| format!("there are {CELLS} cells, none is {cell}"))?;
            *place = place.saturating_add(count);
        }
        Ok(histogram)
    }
}

impl From<Histogram> for Vec<(usize, u64)> {
    fn from(histogram: Histogram) -> Self {
        histogram.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn bounds_grow_and_limits_that_people_set_are_among_them() {
        assert!(UPPER_US.windows(2).all(|pair| pair[0] < pair[1] && pair[1] * 10 <= pair[0] * 12));
        for limit in [250, 500, 1000, 2500, 5000, 10_000, 25_000, 75_000, 100_000, 250_000, 1_000_000, 30_000_000] {
            assert!(UPPER_US.contains(&limit), "{limit}");
        }
    }

    #[test]
    fn quantiles_and_slow_ones_are_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for each in 1..=10_000 {
            histogram.record(micros(each));
        }
        assert_eq!(histogram.quantile(0.5), Some(micros(5000)));
        assert_eq!(histogram.quantile(1.0), Some(micros(10_000)));
        assert_eq!(histogram.slower_than(micros(2500)), 7500);
        assert_eq!(histogram.slower_than(micros(2501)), 7300);
        assert_eq!((histogram.within(micros(2500)), histogram.within(Duration::MAX)), (2500, 10_000));
        histogram.record(Duration::MAX);
        assert_eq!((histogram.slower_than(Duration::from_secs(80)), histogram.slower_than(Duration::MAX)), (1, 0));
    }

    #[test]
    fn cells_that_are_not_there_are_refused() {
        let read = |json: &str| serde_json::from_str::<Histogram>(json).map(|histogram| histogram.count());
        assert_eq!(read("[[0,3],[147,4]]").unwrap(), 7);
        assert_eq!(read("[[148,1]]").unwrap_err().to_string(), "there are 148 cells, none is 148");
    }

    proptest! {
        #[test]
        fn a_duration_lies_between_the_bounds_of_its_cell(nanos in 0_u64..200_000_000_000) {
            let cell = cell(Duration::from_nanos(nanos));
            prop_assert!(cell == CELLS - 1 || nanos <= UPPER_US[cell] * 1000);
            prop_assert!(cell == 0 || nanos > UPPER_US[cell - 1] * 1000);
        }

        #[test]
        fn parts_add_up_and_survive_the_wire(
            one in proptest::collection::vec(0_u64..100_000_000, 0..40), two in proptest::collection::vec(0_u64..100_000_000, 0..40),
        ) {
            let of = |all: &[u64]| all.iter().fold(Histogram::default(), |mut histogram, each| {
                histogram.record(micros(*each));
                histogram
            });
            let mut both = of(&one);
            both.add(&of(&two));
            prop_assert_eq!(both.since(&of(&one)), of(&two));
            prop_assert_eq!(&both, &of(&[one, two].concat()));
            let wire = serde_json::to_string(&both).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&wire).unwrap(), both);
        }
    }
}
