//! Objectives as burn rates: how fast errors or slow answers use up what an objective allows. An alert wants a long
//! window, so that it matters, and a short one, so that it ends when the trouble does (the SRE Workbook, chapter 5).

use tradewind_core::duration::Span;

use super::{Alert, Recording};
use crate::commands::monitors::export::objectives::{Latency, Objective, Objectives};

/// An alert fires when errors in both windows burn the budget at least so fast.
#[derive(Debug, Clone, Copy)]
struct Burn {
    severity: &'static str,
    short: &'static str,
    long: &'static str,
    /// Times the rate that uses up the budget in 30 days.
    factor: f64,
    hold_secs: u64,
}

/// 2 % of the budget within an hour.
const FAST: Burn = Burn { severity: "critical", short: "5m", long: "1h", factor: 14.4, hold_secs: 60 };
/// 5 % of the budget within six hours.
const SLOW: Burn = Burn { severity: "warning", short: "30m", long: "6h", factor: 6.0, hold_secs: 300 };
const WINDOWS: [&str; 4] = [FAST.short, SLOW.short, FAST.long, SLOW.long];

/// The parts of the requests that were errors, by model and window. What users cancelled is left out.
pub(super) fn recordings() -> Vec<Recording> {
    let ratio = |window: &str| Recording {
        name: error_ratio(window),
        expr: format!(
            "sum by (model) (rate(tradewind_gateway_requests_total{{outcome=~\"server_error|unavailable\"}}[{window}]))\n\
             / sum by (model) (rate(tradewind_gateway_requests_total{{outcome!=\"cancelled\"}}[{window}]))"
        ),
    };
    WINDOWS.map(ratio).into()
}

fn error_ratio(window: &str) -> String {
    format!("tradewind:request_errors:ratio_rate{window}")
}

pub(super) fn alerts(objectives: &Objectives) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (name, burn) in [("TradewindErrorBurnFast", FAST), ("TradewindErrorBurnSlow", SLOW)] {
        let branches = objectives.groups().into_iter().map(|(models, objective)| errors(&models, objective, burn));
        alerts.push(burn.alert(name, branches.collect(), "errors"));
    }
    for (name, burn) in [("TradewindLatencyBurnFast", FAST), ("TradewindLatencyBurnSlow", SLOW)] {
        let groups = objectives.groups().into_iter();
        let branches = groups.filter_map(|(models, objective)| Some(slow(&models, objective.latency?, burn)));
        let branches: Vec<String> = branches.collect();
        if !branches.is_empty() {
            alerts.push(burn.alert(name, branches, "slow answers"));
        }
    }
    alerts
}

impl Burn {
    fn alert(self, name: &'static str, branches: Vec<String>, what: &str) -> Alert {
        let Self { severity, short, long, factor, hold_secs } = self;
        Alert {
            name,
            severity,
            hold: Span::from_secs(hold_secs),
            expr: branches.join("\nor\n"),
            summary: format!(
                "{{{{ $labels.model }}}} uses up what its objective allows of {what} {factor} times too fast"
            ),
            description: format!(
                "Of the requests to {{{{ $labels.model }}}} in the last {short}, {{{{ $value | humanizePercentage }}}} were {what}; \
                 of those in the last {long} there were too many too."
            ),
        }
    }
}

fn errors(models: &str, objective: Objective, burn: Burn) -> String {
    let limit = format!("{} * {}", burn.factor, share(1.0 - objective.availability));
    let matchers = if models.is_empty() { String::new() } else { format!("{{{models}}}") };
    let over = |window| format!("{}{matchers} > {limit}", error_ratio(window));
    format!("{}\nand {}", over(burn.short), over(burn.long))
}

fn slow(models: &str, latency: Latency, burn: Burn) -> String {
    let Latency { bound_seconds, share: wanted } = latency;
    let limit = format!("{} * {}", burn.factor, share(1.0 - wanted));
    let over = |window| {
        let rate = |end: &str, matchers: &str| {
            format!("sum by (model) (rate(tradewind_gateway_request_duration_seconds_{end}{{{matchers}}}[{window}]))")
        };
        let comma = if models.is_empty() { "" } else { "," };
        // In both formats a bound is written with a point.
        let within = rate("bucket", &format!("{models}{comma}le=\"{bound_seconds:?}\""));
        format!("1 - {within} / {} > {limit}", rate("count", models))
    };
    format!("{}\nand {}", over(burn.short), over(burn.long))
}

/// `0.001` for what is left of `0.999`.
fn share(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}
