//! Monitors, alerts, silences and receivers as people and programs see them.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    ModelName, ReceiverName, RegionName, RevisionNumber, Slot, Timestamp,
    alert::{
        Alert,
        receiver::Format,
        silence::{Matcher, Silence},
    },
    assignment::ReplicaCount,
    duration::Span,
    monitor::{Monitors, verdict::Verdict},
};
use utoipa::ToSchema;

/// `GET /v1/monitors`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorList {
    pub schema_version: u32,
    /// By model, region and revision.
    pub monitors: Vec<MonitorView>,
}

/// Query of `GET /v1/monitors`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
}

/// What is watched of one revision in one region, and what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MonitorView {
    pub model: ModelName,
    pub region: RegionName,
    pub revision: RevisionNumber,
    pub slot: Slot,
    /// Users get it: what is found wrong is an alert.
    pub armed: bool,
    pub monitors: Monitors,
    /// Over the last five minutes.
    #[serde(flatten)]
    pub verdict: Verdict,
    pub replicas: ReplicaCount,
    pub objectives: Vec<ObjectiveView>,
    pub cases: CasesView,
    /// Over the last minutes; absent (null) when nothing was answered in that time.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObjectiveView {
    pub name: ObjectiveName,
    /// The share that has to be good: 0.999.
    pub objective: f64,
    /// Requests of the last three days, as far as they are known.
    pub requests: u64,
    /// Those of them that missed the objective.
    pub missed: u64,
    /// The share of the error budget of those three days that is left; below 0 it is overspent. Absent without requests.
    pub budget_left: Option<f64>,
    /// How many times faster than allowed the budget is spent. Absent without requests.
    pub burn_5m: Option<f64>,
    pub burn_1h: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveName {
    Availability,
    Latency,
}

/// Golden cases that were asked of replicas that serve, in the last hour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct CasesView {
    pub asked: u64,
    pub wrong: u64,
    pub unanswered: u64,
    #[schema(value_type = Option<String>)]
    pub asked_at: Option<Timestamp>,
    pub last_wrong: Option<String>,
}

/// `GET /v1/alerts`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertList {
    pub schema_version: u32,
    /// Those that fire, the worst first; then those that are over, the newest first.
    pub alerts: Vec<AlertView>,
}

/// Query of `GET /v1/alerts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertQuery {
    /// Also those that are over.
    pub all: bool,
    /// Of those that are over, the newest so many; default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    #[serde(flatten)]
    pub alert: Alert,
    /// What this kind of alert says, in one sentence.
    pub summary: String,
    /// Nobody is told.
    pub silenced: bool,
    /// The page that says what to do, in the documentation.
    pub runbook: String,
}

/// `GET /v1/silences`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SilenceList {
    pub schema_version: u32,
    /// Those that are not over, the first to end first.
    pub silences: Vec<Silence>,
}

/// `POST /v1/silences`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SilenceRequest {
    pub matcher: Matcher,
    #[serde(rename = "for")]
    pub lasts: Span,
    #[serde(default)]
    pub comment: String,
    /// `user@host`
    pub created_by: String,
}

/// `GET /v1/receivers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiverList {
    pub schema_version: u32,
    pub receivers: Vec<ReceiverView>,
}

/// A receiver without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiverView {
    pub name: ReceiverName,
    pub url: String,
    pub format: Format,
    /// Deliveries are signed.
    pub signed: bool,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Deliveries that it took since the control plane started.
    pub delivered: u64,
    /// Why the last attempt failed; absent while it takes what it is sent.
    pub failing: Option<String>,
}

/// `PUT /v1/receivers/{name}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiverRequest {
    pub url: String,
    pub format: Format,
    /// `whsec_` and base64, after the Standard Webhooks specification. Absent: nothing is signed.
    #[serde(default)]
    pub secret: Option<String>,
}

/// What is sent to a receiver of format `json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Notification {
    /// `alert.firing` or `alert.resolved`.
    #[serde(rename = "type")]
    pub kind: String,
    #[schema(value_type = String)]
    pub timestamp: Timestamp,
    pub data: AlertView,
}
