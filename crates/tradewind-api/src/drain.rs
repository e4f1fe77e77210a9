//! Draining: users leave a region, and its requests in flight are answered.

use serde::{Deserialize, Serialize};
use tradewind_core::{RegionName, capacity::Failover};
use utoipa::ToSchema;

/// `POST /v1/regions/{region}/drain`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DrainRequest {
    /// Says what would happen, and changes nothing.
    pub dry_run: bool,
    /// Also when the users do not fit elsewhere.
    pub force: bool,
    /// `user@host`, for the events.
    pub requested_by: String,
}

/// `POST /v1/regions/{region}/undrain`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UndrainRequest {
    /// `user@host`, for the events.
    pub requested_by: String,
}

/// The answer to both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainAnswer {
    pub schema_version: u32,
    pub region: RegionName,
    /// Whether it is drained now.
    pub drained: bool,
    /// Whether that is new.
    pub changed: bool,
    /// Where its users go.
    pub failover: Failover,
    pub estimate: DrainEstimate,
}

/// How long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainEstimate {
    /// Until users are elsewhere, at most.
    pub moved_ms: u64,
    /// What 99 of 100 of the requests in flight there then still need; absent (null) when there are none.
    pub answered_ms: Option<u64>,
    /// Nobody waits longer than this for an inference.
    pub limit_ms: u64,
}
