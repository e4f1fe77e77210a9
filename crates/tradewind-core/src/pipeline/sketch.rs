//! Quantiles of numbers that are never all in one place: counts in cells whose bounds grow by a constant factor, so that
//! a quantile is good to 1 % of itself, and cells of any number of batches add up exactly.
//!
//! The idea is that of DDSketch (Masson, Rim and Lee, VLDB 2019).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::metric::MetricError;

/// A quantile differs from the exact one by no more than this part of it.
pub const ACCURACY: f64 = 0.01;
/// The most cells of one sketch: magnitudes from 1e-9 to 1e9, of either sign, take half of them.
const CELLS_LIMIT: usize = 8192;
/// What is nearer to zero is zero.
const ZERO: f64 = 1e-12;

/// Numbers by their magnitude. Written by `tradewind.pipeline` of Python, or by hand: cell `i` counts the numbers from
/// `g^(i-1)` exclusive to `g^i` inclusive, where `g` is `(1 + 0.01) / (1 - 0.01)`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sketch {
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "cells")]
    pub positive: BTreeMap<i32, u64>,
    /// By the magnitude of what is below zero.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "cells")]
    pub negative: BTreeMap<i32, u64>,
    pub zeros: u64,
}

impl Sketch {
    /// Counts a number; one that is not finite is left out.
    pub fn add(&mut self, number: f64) {
        if !number.is_finite() {
            return;
        }
        if number.abs() < ZERO {
            self.zeros += 1;
            return;
        }
        let cells = if number > 0.0 { &mut self.positive } else { &mut self.negative };
        *cells.entry(cell(number.abs())).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        let add = |into: &mut BTreeMap<i32, u64>, from: &BTreeMap<i32, u64>| {
            for (cell, count) in from {
                let sum = into.entry(*cell).or_default();
                *sum = sum.saturating_add(*count);
            }
        };
        add(&mut self.positive, &other.positive);
        add(&mut self.negative, &other.negative);
        self.zeros = self.zeros.saturating_add(other.zeros);
    }

    pub fn count(&self) -> u64 {
        let all = self.positive.values().chain(self.negative.values()).copied();
        all.fold(self.zeros, u64::saturating_add)
    }

    /// The number below which this part of all numbers is; `None` without any.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        let rank = (part.clamp(0.0, 1.0) * count.saturating_sub(1) as f64).round() as u64;
        let below = self.negative.iter().rev().map(|(cell, count)| (-value(*cell), *count));
        let above = self.positive.iter().map(|(cell, count)| (value(*cell), *count));
        let mut passed = 0_u64;
        below.chain([(0.0, self.zeros)]).chain(above).find_map(|(value, count)| {
            passed = passed.saturating_add(count);
            (passed > rank).then_some(value)
        })
    }

    pub(super) fn check(&self) -> Result<(), MetricError> {
        if self.positive.len() + self.negative.len() > CELLS_LIMIT { Err(MetricError::Overflow) } else { Ok(()) }
    }
}

/// Keys of JSON are texts, and remain so where serde has to find out first which kind of metric it reads.
fn cells<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<i32, u64>, D::Error> {
    let cells = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let read = |(cell, count): (String, u64)| Ok((cell.parse().map_err(D::Error::custom)?, count));
    cells.into_iter().map(read).collect()
}

fn growth() -> f64 {
    (1.0 + ACCURACY) / (1.0 - ACCURACY)
}

fn cell(magnitude: f64) -> i32 {
    (magnitude.ln() / growth().ln()).ceil() as i32
}

/// Of which all numbers of the cell are within [`ACCURACY`].
fn value(cell: i32) -> f64 {
    growth().powi(cell) * (1.0 - ACCURACY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::metric::{Metric, Quantiles};

    proptest! {
        #[test]
        fn quantiles_are_good_to_a_hundredth(
            numbers in prop::collection::vec(-1e6_f64..1e6, 1..300), part in 0.0_f64..=1.0, cut in 0_usize..300,
        ) {
            let (mut first, mut second) = (Sketch::default(), Sketch::default());
            for (at, number) in numbers.iter().enumerate() {
                if at < cut { first.add(*number) } else { second.add(*number) }
            }
            first.merge(&second);
            let mut sorted = numbers;
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(part * (sorted.len() - 1) as f64).round() as usize];
            let found = first.quantile(part).unwrap();
            prop_assert!((found - exact).abs() <= exact.abs() * ACCURACY * 1.000_001 + ZERO, "{} for {}", found, exact);
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_what_is_no_number_is_left_out() {
        let mut sketch = Sketch::default();
        sketch.add(f64::NAN);
        sketch.add(f64::INFINITY);
        assert_eq!((sketch.count(), sketch.quantile(0.5)), (0, None));
        sketch.add(0.0);
        assert_eq!((sketch.count(), sketch.quantile(0.5)), (1, Some(0.0)));
    }

    #[test]
    fn a_sketch_is_read_as_it_is_written() {
        let mut quantiles = Sketch::default();
        [-3.0, 0.0, 0.5, 1.0, 1.0].into_iter().for_each(|number| quantiles.add(number));
        let metric = Metric::Quantiles(Quantiles { quantiles });
        let text = serde_json::to_string(&metric).unwrap();
        assert_eq!(text, r#"{"quantiles":{"positive":{"-34":1,"0":2},"negative":{"55":1},"zeros":1}}"#);
        assert_eq!(serde_json::from_str::<Metric>(&text).unwrap(), metric);
    }
}
