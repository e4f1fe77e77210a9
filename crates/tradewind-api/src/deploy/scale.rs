//! Setting the number of replicas by hand. It is no part of the revision: a rollback and a new revision leave it as it is.

use serde::{Deserialize, Serialize};
use tradewind_core::{ModelName, RegionName};
use utoipa::ToSchema;

/// `POST /v1/deployments/{model}/scale`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    pub region: RegionName,
    /// So many from now on, also beyond what the revision says; absent (null): as the revision says.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// `user@host`, for the events.
    #[serde(default)]
    pub requested_by: String,
}

/// The answer to a [`ScaleRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleAnswer {
    pub schema_version: u32,
    pub model: ModelName,
    pub region: RegionName,
    /// What is set by hand now; absent (null): the revision's number, or what demand asks for within its bounds.
    pub replicas: Option<u32>,
    /// What was set by hand before.
    pub before: Option<u32>,
    /// What the revision says: `3`, or `1 to 10, 2 in flight each, down after 10m`.
    pub revision_says: String,
}
