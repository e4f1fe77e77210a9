//! Prometheus' rules: they watch the world on the metrics alone, and need nothing of Tradewind's own alerting.

mod burn;
mod yaml;

use tradewind_core::duration::Span;

use super::objectives::Objectives;

/// Where alerts are explained.
const RUNBOOKS: &str = "docs/runbooks.md";

/// A query that is kept under a name.
#[derive(Debug, Clone)]
struct Recording {
    name: String,
    expr: String,
}

#[derive(Debug, Clone)]
struct Alert {
    name: &'static str,
    severity: &'static str,
    /// How long the condition lasts before it fires.
    hold: Span,
    expr: String,
    summary: String,
    description: String,
}

/// The whole file.
pub(super) fn file(objectives: &Objectives, hold: Option<Span>) -> String {
    let mut alerts: Vec<Alert> = WORLD.iter().map(Fixed::alert).collect();
    alerts.extend(burn::alerts(objectives));
    if let Some(hold) = hold {
        alerts.iter_mut().for_each(|alert| alert.hold = hold);
    }
    yaml::file(&burn::recordings(), &alerts)
}

/// An alert that is the same for every world.
struct Fixed {
    name: &'static str,
    severity: &'static str,
    hold_secs: u64,
    expr: &'static str,
    summary: &'static str,
    description: &'static str,
}

const WORLD: &[Fixed] = &[
    Fixed {
        name: "TradewindRegionDown",
        severity: "critical",
        hold_secs: 15,
        expr: "max by (region) (tradewind_control_region_healthy) == 0\n\
               or max by (region) (tradewind_gateway_peer_healthy) == 0",
        summary: "{{ $labels.region }} is down",
        description: "Control hears no agent or no gateway of {{ $labels.region }}, or no gateway elsewhere reaches it. \
                      Its users are served by other regions.",
    },
    Fixed {
        name: "TradewindModelUnavailable",
        severity: "critical",
        hold_secs: 15,
        expr: "min by (model) (tradewind_gateway_model_served) == 0",
        summary: "{{ $labels.model }} is not available",
        description: "At least one gateway finds no region that can serve {{ $labels.model }}: its users get no answer.",
    },
    Fixed {
        name: "TradewindModelUnhealthy",
        severity: "warning",
        hold_secs: 60,
        expr: "max by (model, region) (tradewind_control_model_healthy) == 0",
        summary: "{{ $labels.model }} has no replica in {{ $labels.region }} that is ready",
        description: "The region is up, but no replica of {{ $labels.model }} there has the live revision and is ready. \
                      Its users are served by other regions, where there are any.",
    },
    Fixed {
        name: "TradewindVersionDrift",
        severity: "critical",
        hold_secs: 300,
        expr: "max by (region) (increase(tradewind_agent_drift_found_total[1h])\n\
               - increase(tradewind_agent_drift_repaired_total[1h])) > 0.5",
        summary: "an installed bundle in {{ $labels.region }} is not what was deployed",
        description: "Files of an installed bundle were altered within the last hour, and it could not be installed again.",
    },
    Fixed {
        name: "TradewindSaturation",
        severity: "warning",
        hold_secs: 300,
        expr: "sum by (model, region) (tradewind_gateway_replica_requests_in_flight)\n\
               / (sum by (model, region) (tradewind_gateway_replica_requests_limit) > 0) > 0.9",
        summary: "{{ $labels.model }} is almost full in {{ $labels.region }}",
        description: "The replicas of {{ $labels.model }} in {{ $labels.region }} have {{ $value | humanizePercentage }} of \
                      the requests in flight that they can take. What is beyond spills over, or is refused.",
    },
    Fixed {
        name: "TradewindDiskRoom",
        severity: "warning",
        hold_secs: 300,
        expr: "min by (region) (tradewind_agent_disk_available_bytes / tradewind_agent_disk_size_bytes) < 0.1\n\
               or min(tradewind_control_disk_available_bytes / tradewind_control_disk_size_bytes) < 0.1",
        summary: "the disk of {{ with $labels.region }}the agent of {{ . }}{{ else }}control{{ end }} is almost full",
        description: "{{ $value | humanizePercentage }} of the disk is left. Without room no new version is installed.",
    },
    Fixed {
        name: "TradewindStaleGateway",
        severity: "warning",
        hold_secs: 60,
        expr: "max by (region) (tradewind_control_gateways_stale) > 0",
        summary: "{{ $value }} gateways of {{ $labels.region }} are behind",
        description: "They have not taken up the newest route of some model, and serve the one before.",
    },
    Fixed {
        name: "TradewindControlDown",
        severity: "warning",
        hold_secs: 60,
        expr: "absent(tradewind_control_reconciling == 1)",
        summary: "no control plane reconciles",
        description: "Users are served all the same. Deploys, catching up and status wait until control is back.",
    },
];

impl Fixed {
    fn alert(&self) -> Alert {
        Alert {
            name: self.name,
            severity: self.severity,
            hold: Span::from_secs(self.hold_secs),
            expr: self.expr.to_owned(),
            summary: self.summary.to_owned(),
            description: self.description.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::commands::monitors::export::{
        objectives::{Latency, Objective},
        queries,
    };

    fn objectives() -> Objectives {
        let strict = Objective { availability: 0.9999, latency: Some(Latency { bound_seconds: 1.0, share: 0.99 }) };
        let model = |name: &str, objective| (name.parse().unwrap(), objective);
        Objectives {
            models: vec![model("digits", strict), model("tokens.v2", strict), model("usual", Objective::default())],
        }
    }

    #[test]
    fn every_query_knows_its_metrics_and_every_alert_has_one_rule() {
        let mut names = BTreeSet::new();
        for alert in WORLD.iter().map(Fixed::alert).chain(burn::alerts(&objectives())) {
            queries::check(&alert.expr);
            assert!(names.insert(alert.name), "{} stands there twice", alert.name);
            assert!(alert.hold >= Span::from_secs(15), "{} fires at a blink", alert.name);
        }
        burn::recordings().iter().for_each(|recording| queries::check(&recording.expr));
    }

    #[test]
    fn objectives_are_those_of_the_models_and_the_rest_have_the_default() {
        let alerts = burn::alerts(&objectives());
        let fast = alerts.iter().find(|alert| alert.name.ends_with("ErrorBurnFast")).unwrap();
        let named = r#"digits|tokens[.]v2""#;
        let ratio = |window, matcher: &str, budget| {
            format!("tradewind:request_errors:ratio_rate{window}{{model{matcher}\"{named}}} > 14.4 * {budget}")
        };
        let both = |matcher, budget| format!("{}\nand {}", ratio("5m", matcher, budget), ratio("1h", matcher, budget));
        assert_eq!(fast.expr, format!("{}\nor\n{}", both("=~", "0.0001"), both("!~", "0.001")));
        let slow = alerts.iter().find(|alert| alert.name.ends_with("LatencyBurnSlow")).unwrap();
        assert!(slow.expr.contains(r#"model=~"digits|tokens[.]v2",le="1.0"}[30m]"#), "{}", slow.expr);
        assert!(!slow.expr.contains("!~"), "{}", slow.expr);
    }

    #[test]
    fn one_time_may_be_set_for_all() {
        let text = file(&Objectives::default(), Some(Span::from_secs(90)));
        let times: BTreeSet<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("for: ")).collect();
        assert_eq!(times, BTreeSet::from(["1m30s"]));
    }
}
