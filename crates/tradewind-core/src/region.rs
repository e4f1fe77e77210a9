//! Regions: named places with a location.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::RegionName;

/// A point on Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    pub latitude: f64,
    pub longitude: f64,
}

/// A region as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    pub name: RegionName,
    /// Absent for a region whose name is in no catalogue and whose place nobody told: it is then farthest from everyone.
    pub location: Option<Location>,
    /// A drained region takes no users.
    #[serde(default)]
    pub drained: bool,
}

/// An agent or gateway of a region, as the store keeps it: written when its address is new, not at each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub region: RegionName,
    pub role: MemberRole,
    /// host:port
    pub address: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    Agent,
    Gateway,
}

impl MemberRole {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Gateway => "gateway",
        }
    }
}
