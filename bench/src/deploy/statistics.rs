//! The median of some samples, and how far they spread.

use super::sample::Sample;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, least: values[0], greatest: values[values.len() - 1] }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    pub transactions: Spread,
    pub stored_bytes: Spread,
    pub resident_bytes: Spread,
    pub cpu_ms: Spread,
    pub wall_ms: Spread,
}

impl Summary {
    /// # Panics
    /// If there are no samples.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value).collect());
        Self {
            transactions: spread(|sample| sample.transactions),
            stored_bytes: spread(|sample| sample.stored_bytes),
            resident_bytes: spread(|sample| sample.resident_bytes),
            cpu_ms: spread(|sample| sample.cpu_ms),
            wall_ms: spread(|sample| sample.wall_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_least_and_the_greatest() {
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, greatest: 9.0 });
        assert_eq!(Spread::of(vec![4.0, 2.0]), Spread { median: 3.0, least: 2.0, greatest: 4.0 });
    }
}
