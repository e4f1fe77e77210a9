//! Moving users to another revision that is there, or was.

use serde::{Deserialize, Serialize};
use tradewind_core::{Epoch, ModelName, RevisionNumber, RolloutNumber, Slot, VersionNumber};
use utoipa::ToSchema;

/// `POST /v1/deployments/{model}/rollback`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Absent: the newest revision before the one that users get which has served and is not bad.
    pub to: Option<RevisionNumber>,
    /// Also to what users were rolled back from before.
    pub allow_bad: bool,
    /// `user@host`, for the history.
    pub requested_by: String,
}

/// `POST /v1/deployments/{model}/switch`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    pub to: Slot,
    /// `user@host`, for the history.
    #[serde(default)]
    pub requested_by: String,
}

/// `POST /v1/deployments/{model}/rollouts/latest/pause`, `resume` and `abort`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionRequest {
    /// `user@host`, for the history.
    pub requested_by: String,
}

/// `POST /v1/deployments/{model}/rollouts/latest/promote`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromoteRequest {
    /// To everybody at once: the steps of the canary that are left are skipped.
    pub full: bool,
    /// `user@host`, for the history.
    pub requested_by: String,
}

/// The answer to a [`RollbackRequest`] and a [`SwitchRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveAnswer {
    pub schema_version: u32,
    pub model: ModelName,
    /// What users get.
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// What they got before.
    pub from: Option<RevisionNumber>,
    pub slot: Slot,
    /// What has begun; none where users get that revision already.
    pub rollout: Option<RolloutNumber>,
    /// From which on they get it; none before it is verified.
    pub epoch: Option<Epoch>,
    /// Its replicas were still there, so gateways have been told. Otherwise they are brought up and verified first.
    pub warm: bool,
}
