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
    pub errors_per_second: f64,
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

/// Sums what the region's gateways have answered to its users since they started, whoever answered. Rates are of
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
    felt.errors_per_second += entry.errors_per_second;
    // An entry that is quiet now says how the past was, as long as its window reaches back to it.
    if entry.per_second > 0.0 || felt.p50_us.is_none() {
        let measured = |us: u64| Some(us).filter(|us| *us > 0);
        felt.p50_us = felt.p50_us.max(measured(entry.p50_us));
        felt.p99_us = felt.p99_us.max(measured(entry.p99_us));
    }
}

#[cfg(test)]
mod tests {
    use tradewind_api::gateway::GatewayReport;
    use tradewind_core::{RevisionNumber, Timestamp, histogram::Histogram};

    use super::*;
    use crate::{
        hub::Hub,
        view::{fixtures, sight::Regions},
    };

    fn traffic(revision: u64, per_second: f64, p99_us: u64) -> Traffic {
        Traffic {
            model: "digits".parse().unwrap(),
            revision: RevisionNumber(revision),
            region: "us-east1".parse().unwrap(),
            requests: 1000,
            errors: 100,
            durations: Histogram::default(),
            duration_us: 0,
            p50_us: p99_us / 2,
            p99_us,
            per_second,
            errors_per_second: per_second / 100.0,
        }
    }

    fn check(traffic: Vec<Traffic>, expected: Felt) {
        let (hub, now) = (Hub::new(Timestamp::UNIX_EPOCH), Timestamp::now());
        let report = GatewayReport { traffic, ..fixtures::gateway("us-east1") };
        hub.report_gateway(report, now);
        let regions = Regions::new();
        let seen = hub.seen();
        let felt = felt(&Sight::new(&regions, &seen, now), &"us-east1".parse().unwrap(), &"digits".parse().unwrap());
        assert_eq!(felt, expected);
    }

    #[test]
    fn rates_are_of_now_and_a_window_without_answers_has_no_percentiles() {
        let quiet = Felt { requests: 1000, errors: 100, ..Felt::default() };
        check(vec![traffic(1, 0.0, 0)], quiet);
        check(vec![traffic(1, 0.0, 8)], Felt { p50_us: Some(4), p99_us: Some(8), ..quiet });
        let busy = Felt {
            requests: 2000,
            errors: 200,
            per_second: 300.0,
            errors_per_second: 3.0,
            p50_us: Some(4),
            p99_us: Some(8),
        };
        check(vec![traffic(1, 0.0, 0), traffic(2, 300.0, 8)], busy);
    }
}
