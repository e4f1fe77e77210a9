//! Where all metrics are, in the form that Prometheus' HTTP service discovery reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET`: a list of [`TargetGroup`]s, for the holders of a token for monitoring.
pub const TARGETS_PATH: &str = "/v1/monitoring/targets";

/// Addresses with labels in common. The labels are named unlike those of any series, so that none has to give way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetGroup {
    /// host:port each
    pub targets: Vec<String>,
    /// `tradewind_role`, and where there is one `tradewind_region`.
    pub labels: BTreeMap<String, String>,
}

impl TargetGroup {
    pub fn new(role: &str, region: Option<&str>, targets: Vec<String>) -> Self {
        let labels = [("tradewind_role", Some(role)), ("tradewind_region", region)];
        let labels = labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        Self { targets, labels: labels.collect() }
    }
}
