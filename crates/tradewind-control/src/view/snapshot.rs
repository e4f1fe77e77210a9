//! What every gateway is told.

use std::collections::BTreeMap;

use tradewind_api::gateway::{GatewaySnapshot, RegionDrill, RegionMembers};
use tradewind_core::{
    RegionName,
    deployment::HealthPolicy,
    drill::Drill,
    region::{Member, MemberRole, Region},
    route::Route,
};
use tradewind_store::{Incarnation, Revision};

/// All as of one revision of the store.
#[derive(Debug)]
pub(crate) struct SnapshotParts {
    pub revision: Revision,
    /// Models with a live revision.
    pub deployed: usize,
    pub routes: Vec<Route>,
    pub regions: Vec<Region>,
    pub members: Vec<Member>,
    /// The drill that runs.
    pub drill: Option<Drill>,
}

pub(crate) fn view(parts: SnapshotParts, incarnation: &Incarnation, mesh_token: &str) -> GatewaySnapshot {
    let mut regions: BTreeMap<RegionName, RegionMembers> = parts.regions.into_iter().map(without_members).collect();
    for member in parts.members {
        let Some(region) = regions.get_mut(&member.region) else { continue };
        match member.role {
            MemberRole::Agent => region.agents.push(member.address),
            MemberRole::Gateway => region.gateways.push(member.address),
        }
    }
    if let Some(drill) = parts.drill
        && let Some(region) = regions.get_mut(&drill.region)
    {
        region.drill = Some(RegionDrill { number: drill.number, lasts: drill.lasts });
    }
    GatewaySnapshot {
        incarnation: incarnation.to_string(),
        revision: parts.revision.get(),
        deployed: u32::try_from(parts.deployed).unwrap_or(u32::MAX),
        mesh_token: mesh_token.to_owned(),
        regions: regions.into_values().collect(),
        routes: parts.routes,
        health: HealthPolicy::default(),
    }
}

fn without_members(region: Region) -> (RegionName, RegionMembers) {
    let Region { name, location, drained } = region;
    (name.clone(), RegionMembers { name, location, drained, gateways: Vec::new(), agents: Vec::new(), drill: None })
}
