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
