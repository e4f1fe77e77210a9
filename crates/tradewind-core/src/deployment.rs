//! Deployments and revisions: what people ask for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, Epoch, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp, VersionNumber, duration::Span,
};

/// The most regions of one deployment.
pub const REGIONS_LIMIT: usize = 5000;
/// The most replicas of one slot in one region.
pub const REPLICAS_LIMIT: u32 = 1000;

/// Everything that a revision fixes: artifact, regions, scale, verification, monitors and how to roll out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentSpec {
    pub model: ModelName,
    pub version: VersionNumber,
    pub digest: Digest,
    /// In the order of the rollout, without duplicates.
    pub regions: Vec<RegionName>,
    #[serde(default)]
    pub scale: Scale,
    #[serde(default)]
    pub strategy: Strategy,
    #[serde(default)]
    pub health: HealthPolicy,
}

/// Replicas per region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    pub replicas: u32,
    /// Threads that one inference may use inside a replica.
    pub threads: u32,
}

impl Default for Scale {
    fn default() -> Self {
        Self { replicas: 1, threads: 1 }
    }
}

/// How one revision replaces another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    pub max_parallel: MaxParallel,
    /// Further attempts for a region after its first one failed.
    pub retries: u32,
    /// A region that makes no progress for this long has failed its attempt.
    pub progress_deadline: Span,
    pub on_failure: OnFailure,
    /// With fewer than all listed, unreachable regions are deferred. Absent: all listed.
    pub min_regions: Option<u32>,
    pub soak: Span,
    /// The old slot stays warm for this long after the soak.
    pub standby: Span,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            max_parallel: MaxParallel::Count(1),
            retries: 2,
            progress_deadline: Span::from_secs(600),
            on_failure: OnFailure::Stop,
            min_regions: None,
            soak: Span::from_secs(60),
            standby: Span::from_secs(600),
        }
    }
}

/// How many regions are worked on at once: a positive number, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaxParallel {
    All,
    #[serde(untagged)]
    Count(u32),
}

impl MaxParallel {
    pub fn limit(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Count(count) => count.max(1) as usize,
        }
    }
}

/// What a rollout does when a region has used up its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nothing is routed; the candidate is taken down.
    #[default]
    Stop,
    /// Route the regions that verified, at least `min_regions`.
    Continue,
}

/// How a region's replicas and gateways are probed, and when they count as unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthPolicy {
    pub interval: Span,
    pub timeout: Span,
    /// Failed probes in a row until unhealthy.
    pub unhealthy_after: u32,
    /// Good probes in a row until healthy again.
    pub healthy_after: u32,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { interval: Span::from_secs(1), timeout: Span::from_millis(500), unhealthy_after: 2, healthy_after: 2 }
    }
}

/// The desired state of a model in the world: which revision should serve, and the rollout that leads there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deployment {
    pub model: ModelName,
    /// The revision that users get; none before the first rollout routes.
    pub live: Option<RevisionNumber>,
    pub latest_revision: RevisionNumber,
    pub latest_rollout: RolloutNumber,
    /// The last epoch that was given out, also to a switch that never committed.
    pub latest_epoch: Epoch,
    pub slots: SlotRevisions,
    /// Set by `undeploy`: regions are emptied, then the deployment goes.
    #[serde(default)]
    pub removing: bool,
}

/// Which revision each slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SlotRevisions {
    pub blue: Option<RevisionNumber>,
    pub green: Option<RevisionNumber>,
}

impl std::ops::Index<Slot> for SlotRevisions {
    type Output = Option<RevisionNumber>;
    fn index(&self, slot: Slot) -> &Self::Output {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

impl std::ops::IndexMut<Slot> for SlotRevisions {
    fn index_mut(&mut self, slot: Slot) -> &mut Self::Output {
        match slot {
            Slot::Blue => &mut self.blue,
            Slot::Green => &mut self.green,
        }
    }
}

/// An immutable snapshot of a deployment. Written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub number: RevisionNumber,
    pub spec: DeploymentSpec,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Who asked for it: `user@host` as the client said.
    pub created_by: String,
}
