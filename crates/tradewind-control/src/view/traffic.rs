//! The traffic of a region's users, summed over its gateways.

use tradewind_api::gateway::Traffic;
use tradewind_core::{ModelName, RegionName};

use super::sight::Sight;

/// What users of one region got from one model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Felt {
    pub requests: u64,
    pub errors: u64,
    pub per_second: f64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

/// Sums what the region's gateways have answered to its users since they started, whoever answered. A rate is of
/// gateways that are alive; the percentiles are the worst of any, since those of parts do not add up.
pub(crate) fn felt(sight: &Sight<'_>, region: &RegionName, model: &ModelName) -> Felt {
    let mut felt = Felt::default();
    for gateway in sight.gateways(region) {
        let alive = sight.alive(gateway);
        let Some(report) = &gateway.report else { continue };
        for entry in report.traffic.iter().filter(|entry| entry.model == *model) {
            felt.requests += entry.requests;
            felt.errors += entry.errors;
            if alive && entry.requests > 0 {
                add_live(&mut felt, entry);
            }
        }
    }
    felt
}

fn add_live(felt: &mut Felt, entry: &Traffic) {
    felt.per_second += entry.per_second;
    // An entry that is quiet now says how the past was.
    if entry.per_second > 0.0 || felt.p50_us.is_none() {
        felt.p50_us = felt.p50_us.max(Some(entry.p50_us));
        felt.p99_us = felt.p99_us.max(Some(entry.p99_us));
    }
}
