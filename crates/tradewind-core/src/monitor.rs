//! What is watched of a deployment in every region, and what counts as too bad. Monitors belong to a revision: a rollback
//! restores them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::duration::Span;

pub mod burn;
pub mod disk;
pub mod evidence;
pub mod statistics;
pub mod verdict;
pub mod window;

/// The monitors of one deployment in one region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Monitors {
    /// The share of requests to be answered without a failure of the server's, such as 0.999.
    pub availability: f64,
    /// Absent: no objective for the time that answers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyObjective>,
    /// Golden cases are asked of every replica again after this time; 0: only when it starts.
    pub golden_interval: Span,
    /// A region is saturated when this share of what its replicas can have in flight is in flight.
    pub saturation: f64,
}

/// `share` of the answers come `within` a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyObjective {
    pub within: Span,
    pub share: f64,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { availability: 0.999, latency: None, golden_interval: Span::from_secs(30), saturation: 0.9 }
    }
}

/// A stricter objective could not be told from perfection: three days at a hundred requests per second are 26 million.
pub const OBJECTIVE_LIMIT: f64 = 0.999_999;
/// Golden cases are not asked again more often than this.
pub const GOLDEN_INTERVAL_LEAST: Span = Span::from_secs(1);

impl Monitors {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with these numbers, for people.
    pub fn check(&self) -> Result<(), String> {
        let is_objective = |share: f64| (0.5..=OBJECTIVE_LIMIT).contains(&share);
        if !is_objective(self.availability) {
            return Err(format!(
                "availability is a share between 0.5 and {OBJECTIVE_LIMIT}, not {}",
                self.availability
            ));
        }
        if let Some(latency) = self.latency {
            if !is_objective(latency.share) {
                return Err(format!("the latency's share is between 0.5 and {OBJECTIVE_LIMIT}, not {}", latency.share));
            }
            if latency.within.as_millis() == 0 || latency.within > Span::from_secs(60) {
                return Err(format!("answers come within 1ms to 1m, not {}", latency.within));
            }
        }
        if !(0.1..=1.0).contains(&self.saturation) {
            return Err(format!("saturation is a share between 0.1 and 1, not {}", self.saturation));
        }
        if self.golden_interval > Span::from_millis(0) && self.golden_interval < GOLDEN_INTERVAL_LEAST {
            return Err(format!("golden_interval is at least {GOLDEN_INTERVAL_LEAST}, or 0s for never"));
        }
        Ok(())
    }

    /// `availability 99.9 %, 99 % within 100ms`
    pub fn summary(&self) -> String {
        let percent = |share: f64| format!("{} %", (share * 1e6).round() / 1e4);
        let latency = self.latency.map(|each| format!(", {} within {}", percent(each.share), each.within));
        format!("availability {}{}", percent(self.availability), latency.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let check = |monitors: Monitors, expected: &str| {
            assert_eq!(monitors.check().err().unwrap_or_default(), expected, "{monitors:?}");
        };
        let of = Monitors::default;
        let latency = |within, share| Some(LatencyObjective { within, share });
        check(of(), "");
        check(
            Monitors { latency: latency(Span::from_millis(100), 0.99), golden_interval: Span::from_secs(0), ..of() },
            "",
        );
        check(Monitors { availability: 1.0, ..of() }, "availability is a share between 0.5 and 0.999999, not 1");
        check(Monitors { availability: 99.9, ..of() }, "availability is a share between 0.5 and 0.999999, not 99.9");
        check(
            Monitors { latency: latency(Span::from_millis(100), f64::NAN), ..of() },
            "the latency's share is between 0.5 and 0.999999, not NaN",
        );
        check(
            Monitors { latency: latency(Span::from_secs(61), 0.9), ..of() },
            "answers come within 1ms to 1m, not 1m1s",
        );
        check(Monitors { saturation: 0.0, ..of() }, "saturation is a share between 0.1 and 1, not 0");
        check(
            Monitors { golden_interval: Span::from_millis(10), ..of() },
            "golden_interval is at least 1s, or 0s for never",
        );
    }

    #[test]
    fn objectives_are_told_in_percent() {
        let latency = Some(LatencyObjective { within: Span::from_millis(100), share: 0.99 });
        let monitors = Monitors { availability: 0.9995, latency, ..Monitors::default() };
        assert_eq!(monitors.summary(), "availability 99.95 %, 99 % within 100ms");
    }
}
