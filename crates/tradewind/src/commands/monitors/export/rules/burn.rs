//! Objectives as burn rates, by the windows and factors that control alerts by itself.

use std::{collections::BTreeSet, time::Duration};

use tradewind_api::metrics::SECONDS;
use tradewind_core::{
    alert::{AlertKind, Severity},
    duration::Span,
    monitor::{
        LatencyObjective,
        burn::{RULES, Rule},
    },
};

use super::{Alert, Recording};
use crate::commands::monitors::export::objectives::Objectives;

/// With fewer of them in the long window a ratio proves nothing.
const LEAST_MISSED: u32 = 10;
const REQUESTS: &str = "tradewind_gateway_requests_total";
const DURATION: &str = "tradewind_gateway_request_duration_seconds";
const FAILED: &str = r#"outcome=~"server_error|unavailable""#;

/// The parts of the requests that failed, by model, region and window. What users cancelled is left out.
pub(super) fn recordings() -> Vec<Recording> {
    let windows: BTreeSet<Duration> = RULES.iter().flat_map(|rule| [rule.short, rule.long]).collect();
    let ratio = |window: Duration| Recording {
        name: error_ratio(window),
        expr: format!(
            "{}\n/ {}",
            counted("rate", &format!("{REQUESTS}{{{FAILED}}}"), window),
            counted("rate", &format!("{REQUESTS}{{outcome!=\"cancelled\"}}"), window)
        ),
    };
    windows.into_iter().map(ratio).collect()
}

fn error_ratio(window: Duration) -> String {
    format!("tradewind:request_errors:ratio_rate{}", span(window))
}

fn counted(function: &str, selector: &str, window: Duration) -> String {
    format!("sum by (model, region) ({function}({selector}[{}]))", span(window))
}

fn span(window: Duration) -> Span {
    Span::from_secs(window.as_secs())
}

pub(super) fn alerts(objectives: &Objectives) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for severity in [Severity::Critical, Severity::Warning] {
        let branches = |one: &dyn Fn(&Rule) -> Vec<String>| -> Vec<String> {
            RULES.iter().filter(|rule| rule.severity == severity).flat_map(one).collect()
        };
        let failed = branches(&|rule| {
            let groups = objectives.groups(|monitors| monitors.availability).into_iter();
            groups.map(|(matchers, availability)| errors(&matchers, availability, rule)).collect()
        });
        alerts.extend(alert(AlertKind::ErrorBudgetBurn, severity, &failed, "failed"));
        let late = branches(&|rule| {
            let groups = objectives.groups(|monitors| monitors.latency).into_iter();
            groups.filter_map(|(matchers, latency)| slow(&matchers, latency?, rule)).collect()
        });
        alerts.extend(alert(AlertKind::LatencyBudgetBurn, severity, &late, "were too slow"));
    }
    alerts
}

/// `None` without any objective of that kind.
fn alert(kind: AlertKind, severity: Severity, branches: &[String], what: &str) -> Option<Alert> {
    let summary = format!("too many requests to {{{{ $labels.model }}}} in {{{{ $labels.region }}}} {what}");
    let description = format!(
        "{{{{ $value | humanizePercentage }}}} of its requests {what} of late: its objective will not be kept."
    );
    let expr = branches.join("\nor ");
    (!branches.is_empty()).then(|| Alert::of(kind, severity, expr, &summary, &description))
}

fn errors(matchers: &str, availability: f64, rule: &Rule) -> String {
    let limit = format!("{} * {}", rule.factor, rest(availability));
    let braces = if matchers.is_empty() { String::new() } else { format!("{{{matchers}}}") };
    let over = |window| format!("{}{braces} > {limit}", error_ratio(window));
    let missed = counted("increase", &format!("{REQUESTS}{{{}}}", joined(matchers, FAILED)), rule.long);
    format!("{}\n  and {}\n  and {missed} >= {LEAST_MISSED}", over(rule.short), over(rule.long))
}

/// `None` for an objective above all bounds that gateways show.
fn slow(matchers: &str, latency: LatencyObjective, rule: &Rule) -> Option<String> {
    // Rounded up to the next bound: what keeps the objective never counts as slow.
    let bound = *SECONDS.iter().find(|bound| latency.within.duration() <= Duration::from_secs_f64(**bound))?;
    let limit = format!("{} * {}", rule.factor, rest(latency.share));
    let within = |function, window| {
        let matchers = joined(matchers, &format!("le=\"{bound:?}\""));
        counted(function, &format!("{DURATION}_bucket{{{matchers}}}"), window)
    };
    let all = |function, window| counted(function, &format!("{DURATION}_count{{{matchers}}}"), window);
    let over = |window| format!("1 - {}\n    / {} > {limit}", within("rate", window), all("rate", window));
    let missed = format!("{}\n    - {}", all("increase", rule.long), within("increase", rule.long));
    Some(format!("{}\n  and {}\n  and {missed} >= {LEAST_MISSED}", over(rule.short), over(rule.long)))
}

fn joined(matchers: &str, more: &str) -> String {
    if matchers.is_empty() { more.to_owned() } else { format!("{matchers},{more}") }
}

/// `0.001` for `0.999`.
fn rest(share: f64) -> f64 {
    ((1.0 - share) * 1e9).round() / 1e9
}
