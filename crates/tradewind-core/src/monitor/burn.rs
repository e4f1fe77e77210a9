//! Alerts on the speed at which an error budget is spent, over a long window, so that they matter, and a short one, so
//! that they end soon after the trouble does (Google's SRE workbook, chapter 5, "multiwindow, multi-burn-rate").

use std::time::Duration;

use super::evidence::{Objective, Tally};
use crate::alert::Severity;

/// Spending the budget of 30 days so many times faster than allowed, over both windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub factor: f64,
    pub long: Duration,
    pub short: Duration,
    pub severity: Severity,
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// The worst first: 2 % of the budget in an hour, 5 % in six hours, 10 % in three days.
pub const RULES: [Rule; 3] = [
    Rule { factor: 14.4, long: minutes(60), short: minutes(5), severity: Severity::Critical },
    Rule { factor: 6.0, long: minutes(360), short: minutes(30), severity: Severity::Critical },
    Rule { factor: 1.0, long: minutes(3 * 24 * 60), short: minutes(360), severity: Severity::Warning },
];

/// The worst rule that the counts prove; `over` has the counts of a window that ends now, and `history` says since when
/// there are any. The first rule judges from the first request on; the others once their short window is full, or what
/// happens in the first minutes of a deployment would be told of for hours.
pub fn burning(objective: &Objective, history: Duration, over: impl Fn(Duration) -> Tally) -> Option<&'static Rule> {
    let burns = |rule: &&Rule| {
        objective.burns(&over(rule.short), rule.factor) && objective.burns(&over(rule.long), rule.factor)
    };
    let applies = |rule: &&Rule| **rule == RULES[0] || history >= rule.short;
    RULES.iter().filter(applies).find(burns)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::monitor::{Monitors, window::Windows};

    /// Plays traffic minute by minute: requests per minute, and the share of them that fails. Says after how many minutes
    /// of the last part which rule fired.
    fn play(seed: u64, parts: &[(u64, u64, f64)]) -> Option<(u64, Severity)> {
        let objective = Monitors::default().objectives()[0];
        let (mut windows, mut draws, mut now) = (Windows::default(), StdRng::seed_from_u64(seed), 0);
        for (part, (length, requests, share)) in parts.iter().enumerate() {
            for minute in 0..*length {
                let failed = (0..*requests).filter(|_| draws.random_bool(*share)).count() as u64;
                windows.add(now, Tally { requests: *requests, failed, ..Tally::default() });
                now += 60;
                let history = Duration::from_secs(now as u64);
                if let Some(rule) = burning(&objective, history, |window| windows.over(now, window)) {
                    assert_eq!(
                        part,
                        parts.len() - 1,
                        "too early: {rule:?} in part {part}, minute {minute}, seed {seed}"
                    );
                    return Some((minute + 1, rule.severity));
                }
            }
        }
        None
    }

    #[test]
    fn an_outage_is_told_within_minutes_and_a_slow_leak_within_hours() {
        let calm = (120, 600, 0.0002);
        let check = |share, within: std::ops::RangeInclusive<u64>, expected| {
            let (after, severity) =
                play(7, &[calm, (3 * 1440, 600, share)]).unwrap_or_else(|| panic!("{share}: nothing"));
            assert!(within.contains(&after) && severity == expected, "{share}: after {after} minutes, {severity:?}");
        };
        check(1.0, 1..=3, Severity::Critical);
        check(0.1, 6..=16, Severity::Critical);
        check(0.02, 35..=70, Severity::Critical);
        check(0.008, 120..=420, Severity::Warning);
        check(0.002, 230..=3000, Severity::Warning);
    }

    #[test]
    fn what_stays_within_its_budget_is_quiet_over_many_seeds() {
        for seed in 0..30 {
            assert_eq!(play(seed, &[(1440, 120, 0.0005)]), None, "seed {seed}");
        }
        // Few requests and now and then a failure: each is far above the budget by itself, and proves nothing.
        for seed in 0..200 {
            assert_eq!(play(seed, &[(360, 1, 0.0005)]), None, "seed {seed}");
        }
    }
}
