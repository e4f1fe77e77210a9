//! What plots are drawn with, as SVG and by hand: those of benchmarks, and those that `tradewind tune` draws.

use std::fmt::Write;

pub const INK: &str = "#24292f";
pub const FAINT: &str = "#d0d7de";
const COLOURS: &[&str] = &["#1f6feb", "#c2410c", "#15803d", "#7c3aed"];

/// Of the line with this number.
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// Where values lie between the ends of an axis, from 0 to 1.
#[derive(Debug)]
pub struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// A linear axis begins at zero; a logarithmic one spans whole decades.
    pub fn over(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let (least, greatest) =
            values.fold((f64::MAX, f64::MIN_POSITIVE), |(a, b), value| (a.min(value), b.max(value)));
        if logarithmic {
            let (from, to) = (least.log10().floor(), greatest.log10().ceil());
            return Self { from, to: to.max(from + 1.0), logarithmic };
        }
        Self { from: 0.0, to: greatest * 1.15, logarithmic }
    }

    pub fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        (value - self.from) / (self.to - self.from)
    }

    pub fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.to - self.from).round() as i32;
            return (0..=decades).map(|decade| 10_f64.powi(self.from.round() as i32 + decade)).collect();
        }
        // The roundest step that gives at most five.
        let rough = self.to / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=(self.to / step) as u32).map(|count| f64::from(count) * step).collect()
    }
}

/// A number with no more digits than it needs.
pub fn label(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    push(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"));
}

pub fn push(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let linear = Scale::over([3.0, 4.2].into_iter(), false);
        assert_eq!(linear.ticks(), [0.0, 1.0, 2.0, 3.0, 4.0]);
        let decades = Scale::over([0.04, 7.0].into_iter(), true);
        assert_eq!(decades.ticks().into_iter().map(label).collect::<Vec<_>>(), ["0.01", "0.1", "1", "10"]);
        assert!((decades.place(1.0) - 2.0 / 3.0).abs() < 1e-9);
    }
}
