//! The alerts that are the same for every world.

use tradewind_core::alert::{AlertKind, Severity};

use super::{Alert, LEAST_HOLD};

pub(super) fn alerts() -> Vec<Alert> {
    of_models().into_iter().chain(of_regions()).chain(of_disks()).chain([control_down()]).collect()
}

fn of_models() -> [Alert; 4] {
    [
        Alert::of(
            AlertKind::ModelUnavailable,
            Severity::Critical,
            "max by (model, region) (tradewind_control_model_healthy) == 0\n\
             or (min by (model) (tradewind_gateway_model_served) == 0\n\
             \x20 unless on (model) max by (model, region) (tradewind_control_model_healthy) == 0)",
            "{{ $labels.model }} is not available{{ with $labels.region }} in {{ . }}{{ end }}",
            "No replica of it is ready there. Its users are served by other regions, where there are any.",
        ),
        Alert::of(
            AlertKind::ReplicasMissing,
            Severity::Warning,
            "max by (model, region) ((tradewind_agent_replicas_desired - tradewind_agent_replicas_ready)\n\
             \x20 and on (model, region, slot) tradewind_agent_slot_state{state=\"ready\"} == 1) > 0",
            "{{ $value }} replicas of {{ $labels.model }} are missing in {{ $labels.region }}",
            "The slot was complete once, and fewer replicas are ready now than it should have.",
        ),
        Alert::of(
            AlertKind::WrongAnswers,
            Severity::Critical,
            "max by (model, region) (tradewind_agent_replicas_suspect) > 0\n\
             or sum by (model, region) (increase(tradewind_agent_golden_cases_total{result=\"wrong\"}[5m])) > 0",
            "{{ $labels.model }} answers wrongly in {{ $labels.region }}",
            "Replicas there answered golden cases wrongly within the last minutes.",
        ),
        Alert::of(
            AlertKind::VersionDrift,
            Severity::Warning,
            "max by (model, region) (tradewind_control_model_drifted) == 1",
            "{{ $labels.region }} runs another revision of {{ $labels.model }} than it should",
            "Its slot holds another revision than the one that users should get.",
        ),
    ]
}

fn of_regions() -> [Alert; 3] {
    [
        Alert::of(
            AlertKind::RegionDown,
            Severity::Critical,
            "max by (region) (tradewind_control_region_healthy) == 0\n\
             or max by (region) (tradewind_gateway_peer_healthy) == 0",
            "{{ $labels.region }} is down",
            "Control hears no agent or no gateway of it, or no gateway elsewhere reaches it. Other regions serve its users.",
        ),
        Alert::of(
            AlertKind::GatewayStale,
            Severity::Warning,
            "max by (region) (tradewind_control_gateways_stale) > 0",
            "{{ $value }} gateways of {{ $labels.region }} are behind",
            "They have not taken up the newest route of some model, and serve the one before.",
        ),
        Alert::of(
            AlertKind::FailoverUnfit,
            Severity::Warning,
            "max by (region) (tradewind_control_failover_fits) == 0",
            "the users of {{ $labels.region }} would not find room elsewhere",
            "If the region were lost now, the others could not carry all of its users.",
        ),
    ]
}

/// As control judges disks itself: by share, and by size.
fn of_disks() -> [Alert; 2] {
    let below = |share: f64, size: &str| {
        let of = |role: &str| {
            let metric = |what: &str| format!("tradewind_{role}_disk_{what}_bytes");
            let (available, size_of) = (metric("available"), metric("size"));
            format!("{available} / {size_of} < {share} and {available} < {size}")
        };
        format!("min by (region) ({})\nor min({})", of("agent"), of("control"))
    };
    [(Severity::Warning, below(0.1, "10 * 2^30")), (Severity::Critical, below(0.02, "2^30"))].map(|(severity, expr)| {
        Alert::of(
            AlertKind::DiskRoom,
            severity,
            expr,
            "the disk of {{ with $labels.region }}the agent of {{ . }}{{ else }}control{{ end }} is nearly full",
            "{{ $value | humanizePercentage }} of it is free. Without room no new version is installed.",
        )
    })
}

/// Control cannot tell of this itself.
fn control_down() -> Alert {
    Alert {
        name: "ControlDown",
        severity: Severity::Warning,
        hold: 4 * LEAST_HOLD,
        expr: "absent(tradewind_control_reconciling == 1)".to_owned(),
        summary: "no control plane reconciles".to_owned(),
        description: "Users are served all the same. Deploys, catching up and status wait until control is back."
            .to_owned(),
        runbook: "../running.md#when-control-is-down".to_owned(),
    }
}
