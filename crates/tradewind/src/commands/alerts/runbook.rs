//! `tradewind alerts runbook`: what to do, also without a browser.

use tradewind_core::alert::AlertKind;

use super::parse_kind;
use crate::{failure::Failure, terminal};

/// What an alert means, and what to do about it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind alerts runbook RegionDown
  tradewind alerts runbook error-budget-burn")]
pub(super) struct Args {
    /// The alert's name
    #[arg(value_parser = parse_kind)]
    kind: AlertKind,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    terminal::print(page(args.kind))
}

/// The pages of docs/alerts.
fn page(kind: AlertKind) -> &'static str {
    macro_rules! page {
        ($name:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/alerts/", $name, ".md"))
        };
    }
    match kind {
        AlertKind::RegionDown => page!("region-down"),
        AlertKind::ModelUnavailable => page!("model-unavailable"),
        AlertKind::ReplicasMissing => page!("replicas-missing"),
        AlertKind::WrongAnswers => page!("wrong-answers"),
        AlertKind::ErrorBudgetBurn => page!("error-budget-burn"),
        AlertKind::LatencyBudgetBurn => page!("latency-budget-burn"),
        AlertKind::Saturation => page!("saturation"),
        AlertKind::DiskRoom => page!("disk-room"),
        AlertKind::VersionDrift => page!("version-drift"),
        AlertKind::GatewayStale => page!("gateway-stale"),
        AlertKind::FailoverUnfit => page!("failover-unfit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alert_has_a_page_of_its_own() {
        for kind in AlertKind::ALL {
            let page = page(kind);
            assert!(page.starts_with(&format!("# {kind}\n")), "{kind}");
            for part in ["## What it means", "## What users feel", "## What to do"] {
                assert!(page.contains(part), "{kind} lacks {part}");
            }
        }
    }
}
