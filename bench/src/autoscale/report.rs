//! The table of the fleets, beside the least that would do.

use std::time::Duration;

use super::{
    day::{QUARTERS, REGIONS, ideal, rate},
    fleet::{Fleet, Taken},
};
use crate::samples::{Sample, failures, time_of};

const MS: f64 = 0.001;

/// One fleet's day.
#[derive(Debug)]
pub(super) struct Row {
    label: &'static str,
    replica_seconds: f64,
    most: usize,
    asked: usize,
    lost: usize,
    /// Half, 99 of 100, all answers came within these.
    times: [Option<Duration>; 3],
    late: Duration,
}

impl Row {
    pub(super) fn of(fleet: Fleet, taken: &Taken) -> Self {
        Self {
            label: fleet.label(),
            replica_seconds: taken.replica_seconds,
            most: taken.most,
            asked: taken.samples.len(),
            lost: failures(&taken.samples),
            times: [0.5, 0.99, 1.0].map(|share| time_of(&taken.samples, share, Sample::is_served)),
            late: taken.late,
        }
    }

    /// With its part of what another fleet costs.
    pub(super) fn line(&self, of: Option<f64>) -> String {
        let times = self.times.map(|time| time.map_or_else(String::new, ms));
        format!(
            "| {} | {:.0} | {} | {} | {} | {} | {} | {} |",
            self.label,
            self.replica_seconds,
            share(self.replica_seconds, of),
            self.most,
            self.asked,
            self.lost,
            times.join(" | "),
            ms(self.late),
        )
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() / MS)
}

fn share(part: f64, of: Option<f64>) -> String {
    of.map_or_else(String::new, |of| format!("{:.0} %", part / of * 100.0))
}

pub(super) fn table(rows: &[Row], quarter: Duration) -> String {
    let columns = [
        "fleet",
        "replica-seconds",
        "of the fixed",
        "most replicas",
        "requests",
        "lost",
        "p50, ms",
        "p99, ms",
        "slowest, ms",
        "users late, ms",
    ];
    let fixed = rows.last().map(|row| row.replica_seconds);
    let least: u32 = REGIONS.iter().flat_map(|(_, ahead)| (0..QUARTERS).map(|at| ideal(rate(*ahead, at)))).sum();
    let least = f64::from(least) * quarter.as_secs_f64();
    let ideal = format!("| the least that does the work | {least:.0} | {} |  |  |  |  |  |  |  |", share(least, fixed));
    let lines: Vec<String> = rows.iter().map(|row| row.line(fixed)).chain([ideal]).collect();
    format!("| {} |\n|---|{}\n{}", columns.join(" | "), "--:|".repeat(9), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fleet_costs_is_told_beside_the_fixed_one() {
        let row = |label, replica_seconds| Row {
            label,
            replica_seconds,
            most: 9,
            asked: 5000,
            lost: 0,
            times: [110, 300, 900].map(|ms| Some(Duration::from_millis(ms))),
            late: Duration::from_millis(2),
        };
        let table = table(&[row("follows", 900.0), row("fixed", 5760.0)], Duration::from_millis(2500));
        assert!(table.contains("| follows | 900 | 16 % | 9 | 5000 | 0 | 110 | 300 | 900 | 2 |"), "{table}");
        assert!(table.contains("| fixed | 5760 | 100 % |"), "{table}");
        assert!(table.contains("| the least that does the work | "), "{table}");
    }
}
