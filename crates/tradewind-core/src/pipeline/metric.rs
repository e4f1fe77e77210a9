//! What steps measure, batch by batch, and what it comes to for all of them.
//!
//! A mean of means is wrong as soon as batches differ in size, so each metric says how it adds up: means carry their
//! weight, confusion matrices their counts, quantiles a sketch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;

/// The most metrics of one result.
pub const METRICS_LIMIT: usize = 1000;
/// The most labels of a confusion matrix.
pub const LABELS_LIMIT: usize = 1000;
/// The longest name of a metric or label, in bytes.
pub const NAME_BYTES_LIMIT: usize = 200;

/// One metric of one result. A bare number is a mean over the result's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metric {
    Number(f64),
    Weighted(Weighted),
    Sum(Sum),
    Extreme(Extreme),
    Confusion(Confusion),
    Quantiles(Quantiles),
}

/// A mean over so many things.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    pub mean: f64,
    pub weight: f64,
}

/// What is simply added up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    pub sum: f64,
}

/// The least or the greatest of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extreme {
    Min(f64),
    Max(f64),
}

/// How often what is one thing was taken for another: `counts[i][j]` of label `i` were taken for label `j`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    pub labels: Vec<String>,
    pub counts: Vec<Vec<u64>>,
}

/// Numbers of which quantiles are asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    pub quantiles: Sketch,
}

/// Why a metric is not one, or two do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    #[error("it is not a finite number")]
    NotFinite,
    #[error("its weight is negative")]
    NegativeWeight,
    #[error("its counts are not a square of its {0} labels")]
    NotSquare(usize),
    #[error("it has more than {LABELS_LIMIT} labels")]
    TooManyLabels,
    #[error("label `{0}` is there twice")]
    LabelTwice(String),
    #[error("in one batch it is a {0}, in another a {1}")]
    Kinds(&'static str, &'static str),
    #[error("its counts are more than fit")]
    Overflow,
}

impl Metric {
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), MetricError> {
        let finite = |number: f64| if number.is_finite() { Ok(()) } else { Err(MetricError::NotFinite) };
        match self {
            Self::Number(number) | Self::Sum(Sum { sum: number }) => finite(*number),
            Self::Extreme(Extreme::Min(number) | Extreme::Max(number)) => finite(*number),
            Self::Weighted(Weighted { mean, weight }) => {
                finite(*mean)?;
                finite(*weight)?;
                if *weight < 0.0 { Err(MetricError::NegativeWeight) } else { Ok(()) }
            }
            Self::Confusion(confusion) => confusion.check(),
            Self::Quantiles(Quantiles { quantiles }) => quantiles.check(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Number(_) | Self::Weighted(_) => "mean",
            Self::Sum(_) => "sum",
            Self::Extreme(Extreme::Min(_)) => "minimum",
            Self::Extreme(Extreme::Max(_)) => "maximum",
            Self::Confusion(_) => "confusion matrix",
            Self::Quantiles(_) => "sketch of quantiles",
        }
    }

    /// A bare number is the mean of so many rows.
    fn weighted(self, rows: u64) -> Self {
        match self {
            Self::Number(mean) => Self::Weighted(Weighted { mean, weight: rows as f64 }),
            other => other,
        }
    }

    /// The one number that it comes to: of a confusion matrix the share on its diagonal, of quantiles the median. `None`
    /// where there is nothing to say it of.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) | Self::Sum(Sum { sum: number }) => Some(*number),
            Self::Extreme(Extreme::Min(number) | Extreme::Max(number)) => Some(*number),
            Self::Weighted(Weighted { mean, weight }) => (*weight > 0.0).then_some(*mean),
            Self::Confusion(confusion) => confusion.accuracy(),
            Self::Quantiles(Quantiles { quantiles }) => quantiles.quantile(0.5),
        }
    }
}

impl Confusion {
    fn check(&self) -> Result<(), MetricError> {
        let size = self.labels.len();
        if size > LABELS_LIMIT {
            return Err(MetricError::TooManyLabels);
        }
        if self.counts.len() != size || self.counts.iter().any(|row| row.len() != size) {
            return Err(MetricError::NotSquare(size));
        }
        let twice = self.labels.iter().enumerate().find(|(at, label)| self.labels[..*at].contains(label));
        match twice {
            Some((_, label)) => Err(MetricError::LabelTwice(label.clone())),
            None => Ok(()),
        }
    }

