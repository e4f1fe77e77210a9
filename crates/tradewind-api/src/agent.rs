//! What control and the agents of a region tell each other, and what an agent tells the gateways of its region.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
/// An agent or gateway that has not reported for this long counts as gone.
pub use tradewind_core::rollout::plan::SILENCE_LIMIT;
use tradewind_core::{
    Generation, ModelName, RegionName, RevisionNumber, Slot, Timestamp, VersionNumber,
    assignment::{Assignment, ReplicaStatus, SlotStatus},
    bundle::Runtime,
    deployment::HealthPolicy,
    event::{EventKind, Severity},
    monitor::disk::DiskRoom,
    probe::Probe,
};
use utoipa::ToSchema;

/// `GET /v1/agent/assignments`: NDJSON; every message is the whole desired state of the agent's region.
pub const ASSIGNMENTS_PATH: &str = "/v1/agent/assignments";
/// `POST /v1/agent/report` with an [`AgentReport`], answered by a [`ReportReceipt`].
pub const REPORT_PATH: &str = "/v1/agent/report";
/// `GET` on an agent: NDJSON of [`Endpoints`], for the holders of the mesh token.
pub const ENDPOINTS_PATH: &str = "/v1/endpoints";
/// `POST` on an agent of a gateway's region with a [`DemandReport`], for the holders of the mesh token: once a second, and
/// at once when somebody waits for a model that has no replica.
pub const DEMAND_PATH: &str = "/v1/demand";
/// `GET` on an agent: the log of a model's replicas as text, query [`LogQuery`], for the holders of the mesh token.
pub const LOGS_PATH: &str = "/v1/logs";

/// An agent reports at least this often.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(1);

/// Everything that one region should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionAssignments {
    pub region: RegionName,
    /// Of the store; a change means that state was restored from a snapshot, and that generations start over.
    pub incarnation: String,
    /// The store's revision that this message shows. Within one incarnation an older message is refused.
    pub revision: u64,
    /// What agents and gateways show each other.
    pub mesh_token: String,
    pub assignments: Vec<Assignment>,
}

/// What an agent sees. The whole of it, every time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentReport {
    pub region: RegionName,
    /// Random at each start of the agent.
    pub instance: String,
    pub pid: u32,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// host:port where gateways and control reach this agent.
    pub address: String,
    pub models: Vec<ModelStatus>,
    pub replicas: Vec<ReplicaStatus>,
    /// Not yet acknowledged, oldest first. At most [`EVENTS_LIMIT`] of them.
    pub events: Vec<AgentEvent>,
    /// What golden cases have shown since this agent started. Agents of earlier versions say nothing.
    #[serde(default)]
    pub cases: Vec<CaseCounts>,
    /// Why slots have the number of replicas that they have. Agents of earlier versions say nothing.
    #[serde(default)]
    pub scaling: Vec<SlotScaling>,
    /// Of the file system that holds the agent's data.
    #[serde(default)]
    pub disk: Option<DiskRoom>,
}

/// Why a slot has the number of replicas that it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotScaling {
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    /// Of the users of the region, those who wait included; absent (null) when no gateway says.
    pub in_flight: Option<f64>,
    /// For people: `7.2 in flight, 2 for each replica`.
    pub reason: String,
    /// What a person has set.
    pub by_hand: Option<u32>,
}

/// The most gateways of one region.
pub const GATEWAYS_LIMIT: usize = 256;
/// The most bytes of a [`DemandReport`].
pub const DEMAND_LIMIT: usize = 1 << 20;
/// The longest address.
const ADDRESS_LIMIT: usize = 300;

/// What the users of a region ask for, as one of its gateways sees it. Models that nobody asks for may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemandReport {
    /// host:port
    pub gateway: String,
    pub models: Vec<ModelDemand>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDemand {
    pub model: ModelName,
    /// Requests that were on their way or waited, wherever they were answered, as a mean since the last report.
    pub in_flight: f64,
    /// There was a request since the last report.
    pub asked: bool,
}

impl DemandReport {
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.gateway.is_empty() || self.gateway.len() > ADDRESS_LIMIT {
            return Err("`gateway` is not host:port");
        }
        match self.models.iter().all(|model| model.in_flight.is_finite() && model.in_flight >= 0.0) {
            true => Ok(()),
            false => Err("`in_flight` is a number from 0 on"),
        }
    }
}

/// Golden cases that were asked again of replicas that serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaseCounts {
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub asked: u64,
    /// Answered wrongly, twice in a row.
    pub wrong: u64,
    /// Not answered, or with a failure of the server's.
    pub unanswered: u64,
    /// When the last of them were asked.
    #[schema(value_type = Option<String>)]
    pub asked_at: Option<Timestamp>,
    /// Replicas that answered wrongly and are not replaced yet.
    pub suspects: u32,
    /// The newest wrong answer: `cases/007.json: output `label`: expected 7, got 1`.
    pub last_wrong: Option<String>,
}

/// The most events in one report.
pub const EVENTS_LIMIT: usize = 256;

/// What an agent sees of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelStatus {
    pub model: ModelName,
    /// The newest generation that the agent has taken up.
    pub observed_generation: Generation,
    /// Slots that hold something, or that have not yet finished draining.
    pub slots: BTreeMap<Slot, SlotStatus>,
}

/// Something that happened in a region, as its agent tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentEvent {
    /// Grows by one within an `instance`; control stores each once.
    pub sequence: u64,
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub severity: Severity,
    pub kind: EventKind,
    pub model: Option<ModelName>,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportReceipt {
    /// Events of this instance up to this number are stored.
    pub events_stored: u64,
}

/// The replicas of a region, as its gateways need them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoints {
    pub region: RegionName,
    /// Of the agent.
    pub instance: String,
    pub endpoints: Vec<Endpoint>,
    /// Slots without a ready replica that start one as soon as somebody asks.
    #[serde(default)]
    pub resting: Vec<RestingSlot>,
}

/// A slot that was scaled to zero, or whose first replica since then is starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestingSlot {
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
}

/// One replica that users may be sent to once its slot is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    pub id: String,
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// host:port
    pub address: String,
    /// Loaded, verified, and answering its probes.
    pub ready: bool,
    /// It answered golden cases wrongly: asked only when nobody else can be.
    #[serde(default)]
    pub suspect: bool,
    pub health: HealthPolicy,
    /// How many replicas its slot should have; 0: not told.
    #[serde(default)]
    pub desired: u32,
    /// The most requests in flight that it should have; absent where the deployment does not say.
    #[serde(default)]
    pub concurrency: Option<u32>,
    #[serde(default)]
    pub runtime: Runtime,
    /// How it is asked whether it is ready.
    #[serde(default)]
    #[schema(value_type = String)]
    pub probe: Probe,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    pub model: ModelName,
    pub revision: Option<RevisionNumber>,
    /// The last so many lines of each replica's log.
    pub lines: Option<u32>,
    /// Goes on with what is written from now on.
    #[serde(default)]
    pub follow: bool,
}
