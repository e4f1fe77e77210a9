//! The table of all faults.

use std::time::Duration;

use super::{
    fault::{Fault, View},
    figures::Figures,
};
use crate::spread::Spread;

const MS: f64 = 1e-3;

/// One fault as one kind of users saw it, in rounds.
#[derive(Debug)]
pub(super) struct Row {
    fault: Fault,
    pub view: View,
    window: Duration,
    rounds: Vec<Figures>,
}

impl Row {
    pub(super) fn new(fault: Fault, view: View, window: Duration) -> Self {
        Self { fault, view, window, rounds: Vec::new() }
    }

    pub(super) fn add(&mut self, figures: Figures) {
        self.rounds.push(figures);
    }

    fn line(&self) -> String {
        let millis = |value: fn(&Figures) -> Duration| {
            Spread::of(self.rounds.iter().map(|round| value(round).as_secs_f64()).collect()).show(MS, 0)
        };
        let count = |value: fn(&Figures) -> usize| {
            Spread::of(self.rounds.iter().map(|round| value(round) as f64).collect()).show(1.0, 0)
        };
        let first = match self.fault.takes_away() {
            Some(_) => self.moment(|round| round.first),
            None => String::new(),
        };
        let cells = [
            self.fault.label().to_owned(),
            self.view.label(),
            first,
            self.moment(|round| round.well),
            format!("{} of {}", count(|round| round.failed), count(|round| round.asked)),
            millis(|round| round.silence),
            millis(|round| round.slowest),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// In milliseconds; something may not have happened in some rounds.
    fn moment(&self, value: fn(&Figures) -> Option<Duration>) -> String {
        let seen: Vec<f64> = self.rounds.iter().filter_map(value).map(|time| time.as_secs_f64()).collect();
        let (all, window) = (self.rounds.len(), self.window.as_secs());
        match seen.len() {
            0 => format!("not in {window} s"),
            some if some < all => {
                format!("{}, {} of {all} times not in {window} s", Spread::of(seen).show(MS, 0), all - some)
            }
            _ => Spread::of(seen).show(MS, 0),
        }
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let columns = [
        "fault",
        "users of",
        "first answer from elsewhere, ms",
        "all well again, ms",
        "requests failed",
        "longest silence, ms",
        "slowest answer, ms",
    ];
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    format!("| {} |\n|---|---|{}\n{}", columns.join(" | "), "--:|".repeat(5), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(first: Option<u64>, failed: usize) -> Figures {
        let ms = Duration::from_millis;
        Figures { first: first.map(ms), well: Some(ms(300)), asked: 1400, failed, silence: ms(20), slowest: ms(40) }
    }

    #[test]
    fn what_did_not_happen_in_a_round_is_told() {
        let fault = Fault::RegionKill;
        let mut row = Row::new(fault, fault.views()[0], Duration::from_secs(12));
        row.add(figures(Some(10), 0));
        row.add(figures(Some(30), 4));
        assert_eq!(
            row.line(),
            "| the whole region: kill -9 | Tradewind | 20 (10–30) | 300 | 2 (0–4) of 1400 | 20 | 40 |"
        );
        row.add(figures(None, 4));
        assert!(row.line().contains("| 20 (10–30), 1 of 3 times not in 12 s |"), "{}", row.line());
    }

    #[test]
    fn where_no_place_is_gone_nobody_goes_elsewhere() {
        let fault = Fault::ReplicaKill;
        let mut row = Row::new(fault, fault.views()[1], Duration::from_secs(12));
        row.add(figures(None, 0));
        assert_eq!(row.line(), "| one of two replicas: kill -9 | HAProxy |  | 300 | 0 of 1400 | 20 | 40 |");
    }
}
