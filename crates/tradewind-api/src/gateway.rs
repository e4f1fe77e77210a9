//! What control and the gateways tell each other, and what gateways tell other gateways.

pub mod acceptance;
pub mod config;
#[cfg(test)]
pub(crate) mod fixtures;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
/// COMMIT waits for a gateway that has reported within this time.
pub use tradewind_core::rollout::plan::LEASE;
use tradewind_core::{
    DrillNumber, Epoch, ModelName, RegionName, RevisionNumber, Slot, Timestamp, capacity::Capacity,
    deployment::HealthPolicy, duration::Span, histogram::Histogram, region::Location, route::Route,
};
use utoipa::ToSchema;

/// `GET /v1/gateway/snapshot`: NDJSON of [`config::ConfigMessage`].
pub const SNAPSHOT_PATH: &str = "/v1/gateway/snapshot";
/// `POST /v1/gateway/report` with a [`GatewayReport`].
pub const REPORT_PATH: &str = "/v1/gateway/report";
/// `GET` on a gateway: a [`PeerState`], for the holders of the mesh token.
pub const PEER_PATH: &str = "/v1/peer";
/// `GET` on a gateway: the [`config::Edition`] that it serves, for the holders of the mesh token: a gateway that control does
/// not reach learns of what is committed from one that it does.
pub const EDITION_PATH: &str = "/v1/peer/edition";
/// `GET` with a digest behind it, on control for gateways, and on a gateway for the holders of the mesh token: a table of
/// pinned users that a route names.
pub const PIN_TABLES_PATH: &str = "/v1/gateway/pins/";
/// `GET` on a gateway with an [`ExplainQuery`]: an [`Explanation`], for the holders of the mesh token.
pub const EXPLAIN_PATH: &str = "/v1/explain";
/// Carries the mesh token on a request that another gateway passed on. Such a request goes no further.
pub const PEER_HEADER: &str = "x-tradewind-peer";
/// On a 503 between gateways: this region cannot serve the model now, ask another one.
pub const UNAVAILABLE_HEADER: &str = "x-tradewind-unavailable";

/// On a request between gateways: its own region has no room for it. It is taken only where there is room to spare.
pub const SPILL_HEADER: &str = "x-tradewind-spill";
/// Names the model of a gRPC request whose message does not, such as one for a model server of the user's own.
pub const MODEL_HEADER: &str = "x-tradewind-model";
/// How long the sender will wait for an answer, such as `500ms` or `2s`.
pub const TIMEOUT_HEADER: &str = "x-request-timeout";

pub const USER_HEADER: &str = "x-tradewind-user";
pub const CLIENT_REGION_HEADER: &str = "x-tradewind-client-region";
pub const REGION_HEADER: &str = "x-tradewind-region";
/// On an answer to a user who is pinned: `live`, `candidate` or `revision`, as the pin says, or `retired` where that
/// revision is not there any more and the user gets what is live.
pub const PIN_HEADER: &str = "x-tradewind-pin";
pub const SLOT_HEADER: &str = "x-tradewind-slot";
pub const REVISION_HEADER: &str = "x-tradewind-revision";
pub const EPOCH_HEADER: &str = "x-tradewind-epoch";
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Marks golden cases and other requests that are not users'.
pub const PROBE_HEADER: &str = "x-tradewind-probe";

/// A gateway reports at least this often.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// Everything that a gateway needs to know from control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewaySnapshot {
    /// Of the store; a change means that state was restored from a snapshot.
    pub incarnation: String,
    /// The store's revision that this snapshot shows. Within one incarnation an older one is refused.
    pub revision: u64,
    /// How many models have a live revision, counted apart from the routes: with fewer routes, some are missing.
    #[serde(default)]
    pub deployed: u32,
    pub mesh_token: String,
    /// In the order of their names.
    pub regions: Vec<RegionMembers>,
    /// In the order of their models' names.
    pub routes: Vec<Route>,
    /// How regions probe each other.
    pub health: HealthPolicy,
}

/// A region and the addresses of its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionMembers {
    pub name: RegionName,
    pub location: Option<Location>,
    pub drained: bool,
    /// host:port each
    pub gateways: Vec<String>,
    /// host:port each
    pub agents: Vec<String>,
    /// The region is taken for lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<RegionDrill>,
}

/// A drill as the gateways of its region are told of it. Each counts the time itself, from when it first hears of the
/// number, so that it ends whatever becomes of control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionDrill {
    pub number: DrillNumber,
    pub lasts: Span,
}

