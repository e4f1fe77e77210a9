//! Users for whom somebody chooses what they get.

use serde::{Deserialize, Serialize};
use tradewind_core::{Epoch, ModelName, Timestamp, duration::Span, pins::PinTarget};
use utoipa::ToSchema;

/// `POST /v1/routes/{model}/pins`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// Their keys, as in the header `x-tradewind-user`.
    pub users: Vec<String>,
    /// `live`, `candidate`, or the number of a revision.
    #[schema(value_type = String)]
    pub to: PinTarget,
    /// Absent: 7 days.
    #[serde(default)]
    pub lasts: Option<Span>,
    /// `user@host`, for the events.
    #[serde(default)]
    pub requested_by: String,
}

/// `POST /v1/routes/{model}/unpin`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UnpinRequest {
    pub users: Vec<String>,
    /// Nobody is pinned any more.
    pub all: bool,
    /// `user@host`, for the events.
    pub requested_by: String,
}

/// `GET /v1/routes/{model}/pins`, and the answer to the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PinList {
    pub schema_version: u32,
    pub model: ModelName,
    /// What users get from this epoch on.
    pub epoch: Option<Epoch>,
    /// By their keys.
    pub pins: Vec<PinView>,
    /// Gateways that have taken up that epoch, of those that control hears of.
    pub acknowledged: u32,
    pub gateways: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PinView {
    pub user: String,
    #[schema(value_type = String)]
    pub to: PinTarget,
    #[schema(value_type = String)]
    pub until: Timestamp,
}
