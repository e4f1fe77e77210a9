//! The median of some samples, and how far they spread; quantiles.

use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    /// # Panics
    /// If there are no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Self { median, least: values[0], greatest: values[values.len() - 1] }
    }

    /// `3.2 (3.1–3.4)`, and the median alone where that is all there is.
    pub(crate) fn show(&self, unit: f64, digits: usize) -> String {
        let [median, least, greatest] =
            [self.median, self.least, self.greatest].map(|value| format!("{:.digits$}", value / unit));
        if least == greatest { median } else { format!("{median} ({least}–{greatest})") }
    }
}

/// The latency below which `share` (0 to 1) of them lie.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "an index")]
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_between_the_least_and_the_greatest() {
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, greatest: 9.0 });
        assert_eq!(Spread::of(vec![4.0, 2.0]), Spread { median: 3.0, least: 2.0, greatest: 4.0 });
    }

    #[test]
    fn a_spread_is_told_where_there_is_one() {
        assert_eq!(Spread { median: 3200.0, least: 3100.0, greatest: 3449.0 }.show(1000.0, 1), "3.2 (3.1–3.4)");
        assert_eq!(Spread { median: 4.0, least: 4.0, greatest: 4.0 }.show(1.0, 0), "4");
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<Duration> = (1..=1000).map(Duration::from_micros).collect();
        let micros = |share| quantile(&sorted, share).as_micros();
        assert_eq!((micros(0.5), micros(0.99), micros(0.999), micros(1.0)), (500, 990, 999, 1000));
        assert_eq!(quantile(&sorted[..1], 0.5), Duration::from_micros(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
