//! Prometheus' rules: they watch the world on the metrics alone, and need nothing of Tradewind's own alerting. Alerts
//! have its names and its runbooks.

mod burn;
mod fixed;
mod yaml;

use std::time::Duration;

use tradewind_core::{
    alert::{AlertKind, Severity},
    duration::Span,
};

use super::objectives::Objectives;

/// What is scraped now and then has to last longer than what control hears at once.
const LEAST_HOLD: Duration = Duration::from_secs(15);

/// A query that is kept under a name.
#[derive(Debug, Clone)]
struct Recording {
    name: String,
    expr: String,
}

#[derive(Debug, Clone)]
struct Alert {
    name: &'static str,
    severity: Severity,
    /// How long the condition lasts before it fires.
    hold: Duration,
    expr: String,
    summary: String,
    description: String,
    /// Below the place of the runbooks.
    runbook: String,
}

/// How the file is to be written.
#[derive(Debug, Clone)]
pub(super) struct Style<'a> {
    /// Instead of each alert's own time.
    pub(super) hold: Option<Span>,
    /// Where the runbooks are.
    pub(super) runbooks: &'a str,
}

/// The whole file.
pub(super) fn file(objectives: &Objectives, style: &Style<'_>) -> String {
    let mut alerts = all(objectives);
    if let Some(hold) = style.hold {
        alerts.iter_mut().for_each(|alert| alert.hold = hold.duration());
    }
    yaml::file(&burn::recordings(), &alerts, style.runbooks)
}

fn all(objectives: &Objectives) -> Vec<Alert> {
    let mut alerts = fixed::alerts();
    alerts.push(saturation(objectives));
    alerts.extend(burn::alerts(objectives));
    alerts
}

impl Alert {
    fn of(kind: AlertKind, severity: Severity, expr: impl Into<String>, summary: &str, description: &str) -> Self {
        Self {
            name: kind.as_str(),
            severity,
            hold: kind.hold().max(LEAST_HOLD),
            expr: expr.into(),
            summary: summary.to_owned(),
            description: description.to_owned(),
            runbook: format!("{}.md", kind.page()),
        }
    }
}

fn saturation(objectives: &Objectives) -> Alert {
    let groups = objectives.groups(|monitors| monitors.saturation);
    let branch = |(matchers, limit): (String, f64)| {
        let braces = if matchers.is_empty() { String::new() } else { format!("{{{matchers}}}") };
        format!("max by (model, region) (tradewind_control_model_utilisation_ratio{braces}) >= {limit}")
    };
    Alert::of(
        AlertKind::Saturation,
        Severity::Warning,
        groups.into_iter().map(branch).collect::<Vec<_>>().join("\nor "),
        "{{ $labels.model }} is almost full in {{ $labels.region }}",
        "Its replicas there have {{ $value | humanizePercentage }} of the requests in flight that they may have.",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tradewind_core::monitor::{LatencyObjective, Monitors};

    use super::*;
    use crate::commands::monitors::export::queries;

    fn objectives() -> Objectives {
        let latency = Some(LatencyObjective { within: Span::from_millis(800), share: 0.99 });
        let strict = Monitors { availability: 0.9999, latency, saturation: 0.5, ..Monitors::default() };
        let of = |model: &str, region: &str, monitors| ((model.parse().unwrap(), region.parse().unwrap()), monitors);
        Objectives::new([
            of("digits", "us-east1", strict),
            of("digits", "europe-west1", Monitors::default()),
            of("tokens.v2", "us-east1", strict),
            of("usual", "us-east1", Monitors::default()),
        ])
    }

    #[test]
    fn there_is_a_rule_for_every_kind_and_every_query_knows_its_metrics() {
        let mut rules = BTreeSet::new();
        for alert in all(&objectives()) {
            queries::check(&alert.expr);
            assert!(rules.insert((alert.name, alert.severity)), "{} stands there twice", alert.name);
        }
        let names: BTreeSet<&str> = rules.into_iter().map(|(name, _)| name).collect();
        for kind in AlertKind::ALL {
            assert!(names.contains(kind.as_str()), "no rule for {kind}");
        }
        burn::recordings().iter().for_each(|recording| queries::check(&recording.expr));
    }

    #[test]
    fn objectives_are_those_of_models_and_regions_and_the_rest_have_the_default() {
        let full = saturation(&objectives()).expr;
        let branch = |matchers: &str, limit: &str| {
            format!("max by (model, region) (tradewind_control_model_utilisation_ratio{{{matchers}}}) >= {limit}")
        };
        let expected = [
            branch(r#"model="digits",region=~"europe-west1""#, "0.9"),
            branch(r#"model="digits",region=~"us-east1""#, "0.5"),
            branch(r#"model="tokens.v2",region=~"us-east1""#, "0.5"),
            branch(r#"model!~"digits|tokens[.]v2""#, "0.9"),
        ];
        assert_eq!(full, expected.join("\nor "));
        let alerts = burn::alerts(&objectives());
        let find = |kind: AlertKind| &alerts.iter().find(|alert| alert.name == kind.as_str()).unwrap().expr;
        let errors = find(AlertKind::ErrorBudgetBurn);
        let ratio = r#"tradewind:request_errors:ratio_rate5m{model="digits",region=~"us-east1"} > 14.4 * 0.0001"#;
        assert!(errors.contains(ratio), "{errors}");
        let late = find(AlertKind::LatencyBudgetBurn);
        assert!(late.contains(r#"model="digits",region=~"us-east1",le="1.0"}[5m]"#), "{late}");
        assert!(!late.contains("!~") && !late.contains("europe-west1"), "{late}");
    }

    #[test]
    fn one_time_may_be_set_for_all() {
        let style = Style { hold: Some(Span::from_secs(90)), runbooks: "https://example.com/alerts/" };
        let text = file(&Objectives::default(), &style);
        let times: BTreeSet<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("for: ")).collect();
        assert_eq!(times, BTreeSet::from(["1m30s"]));
        assert!(text.contains("runbook_url: \"https://example.com/alerts/region-down.md\"\n"), "{text}");
    }
}
