//! Routes: which slot of which regions users get. One epoch numbers each change, fleet-wide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Epoch, ModelName, RegionName, RevisionNumber, Slot, VersionNumber, deployment::HealthPolicy};

/// The route of a model. Gateways serve `committed`; they prepare for `prepared`, and never serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    pub model: ModelName,
    pub committed: Option<RouteState>,
    pub prepared: Option<RouteState>,
}

/// What users get at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteState {
    pub epoch: Epoch,
    pub live: Slot,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// The regions where that revision is verified; only these get traffic.
    pub regions: Vec<RegionName>,
    /// How gateways probe the regions of this route.
    pub health: HealthPolicy,
    /// Regions that are probed in a way of their own.
    #[serde(default)]
    pub region_health: BTreeMap<RegionName, HealthPolicy>,
    /// Requests of these regions' users are answered in these regions and nowhere else. Empty: anywhere.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stay_in: BTreeSet<RegionName>,
}

impl RouteState {
    /// Whether a request of a user of `from` may be answered in `region`.
    pub fn may_go(&self, from: &RegionName, region: &RegionName) -> bool {
        !self.stay_in.contains(from) || self.stay_in.contains(region)
    }

    pub fn health_of(&self, region: &RegionName) -> HealthPolicy {
        self.region_health.get(region).copied().unwrap_or(self.health)
    }
}
