//! Users for whom somebody chooses what they get.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    Digest, Epoch, ModelName, Timestamp,
    duration::Span,
    pins::{PinTable, PinTarget},
};
use utoipa::ToSchema;

/// `POST /v1/routes/{model}/pins`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// Their keys, as in the header `x-tradewind-user`; none with a table.
    #[serde(default)]
    pub users: Vec<String>,
    /// A table of users that was put under `/v1/pins/{digest}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Digest>,
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
    /// All users of these tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Digest>,
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
    /// Users who were pinned together, newest first.
    #[serde(default)]
    pub tables: Vec<PinTable>,
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
