//! What happened, for people and for other programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ModelName, RegionName, Timestamp};

/// One thing that happened, and its place among all events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows from event to event, with gaps.
    pub sequence: u64,
    #[serde(flatten)]
    pub record: EventRecord,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventRecord {
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub severity: Severity,
    /// A stable word for programs: `region_unhealthy`, `replica_restarted`, ...
    pub kind: EventKind,
    #[serde(default)]
    pub region: Option<RegionName>,
    #[serde(default)]
    pub model: Option<ModelName>,
    /// One sentence for people, lower case, no final period.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    ModelPushed,
    ModelRemoved,
    RegionAdded,
    RegionHealthy,
    RegionUnhealthy,
    RegionDrained,
    RegionUndrained,
    DrillStarted,
    DrillEnded,
    DeploymentCreated,
    RolloutStarted,
    RolloutRegion,
    RolloutFailed,
    /// It waits for a person.
    RolloutPaused,
    /// A person has paused it, or told it to go on.
    RolloutDecided,
    RolloutFinished,
    RouteCommitted,
    UsersPinned,
    RegionDeferred,
    RegionCaughtUp,
    MonitoringArmed,
    SoakEnded,
    SlotRetired,
    /// The number of a slot's replicas is another, by demand or by hand.
    Scaled,
    ReplicaStarted,
    ReplicaExited,
    ReplicaAdopted,
    ReplicaReplaced,
    BundleInstalled,
    DriftFound,
    DriftRepaired,
    AgentStarted,
    GatewayStarted,
    ControlStarted,
    TrafficMoved,
    TrafficReturned,
    WrongAnswer,
    AlertFired,
    AlertResolved,
    Undeployed,
}
