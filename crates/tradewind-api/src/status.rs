//! What runs, and how it is: the documents of `status`, `regions`, `events`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tradewind_core::{
    DrillNumber, Epoch, ModelName, RegionName, RevisionNumber, Slot, Timestamp, VersionNumber,
    assignment::{ReplicaCount, ReplicaStatus},
    capacity::{Capacity, Failover, ModelFailover},
    drill::Drill,
    event::Event,
    region::Location,
    rollout::{RolloutState, Soak},
};
use utoipa::ToSchema;

use crate::deploy::{AudienceView, StageView};

/// `GET /v1/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorldStatus {
    pub schema_version: u32,
    pub models: Vec<DeploymentStatus>,
    pub regions: Vec<RegionStatus>,
    /// The drill that is under way.
    #[serde(default)]
    pub drill: Option<Drill>,
}

/// `GET /v1/deployments/{model}/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentStatus {
    pub schema_version: u32,
    pub model: ModelName,

    // The tracker of the latest rollout.
    pub regions: Vec<RegionName>,
    pub deployment_status: BTreeMap<RegionName, DeploymentProgress>,
    pub verification_status: BTreeMap<RegionName, VerificationProgress>,
    pub routing_configured: bool,
    pub monitoring_active: bool,
    pub rollout: RolloutBrief,

    // What users get now; absent (null) before anything was routed.
    pub revision: Option<RevisionNumber>,
    pub version: Option<VersionNumber>,
    pub epoch: Option<Epoch>,
    pub live_slot: Option<Slot>,
    /// What some users get instead.
    #[serde(default)]
    pub candidate: Option<CandidateView>,
    pub slots: BTreeMap<Slot, SlotView>,

    /// Health of each region that serves or should serve, as users of that region feel it.
    pub health: BTreeMap<RegionName, RegionHealth>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentProgress {
    Pending,
    Deploying,
    Success,
    Failed,
    Deferred,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationProgress {
    Pending,
    Success,
    Failed,
}

/// A revision that some users get, and which users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateView {
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    pub slot: Slot,
    pub users: AudienceView,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutBrief {
    pub revision: RevisionNumber,
    pub state: RolloutState,
    pub soak: Soak,
    #[serde(default)]
    pub stage: StageView,
    /// Why it waits for a person.
    #[serde(default)]
    pub paused: Option<String>,
    #[schema(value_type = Option<String>)]
    pub soak_until: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotView {
    pub revision: RevisionNumber,
    pub state: SlotState,
    pub replicas: BTreeMap<RegionName, ReplicaCount>,
    /// Why there are as many, of regions whose agents say it.
    #[serde(default)]
    pub scaling: BTreeMap<RegionName, ScalingView>,
    /// What people should know of the replicas of a region: limits that nobody keeps, how those ended that were restarted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remarks: BTreeMap<RegionName, Vec<String>>,
}

/// Why a slot has as many replicas in a region as it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScalingView {
    /// For people: `7.2 in flight, 2 for each replica`.
    pub reason: String,
    /// What the region's users ask for, those who wait included; absent (null) when no gateway says.
    pub in_flight: Option<f64>,
    /// The bounds of the revision; both absent (null) where the number is fixed.
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// What a person has set.
    pub by_hand: Option<u32>,
    /// It was scaled to zero, and starts when somebody asks.
    pub resting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    Live,
    /// Being brought up.
    Candidate,
    /// The former live one, kept for a way back.
    Standby,
}

/// How a region is for the users of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionHealth {
    pub healthy: bool,
    /// Why not: `no agent for 12 s`, `0 of 1 replicas ready`.
    pub reason: Option<String>,
    /// Where this region's users go now, nearest first; the region itself when it is healthy.
    pub users_go_to: Option<RegionName>,
    /// Over the last seconds.
    pub requests_per_second: f64,
    /// Over the same seconds.
    #[serde(default)]
    pub errors_per_second: f64,
    /// Since the gateways started.
    pub requests: u64,
    pub errors: u64,
    /// Over the last minute or so; absent (null) when nothing was answered in that time.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// What the region's replicas do; absent (null) where its gateways say nothing of them.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// Where those would go who are answered in this region, if it were lost now; absent (null) where it serves nobody.
    #[serde(default)]
    pub failover: Option<ModelFailover>,
}

/// `GET /v1/regions`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionList {
    pub schema_version: u32,
    pub regions: Vec<RegionStatus>,
}

/// A region and its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionStatus {
    pub name: RegionName,
    pub location: Option<Location>,
    pub drained: bool,
    pub healthy: bool,
    pub reason: Option<String>,
    pub agents: Vec<MemberStatus>,
    pub gateways: Vec<MemberStatus>,
    pub replicas: Vec<ReplicaStatus>,
    /// Round trips to other regions as this region's gateways measure them.
    pub round_trips_us: BTreeMap<RegionName, u64>,
    /// Where its users would go, if it were lost now; absent (null) where it serves nobody.
    #[serde(default)]
    pub failover: Option<Failover>,
    /// The drill that takes it for lost.
    #[serde(default)]
    pub drill: Option<DrillNumber>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberStatus {
    /// host:port
    pub address: String,
    /// It has reported within the silence limit.
    pub alive: bool,
    pub pid: Option<u32>,
    #[schema(value_type = Option<String>)]
    pub last_report: Option<Timestamp>,
    /// For gateways: it has not acknowledged the newest committed epoch of some model.
    pub stale: bool,
}

/// `POST /v1/regions`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRegion {
    pub name: RegionName,
    /// Absent: from the catalogue, by the name.
    pub location: Option<Location>,
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// Only events after this one.
    pub after: Option<u64>,
    /// The newest so many; default 100.
    pub limit: Option<u32>,
    pub model: Option<ModelName>,
    pub region: Option<RegionName>,
    /// NDJSON of each [`Event`] as it happens, after those there are.
    pub follow: bool,
}

/// `GET /v1/events`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    pub schema_version: u32,
    /// Oldest first.
    pub events: Vec<Event>,
}
