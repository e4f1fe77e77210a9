//! Regions and their members.

use std::collections::BTreeMap;

use tradewind_api::status::{MemberStatus, RegionStatus};
use tradewind_core::{
    RegionName,
    drill::Drill,
    region::{Member, MemberRole, Region},
    route::Route,
};

use super::{
    capacity::Failovers,
    sight::{Sight, Verdict},
};
use crate::hub::GatewaySeen;

/// All regions, sorted by name.
pub(crate) fn view(
    members: &[Member],
    routes: &[Route],
    drill: Option<&Drill>,
    sight: &Sight<'_>,
) -> Vec<RegionStatus> {
    let mut by_region: BTreeMap<&RegionName, Vec<&Member>> = BTreeMap::new();
    for member in members {
        by_region.entry(&member.region).or_default().push(member);
    }
    let members = |name: &RegionName| by_region.get(name).map(Vec::as_slice).unwrap_or_default();
    let failovers = Failovers::new(routes, sight);
    let drilled = |name: &RegionName| {
        drill.filter(|drill| drill.region == *name && drill.runs(sight.now)).map(|drill| drill.number)
    };
    let status = |region: &Region| RegionStatus {
        drill: drilled(&region.name),
        failover: failovers.of_region(&region.name),
        ..region_status(region, members(&region.name), routes, sight)
    };
    sight.regions.values().map(status).collect()
}

fn region_status(region: &Region, members: &[&Member], routes: &[Route], sight: &Sight<'_>) -> RegionStatus {
    let name = &region.name;
    let verdict = sight.members_verdict(name);
    let of = |role| members.iter().filter(move |member| member.role == role);
    let round_trips = sight.round_trips(name).into_iter();
    RegionStatus {
        name: name.clone(),
        location: region.location,
        drained: region.drained,
        healthy: verdict == Verdict::Healthy,
        reason: verdict.reason(),
        agents: of(MemberRole::Agent).map(|member| agent(member, sight)).collect(),
        gateways: of(MemberRole::Gateway).map(|member| gateway(member, routes, sight)).collect(),
        replicas: sight.seen.agents.get(name).map(|agent| agent.report.replicas.clone()).unwrap_or_default(),
        round_trips_us: round_trips.map(|(peer, time)| (peer, time.as_micros() as u64)).collect(),
        failover: None,
        drill: None,
    }
}

fn agent(member: &Member, sight: &Sight<'_>) -> MemberStatus {
    let seen = sight.seen.agents.get(&member.region).filter(|agent| agent.report.address == member.address);
    MemberStatus {
        address: member.address.clone(),
        alive: seen.is_some() && sight.is_reachable(&member.region),
        pid: seen.map(|agent| agent.report.pid),
        last_report: seen.map(|agent| agent.at),
        stale: false,
    }
}

fn gateway(member: &Member, routes: &[Route], sight: &Sight<'_>) -> MemberStatus {
    let seen = sight.seen.gateways.get(&member.address);
    MemberStatus {
        address: member.address.clone(),
        alive: seen.is_some_and(|gateway| sight.alive(gateway)),
        pid: seen.and_then(|gateway| gateway.report.as_ref()).map(|report| report.pid),
        last_report: seen.and_then(|gateway| gateway.at),
        stale: seen.is_some_and(|gateway| is_stale(gateway, routes)),
    }
}

/// It has not acknowledged the newest committed epoch of some model.
pub(crate) fn is_stale(gateway: &GatewaySeen, routes: &[Route]) -> bool {
    let Some(report) = &gateway.report else { return false };
    let committed = routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)));
    committed
        .into_iter()
        .any(|(model, state)| report.committed.get(model).is_none_or(|acknowledged| acknowledged.epoch < state.epoch))
}
