//! The table of all faults, and the sentence about their absence.

use std::{collections::BTreeSet, time::Duration};

use tradewind_core::alert::AlertKind;

use super::fault::Fault;
use crate::spread::Spread;

/// One alert that a fault has to raise, in rounds.
#[derive(Debug)]
pub(super) struct Row {
    fault: Fault,
    pub(super) alert: AlertKind,
    /// From the fault until control told of it.
    took: Vec<Duration>,
    /// What else was told of by then.
    others: BTreeSet<AlertKind>,
}

impl Row {
    pub(super) fn new(fault: Fault, alert: AlertKind) -> Self {
        Self { fault, alert, took: Vec::new(), others: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, took: Duration, told: &BTreeSet<AlertKind>) {
        self.took.push(took);
        self.others.extend(told.iter().filter(|kind| !self.fault.alerts().contains(kind)));
    }

    fn line(&self) -> String {
        let seconds = Spread::of(self.took.iter().map(Duration::as_secs_f64).collect()).show(1.0, 1);
        let others: Vec<String> = self.others.iter().map(|kind| format!("`{kind}`")).collect();
        let hold = self.alert.hold().as_secs();
        format!("| {} | `{}` | {seconds} | {hold} | {} |", self.fault.label(), self.alert, others.join(", "))
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    let head =
        "| fault | alert | told after, s | of which it had to last, s | also told by then |\n|---|---|--:|--:|---|";
    format!("{head}\n{}", lines.join("\n"))
}

/// Worlds without a fault.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    pub(super) time: Duration,
    pub(super) work: usize,
    pub(super) alerts: Vec<String>,
}

impl Quiet {
    pub(super) fn sentence(&self) -> String {
        let minutes = self.time.as_secs_f64() / 60.0;
        let alerts = match self.alerts.as_slice() {
            [] => "no alert fired".to_owned(),
            some => format!("{} alerts fired: {}", some.len(), some.join("; ")),
        };
        format!(
            "Without a fault, in {minutes:.0} minutes of {} pieces of usual work (deploys, drains, restarts of each role, a lost replica): {alerts}.",
            self.work
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_else_was_told() {
        let mut row = Row::new(Fault::Slow, AlertKind::Saturation);
        row.add(Duration::from_millis(61_240), &BTreeSet::from([AlertKind::Saturation, AlertKind::LatencyBudgetBurn]));
        row.add(Duration::from_millis(63_000), &BTreeSet::from([AlertKind::Saturation, AlertKind::ErrorBudgetBurn]));
        assert_eq!(
            row.line(),
            "| answers take 400 ms instead of 2 | `Saturation` | 62.1 (61.2–63.0) | 60 | `ErrorBudgetBurn` |"
        );
    }

    #[test]
    fn a_false_alarm_is_told() {
        let mut quiet = Quiet { time: Duration::from_secs(600), work: 20, alerts: Vec::new() };
        assert!(quiet.sentence().ends_with("a lost replica): no alert fired."), "{}", quiet.sentence());
        quiet.alerts.push("RegionDown in us-east1".to_owned());
        assert!(quiet.sentence().ends_with("1 alerts fired: RegionDown in us-east1."), "{}", quiet.sentence());
    }
}