/// What a gateway sees. The whole of it, every time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReport {
    pub region: RegionName,
    pub pid: u32,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// host:port where users and other gateways reach this gateway; also its identity.
    pub address: String,
    pub prepared: BTreeMap<ModelName, Epoch>,
    pub committed: BTreeMap<ModelName, Committed>,
    /// Why the newest snapshot or a prepared route was refused.
    pub refused: Option<String>,
    /// What this gateway has taken up, and kept on its disk. Gateways of earlier versions say nothing.
    #[serde(default)]
    pub config: Option<config::ConfigVersion>,
    pub peers: Vec<PeerHealth>,
    /// Where requests that entered here went, since this gateway started.
    pub traffic: Vec<Traffic>,
    /// For each routed model, the region that this gateway sends users of its own region to now; null when no region
    /// can serve them. Gateways of earlier versions say nothing.
    #[serde(default)]
    #[schema(value_type = BTreeMap<ModelName, String>)]
    pub users_go_to: BTreeMap<ModelName, Option<RegionName>>,
    /// What the replicas of its region do. Gateways of earlier versions say nothing.
    #[serde(default)]
    pub load: Vec<SlotLoad>,
}

/// What one gateway has with the replicas of its region in one slot. The limit is of all of them, whoever asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotLoad {
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    #[serde(flatten)]
    pub capacity: Capacity,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Committed {
    pub epoch: Epoch,
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// Another region as a gateway sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerHealth {
    pub region: RegionName,
    pub healthy: bool,
    /// The smallest round trip of the last probes.
    pub round_trip_us: Option<u64>,
}

/// Requests of users of one region that one region answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    pub model: ModelName,
    pub revision: RevisionNumber,
    /// The region that answered.
    pub region: RegionName,
    pub requests: u64,
    /// Answers with a status of 500 or more.
    pub errors: u64,
    /// How long each took, but those that were cancelled: each cell that is not empty, with its count. Gateways of earlier
    /// versions say nothing.
    #[serde(default)]
    #[schema(value_type = Vec<Vec<u64>>)]
    pub durations: Histogram,
    /// The sum of their durations.
    #[serde(default)]
    pub duration_us: u64,
    /// Over the last minute or so; 0 when there was no answer in that time.
    pub p50_us: u64,
    pub p99_us: u64,
    /// Answers per second over the last seconds.
    pub per_second: f64,
    /// Those of them with a status of 500 or more. Gateways of earlier versions say nothing.
    #[serde(default)]
    pub errors_per_second: f64,
}

/// What a gateway answers to another region's probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerState {
    pub region: RegionName,
    pub ready: Vec<PeerCapacity>,
    /// Of the snapshot that it serves.
    #[serde(default)]
    pub incarnation: String,
    #[serde(default)]
    pub config_revision: u64,
}

/// Ready replicas of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerCapacity {
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub replicas: u32,
    /// How many more requests they could have in flight; absent where no limit is declared.
    #[serde(default)]
    pub headroom: Option<u32>,
    /// It was scaled to zero, and starts a replica when it is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resting: bool,
}

/// Whose request is to be explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    pub model: ModelName,
    /// The user's key, if the request has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's region; absent: the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RegionName>,
}

/// Where a gateway would send a request now, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    pub model: ModelName,
    /// The gateway that says so.
    pub gateway: String,
    /// Its region.
    pub region: RegionName,
    /// The user's region.
    pub from: RegionName,
    pub epoch: Epoch,
    pub revision: RevisionNumber,
    pub slot: Slot,
    /// The region that would answer; absent when nobody can.
    pub goes_to: Option<RegionName>,
    /// In the order in which they are asked.
    pub regions: Vec<RegionVerdict>,
    /// Of the gateway's own region.
    pub replicas: Vec<ReplicaVerdict>,
}

/// Whose request control is asked about, on `GET /v1/routes/{model}/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteQuery {
    /// The user's region; a gateway of it is asked.
    pub from: RegionName,
    /// The user's key, if the request has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What control answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteExplanation {
    pub schema_version: u32,
    #[serde(flatten)]
    pub explanation: Explanation,
}

/// What speaks for or against a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionVerdict {
    pub region: RegionName,
    pub eligible: bool,
    /// For people.
    pub reason: String,
    pub ready: u32,
    /// Measured from the gateway; absent for its own region and where nothing was measured.
    pub round_trip_us: Option<u64>,
}

/// What speaks for or against a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaVerdict {
    pub id: String,
    pub address: String,
    pub ready: bool,
    /// Left out because its answers fail.
    pub ejected: bool,
    pub in_flight: u32,
    /// The most requests in flight that it gets.
    pub limit: u32,
    /// Until the head of its answers, smoothed; 0: it has answered nothing yet.
    pub latency_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_gateways_of_earlier_versions_are_read() {
        let report: GatewayReport = serde_json::from_str(
            r#"{"region": "us-east1", "pid": 7, "started_at": "2026-11-03T14:32:07Z", "address": "127.0.0.1:7410",
                "prepared": {}, "committed": {}, "refused": null, "peers": [],
                "traffic": [{"model": "digits", "revision": 1, "region": "us-east1", "requests": 9, "errors": 1,
                             "p50_us": 600, "p99_us": 1800, "per_second": 1.5}]}"#,
        )
        .unwrap();
        assert!(report.users_go_to.is_empty());
        assert_eq!((report.traffic[0].errors, report.traffic[0].errors_per_second), (1, 0.0));
    }
}
