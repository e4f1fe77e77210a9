//! The table of all spikes, and the target.

use std::time::Duration;

use super::{
    figures::{Figures, Quantiles},
    scene::Setting,
};
use crate::{contender::Contender, spread::Spread};

const MS: f64 = 1e-3;
/// Of the peak, in percent: what has to be left of it under ten times the load.
const TARGET: f64 = 95.0;

/// One setting with one contender, in rounds.
#[derive(Debug)]
pub(super) struct Row {
    setting: Setting,
    pub contender: Contender,
    rounds: Vec<Figures>,
}

impl Row {
    pub(super) fn new(setting: Setting, contender: Contender) -> Self {
        Self { setting, contender, rounds: Vec::new() }
    }

    pub(super) fn add(&mut self, figures: Figures) {
        self.rounds.push(figures);
    }

    fn spread(&self, value: impl Fn(&Figures) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(value).collect())
    }

    /// In percent of the peak.
    fn share(&self, value: impl Fn(&Figures) -> f64) -> Spread {
        self.spread(|round| value(round) / round.peak * 100.0)
    }

    fn during(&self) -> Spread {
        self.share(|round| round.during)
    }

    fn line(&self) -> String {
        let cells = [
            self.setting.label().to_owned(),
            self.contender.name().to_owned(),
            self.spread(|round| round.peak).show(1.0, 0),
            self.share(|round| round.before).show(1.0, 1),
            self.during().show(1.0, 1),
            self.share(|round| round.after).show(1.0, 1),
            self.times(|round| round.served),
            self.times(|round| round.refused),
            format!(
                "{} of {}",
                self.spread(|round| round.failed as f64).show(1.0, 0),
                self.spread(|round| round.asked as f64).show(1.0, 0)
            ),
            self.millis(|round| round.recovery),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn times(&self, value: fn(&Figures) -> Quantiles) -> String {
        format!("{} / {}", self.millis(|round| value(round).p50), self.millis(|round| value(round).p99))
    }

    /// A dash where there was nothing in some round.
    fn millis(&self, value: impl Fn(&Figures) -> Option<Duration>) -> String {
        let all: Option<Vec<f64>> = self.rounds.iter().map(|round| Some(value(round)?.as_secs_f64())).collect();
        all.map_or_else(|| "-".to_owned(), |all| Spread::of(all).show(MS, 0))
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let columns = [
        "ten times the load on",
        "through",
        "peak, requests/s",
        "goodput before, % of peak",
        "in the spike, %",
        "after, %",
        "served: p50 / p99 ms",
        "refused: p50 / p99 ms",
        "without an answer in time",
        "well again after, ms",
    ];
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    format!("| {} |\n|---|---|{}\n{}", columns.join(" | "), "--:|".repeat(columns.len() - 2), lines.join("\n"))
}

/// Whether Tradewind keeps what it aims at.
pub(super) fn verdict(rows: &[Row]) -> String {
    let ours = rows.iter().filter(|row| row.contender == Contender::Tradewind);
    let said: Vec<String> = ours
        .map(|row| {
            let during = row.during();
            let kept = if during.median >= TARGET { "met" } else { "missed" };
            format!("{kept} ({}: {} %)", row.setting.label(), during.show(1.0, 1))
        })
        .collect();
    format!("Target, goodput of at least {TARGET:.0} % of the peak in the spike: {}.", said.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(during: f64) -> Figures {
        let ms = |count| Some(Duration::from_millis(count));
        Figures {
            peak: 200.0,
            before: 160.0,
            during,
            after: 160.0,
            served: Quantiles { p50: ms(600), p99: ms(1_040) },
            refused: Quantiles { p50: None, p99: None },
            failed: 0,
            asked: 20_000,
            recovery: ms(300),
        }
    }

    #[test]
    fn a_target_is_met_or_missed() {
        let mut row = Row::new(Setting::Alone, Contender::Tradewind);
        row.add(figures(196.0));
        assert_eq!(
            row.line(),
            "| one region | Tradewind | 200 | 80.0 | 98.0 | 80.0 | 600 / 1040 | - / - | 0 of 20000 | 300 |"
        );
        assert_eq!(
            verdict(&[row]),
            "Target, goodput of at least 95 % of the peak in the spike: met (one region: 98.0 %)."
        );
        let mut row = Row::new(Setting::Alone, Contender::Tradewind);
        row.add(figures(180.0));
        assert!(verdict(&[row]).ends_with("missed (one region: 90.0 %)."));
    }
}