    fn accuracy(&self) -> Option<f64> {
        let all: u64 = self.counts.iter().flatten().sum();
        let right: u64 = self.counts.iter().enumerate().map(|(at, row)| row[at]).sum();
        (all > 0).then(|| right as f64 / all as f64)
    }
}

/// What the metrics of many results come to. Sums are exact whatever the order, up to the rounding of the last digits,
/// which [`Totals::metrics`] takes away by adding up in the order of the batches.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// By name; each with the number of its batch.
    parts: BTreeMap<String, BTreeMap<u64, Metric>>,
}

impl Totals {
    /// Adds what a batch of so many rows measured.
    ///
    /// # Errors
    /// Of the first metric that is not one, or is of another kind than in the batches before, by its name.
    pub fn add(
        &mut self,
        batch: u64,
        rows: u64,
        metrics: BTreeMap<String, Metric>,
    ) -> Result<(), (String, MetricError)> {
        for (name, metric) in &metrics {
            metric.check().map_err(|error| (name.clone(), error))?;
            let before = self.parts.get(name).and_then(|parts| parts.values().next());
            if let Some(before) = before.filter(|before| before.kind() != metric.kind()) {
                return Err((name.clone(), MetricError::Kinds(before.kind(), metric.kind())));
            }
        }
        for (name, metric) in metrics {
            self.parts.entry(name).or_default().insert(batch, metric.weighted(rows));
        }
        Ok(())
    }

    /// Each metric over all batches.
    ///
    /// # Errors
    /// Of the first one that does not fit, by its name.
    pub fn metrics(&self) -> Result<BTreeMap<String, Metric>, (String, MetricError)> {
        let combined = self.parts.iter().filter_map(|(name, parts)| {
            let combined = combine(parts.values())?.map_err(|error| (name.clone(), error));
            Some(combined.map(|metric| (name.clone(), metric)))
        });
        combined.collect()
    }
}

fn combine<'a>(mut parts: impl Iterator<Item = &'a Metric>) -> Option<Result<Metric, MetricError>> {
    let first = parts.next()?.clone();
    Some(parts.try_fold(first, add))
}

fn add(sum: Metric, part: &Metric) -> Result<Metric, MetricError> {
    let added = match (sum, part) {
        (Metric::Weighted(a), Metric::Weighted(b)) => {
            let weight = a.weight + b.weight;
            let mean = if weight > 0.0 { a.mean + (b.mean - a.mean) * (b.weight / weight) } else { a.mean };
            Metric::Weighted(Weighted { mean, weight })
        }
        (Metric::Sum(a), Metric::Sum(b)) => Metric::Sum(Sum { sum: a.sum + b.sum }),
        (Metric::Extreme(Extreme::Min(a)), Metric::Extreme(Extreme::Min(b))) => {
            Metric::Extreme(Extreme::Min(a.min(*b)))
        }
        (Metric::Extreme(Extreme::Max(a)), Metric::Extreme(Extreme::Max(b))) => {
            Metric::Extreme(Extreme::Max(a.max(*b)))
        }
        (Metric::Confusion(a), Metric::Confusion(b)) => Metric::Confusion(merge(a, b)?),
        (Metric::Quantiles(mut a), Metric::Quantiles(b)) => {
            a.quantiles.merge(&b.quantiles);
            Metric::Quantiles(a)
        }
        (a, b) => return Err(MetricError::Kinds(a.kind(), b.kind())),
    };
    added.check()?;
    Ok(added)
}

