//! Snapshots for the tests beside.

use tradewind_core::{
    Epoch, RevisionNumber, Slot, VersionNumber,
    deployment::HealthPolicy,
    route::{Route, RouteState},
};

use super::{GatewaySnapshot, RegionMembers};

pub(crate) fn snapshot(incarnation: &str, revision: u64) -> GatewaySnapshot {
    GatewaySnapshot {
        incarnation: incarnation.to_owned(),
        revision,
        deployed: 0,
        mesh_token: "mesh".to_owned(),
        regions: vec![region("us-east1")],
        routes: Vec::new(),
        health: HealthPolicy::default(),
    }
}

pub(crate) fn region(name: &str) -> RegionMembers {
    RegionMembers {
        name: name.parse().unwrap(),
        location: None,
        drained: false,
        gateways: Vec::new(),
        agents: Vec::new(),
        drill: None,
    }
}

/// Committed at `epoch`.
pub(crate) fn route(model: &str, epoch: u64, regions: &[&str]) -> Route {
    let committed = RouteState {
        epoch: Epoch(epoch),
        live: Slot::Blue,
        revision: RevisionNumber(epoch),
        version: VersionNumber(1),
        regions: regions.iter().map(|name| name.parse().unwrap()).collect(),
        health: HealthPolicy::default(),
        region_health: Default::default(),
        stay_in: Default::default(),
        candidate: None,
    };
    Route { model: model.parse().unwrap(), committed: Some(committed), prepared: None, pins: Default::default() }
}
