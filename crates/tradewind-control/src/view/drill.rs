//! A drill as it is seen at one moment.

use std::collections::BTreeSet;

use tradewind_api::gateway::GatewayReport;
use tradewind_core::{
    ModelName, RegionName,
    drill::{
        Counted, Drill, TargetUse,
        measure::{Sighting, Whereabouts},
    },
    route::{Route, RouteState},
};

use super::{capacity::capacity, sight::Sight};

/// What a region serves: the models whose route names it.
pub(crate) fn served<'a>(region: &RegionName, routes: &'a [Route]) -> Vec<(&'a ModelName, &'a RouteState)> {
    let committed = routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)));
    committed.filter(|(_, live)| live.regions.contains(region)).collect()
}

pub(crate) fn view(drill: &Drill, routes: &[Route], sight: &Sight<'_>) -> Sighting {
    let region = &drill.region;
    let served = served(region, routes);
    Sighting {
        at: sight.now,
        whereabouts: whereabouts(region, &served, sight),
        counted: counted(region, &served, sight),
        elsewhere: elsewhere(region, &served, sight),
        p99_at_home_us: p99_at_home_us(region, &served, sight),
        p99_elsewhere_us: p99_us(region, &served, sight, |answers| answers != region),
        targets: targets(drill, &served, sight),
    }
}

type Served<'a> = [(&'a ModelName, &'a RouteState)];

fn whereabouts(region: &RegionName, served: &Served<'_>, sight: &Sight<'_>) -> Whereabouts {
    let at_home = |(model, _): &(&ModelName, &RouteState)| {
        let goes_to = sight.told_by_gateways(region, model)?;
        Some(goes_to == Some(region))
    };
    let places: BTreeSet<Option<bool>> = served.iter().map(at_home).collect();
    match places.into_iter().collect::<Vec<_>>().as_slice() {
        [Some(true)] => Whereabouts::Home,
        [Some(false)] => Whereabouts::Away,
        _ => Whereabouts::Unclear,
    }
}

/// `None` while one of the region's gateways has not been heard.
pub(crate) fn counted(region: &RegionName, served: &Served<'_>, sight: &Sight<'_>) -> Option<Counted> {
    let mut counted = Counted::default();
    let is_served = |model: &ModelName| served.iter().any(|(name, _)| *name == model);
    for gateway in sight.seen.gateways.values() {
        let own = gateway.region == *region;
        let Some(report) = &gateway.report else {
            if own {
                return None;
            }
            continue;
        };
        for entry in report.traffic.iter().filter(|entry| is_served(&entry.model)) {
            let (requests, failed) = match own {
                true => (&mut counted.requests, &mut counted.failed),
                false => (&mut counted.requests_of_others, &mut counted.failed_of_others),
            };
            *requests += entry.requests;
            *failed += entry.errors;
        }
    }
    Some(counted)
}

fn elsewhere(region: &RegionName, served: &Served<'_>, sight: &Sight<'_>) -> u64 {
    let of_report = |report: &GatewayReport| -> u64 {
        let away = report.traffic.iter().filter(|entry| entry.region != *region);
        away.filter(|entry| served.iter().any(|(name, _)| **name == entry.model)).map(|entry| entry.requests).sum()
    };
    sight.live_reports(region).map(of_report).sum()
}

/// The worst model's, of what the region's users got there over the last minute or so.
pub(crate) fn p99_at_home_us(region: &RegionName, served: &Served<'_>, sight: &Sight<'_>) -> Option<u64> {
    p99_us(region, served, sight, |answers| answers == region)
}

/// The same of what they got from regions that count.
fn p99_us(
    region: &RegionName,
    served: &Served<'_>,
    sight: &Sight<'_>,
    counts: impl Fn(&RegionName) -> bool,
) -> Option<u64> {
    let entries = sight.live_reports(region).flat_map(|report| &report.traffic);
    let counted = entries.filter(|entry| counts(&entry.region) && served.iter().any(|(name, _)| **name == entry.model));
    counted.map(|entry| entry.p99_us).filter(|us| *us > 0).max()
}

/// Of the regions that were expected to take users, and of those that do.
fn targets(drill: &Drill, served: &Served<'_>, sight: &Sight<'_>) -> Vec<TargetUse> {
    let mut targets = Vec::new();
    for (model, live) in served {
        let models = drill.estimate.failover.models.iter().filter(|expected| expected.model == **model);
        let mut regions: BTreeSet<&RegionName> =
            models.flat_map(|expected| &expected.targets).map(|target| &target.region).collect();
        regions.extend(sight.told_by_gateways(&drill.region, model).flatten());
        regions.remove(&drill.region);
        for region in regions {
            let Some(capacity) = capacity(sight, region, model, live) else { continue };
            targets.push(TargetUse {
                model: (*model).clone(),
                region: region.clone(),
                in_flight: capacity.in_flight,
                utilisation: capacity.utilisation(),
            });
        }
    }
    targets
}