/// Labels that only one of them has are kept, behind the others.
fn merge(mut sum: Confusion, part: &Confusion) -> Result<Confusion, MetricError> {
    for label in &part.labels {
        if !sum.labels.contains(label) {
            sum.labels.push(label.clone());
            sum.counts.iter_mut().for_each(|row| row.push(0));
            sum.counts.push(vec![0; sum.labels.len()]);
        }
    }
    let place: Vec<usize> = part
        .labels
        .iter()
        .map(|label| sum.labels.iter().position(|other| other == label).unwrap_or_default())
        .collect();
    for (from, row) in part.counts.iter().enumerate() {
        for (to, count) in row.iter().enumerate() {
            let cell = &mut sum.counts[place[from]][place[to]];
            *cell = cell.checked_add(*count).ok_or(MetricError::Overflow)?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metrics(json: &str) -> BTreeMap<String, Metric> {
        serde_json::from_str(json).unwrap()
    }

    fn totals(batches: &[(u64, &str)]) -> Result<BTreeMap<String, Metric>, (String, MetricError)> {
        let mut totals = Totals::default();
        for (batch, (rows, json)) in (0..).zip(batches) {
            totals.add(batch, *rows, metrics(json))?;
        }
        totals.metrics()
    }

    #[test]
    fn every_kind_adds_up_in_its_own_way() {
        let all = totals(&[
            (
                100,
                r#"{"accuracy": 0.5, "loss": {"mean": 2.0, "weight": 1}, "seen": {"sum": 3}, "worst": {"max": 4},
                    "best": {"min": 1}, "taken": {"labels": ["a", "b"], "counts": [[5, 1], [0, 4]]}}"#,
            ),
            (
                300,
                r#"{"accuracy": 0.9, "loss": {"mean": 1.0, "weight": 3}, "seen": {"sum": 4}, "worst": {"max": 2},
                    "best": {"min": 7}, "taken": {"labels": ["b", "c"], "counts": [[1, 2], [3, 4]]}}"#,
            ),
        ])
        .unwrap();
        let number = |name: &str| all[name].number().unwrap();
        assert!((number("accuracy") - 0.8).abs() < 1e-12);
        assert!((number("loss") - 1.25).abs() < 1e-12);
        assert_eq!((number("seen"), number("worst"), number("best")), (7.0, 4.0, 1.0));
        let expected = r#"{"labels": ["a", "b", "c"], "counts": [[5, 1, 0], [0, 5, 2], [0, 3, 4]]}"#;
        assert_eq!(all["taken"], serde_json::from_str(expected).unwrap());
        assert!((number("taken") - 0.7).abs() < 1e-12);
        assert_eq!(totals(&[(0, r#"{"accuracy": 0.5}"#)]).unwrap()["accuracy"].number(), None);
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        for (second, expected) in [
            (r#"{"m": {"sum": 1}}"#, "in one batch it is a mean, in another a sum"),
            (r#"{"m": {"mean": 1, "weight": -1}}"#, "its weight is negative"),
            (r#"{"m": {"labels": ["a"], "counts": [[1, 2]]}}"#, "its counts are not a square of its 1 labels"),
            (r#"{"m": {"labels": ["a", "a"], "counts": [[1, 2], [1, 2]]}}"#, "label `a` is there twice"),
        ] {
            let (name, error) = totals(&[(1, r#"{"m": 1}"#), (1, second)]).unwrap_err();
            assert_eq!((name.as_str(), error.to_string().as_str()), ("m", expected));
        }
        let mut of_nan = Totals::default();
        let nan = BTreeMap::from([("m".to_owned(), Metric::Number(f64::NAN))]);
        assert_eq!(of_nan.add(0, 1, nan), Err(("m".to_owned(), MetricError::NotFinite)));
        assert_eq!(of_nan.metrics().unwrap(), BTreeMap::new(), "nothing of it was taken");
        let full = |count: u64| format!(r#"{{"m": {{"labels": ["a"], "counts": [[{count}]]}}}}"#);
        let (_, error) = totals(&[(1, &full(u64::MAX)), (1, &full(1))]).unwrap_err();
        assert_eq!(error, MetricError::Overflow);
    }

    proptest! {
        #[test]
        fn the_order_in_which_batches_end_changes_nothing(
            batches in prop::collection::vec((1_u64..1000, -1e6_f64..1e6), 1..20), seed: u64,
        ) {
            let part = |mean: f64| BTreeMap::from([("m".to_owned(), Metric::Number(mean))]);
            let (mut forward, mut shuffled) = (Totals::default(), Totals::default());
            for (batch, (rows, mean)) in (0..).zip(&batches) {
                forward.add(batch, *rows, part(*mean)).unwrap();
            }
            let mut order: Vec<usize> = (0..batches.len()).collect();
            order.sort_by_key(|at| (*at as u64).wrapping_mul(seed | 1).rotate_left(17));
            for at in order {
                shuffled.add(at as u64, batches[at].0, part(batches[at].1)).unwrap();
            }
            prop_assert_eq!(forward.metrics(), shuffled.metrics());
        }
    }
}
