//! Drills as people ask for them and look at them.

use serde::{Deserialize, Serialize};
use tradewind_core::{
    DrillNumber, RegionName,
    drill::{Drill, DrillEstimate},
    duration::Span,
};
use utoipa::ToSchema;

/// `POST /v1/drills`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// It is taken for lost.
    pub region: RegionName,
    pub lasts: Span,
    /// Says what is expected, and begins nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Also when something speaks against it.
    #[serde(default)]
    pub force: bool,
    /// `user@host`, for the record.
    #[serde(default)]
    pub requested_by: String,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrillAnswer {
    pub schema_version: u32,
    pub region: RegionName,
    pub estimate: DrillEstimate,
    /// What speaks against it, a line each; only with `force`.
    pub objections: Vec<String>,
    /// The drill that has begun; none for a dry run.
    pub number: Option<DrillNumber>,
}

/// `GET /v1/drills`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrillList {
    pub schema_version: u32,
    /// Newest first.
    pub drills: Vec<Drill>,
}

/// `GET /v1/drills/{drill}`, with a number or `latest`; also what `/stop` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrillView {
    pub schema_version: u32,
    #[serde(flatten)]
    pub drill: Drill,
}
