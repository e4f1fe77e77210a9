//! Deploying: the request, its plan, and the rollout as people and programs see it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tradewind_core::{
    Digest, Epoch, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp, VersionNumber,
    assignment::{SlotStatus, Verification},
    deployment::Bad,
    duration::Span,
    rollout::{
        Action, RegionPhase, RolloutFailure, RolloutKind, RolloutState, Soak, StepResult,
        course::Pause,
        strategy::{MaxParallel, OnFailure, Percent, Strategy, Switch},
    },
    scale::Scale,
};
use utoipa::ToSchema;

pub use self::{
    changes::{HealthChange, MonitorsChange, ScaleChange},
    moves::{DecisionRequest, MoveAnswer, PromoteRequest, RollbackRequest, SwitchRequest},
    pins::{PinList, PinRequest, PinView, UnpinRequest},
    scale::{ScaleAnswer, ScaleRequest},
};

mod changes;
mod moves;
mod pins;
mod scale;

/// `POST /v1/deployments/{model}`. What is absent stays as the last revision has it, or takes its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeployRequest {
    /// Absent: the newest.
    pub version: Option<VersionNumber>,
    pub regions: Option<Vec<RegionName>>,
    pub scale: Option<ScaleChange>,
    /// Regions that have replicas of their own kind or number; as with `region_health`.
    pub region_scale: Option<BTreeMap<RegionName, ScaleChange>>,
    pub health: Option<HealthChange>,
    /// Regions that are probed in a way of their own; those that are not named stay as they are. One that is named with
    /// nothing in it is probed like the others again.
    pub region_health: Option<BTreeMap<RegionName, HealthChange>>,
    pub monitors: Option<MonitorsChange>,
    /// Regions that are watched in a way of their own; as with `region_health`.
    pub region_monitors: Option<BTreeMap<RegionName, MonitorsChange>>,
    /// Requests of these regions' users are answered in these regions and nowhere else. With nothing in it: anywhere.
    pub stay_in: Option<Vec<RegionName>>,
    pub max_parallel: Option<MaxParallel>,
    /// Regions in turn, each of them once.
    pub waves: Option<Vec<Vec<RegionName>>>,
    /// These come first, and all of them must succeed.
    pub first: Option<Vec<RegionName>>,
    pub switch: Option<Switch>,
    /// Shares of users in percent, growing; 100 is added. Makes the switch a canary.
    #[schema(value_type = Option<Vec<f64>>)]
    pub canary: Option<Vec<Percent>>,
    /// The keys of users who get a canary from its first step on.
    pub allow: Option<Vec<String>>,
    pub retries: Option<u32>,
    pub progress_deadline: Option<Span>,
    pub on_failure: Option<OnFailure>,
    pub min_regions: Option<u32>,
    pub soak: Option<Span>,
    pub standby: Option<Span>,
    /// Regions that serve and are not listed are left.
    pub prune: bool,
    /// Takes over from a rollout that has not switched yet.
    pub replace: bool,
    /// Also what users were rolled back from before.
    pub allow_bad: bool,
    /// Plans and checks, and changes nothing.
    pub dry_run: bool,
    /// `user@host`, for the history.
    pub requested_by: String,
}

/// The shares of a canary that names none, in percent.
const CANARY: [f64; 4] = [1.0, 10.0, 50.0, 100.0];

impl DeployRequest {
    /// How the rollout is to go: what is absent takes its default. Shares of users are a canary, and a canary has some.
    pub fn strategy(&self) -> Strategy {
        let default = Strategy::default();
        let switch = self.switch.unwrap_or(if self.canary.is_some() { Switch::Canary } else { default.switch });
        let usual = || match switch {
            Switch::Canary => CANARY.iter().filter_map(|share| Percent::try_from(*share).ok()).collect(),
            Switch::Fleet | Switch::Wave | Switch::InPlace => Vec::new(),
        };
        Strategy {
            max_parallel: self.max_parallel.unwrap_or(default.max_parallel),
            waves: self.waves.clone().unwrap_or_default(),
            first: self.first.clone().unwrap_or_default(),
            switch,
            canary: self.canary.clone().unwrap_or_else(usual),
            allow: self.allow.clone().unwrap_or_default(),
            retries: self.retries.unwrap_or(default.retries),
            progress_deadline: self.progress_deadline.unwrap_or(default.progress_deadline),
            on_failure: self.on_failure.unwrap_or(default.on_failure),
            min_regions: self.min_regions,
            soak: self.soak.unwrap_or(default.soak),
            standby: self.standby.unwrap_or(default.standby),
        }
    }
}

/// The answer to a [`DeployRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployAnswer {
    pub schema_version: u32,
    pub plan: DeployPlan,
    /// The rollout that has begun; none for a dry run, and none when exactly this runs already.
    pub rollout: Option<RolloutNumber>,
}

/// What a deploy would do, or does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeployPlan {
    pub model: ModelName,
    pub version: VersionNumber,
    pub digest: Digest,
    pub revision: RevisionNumber,
    pub from: Option<RevisionNumber>,
    pub slot: Slot,
    /// Exactly this runs already: nothing to do.
    pub unchanged: bool,
    /// The difference to what runs, a line each: `version 1 -> 2`, `regions + asia-northeast1`.
    pub changes: Vec<String>,
    pub steps: Vec<PlannedStep>,
    /// In one phrase: `regions one after the other, switch fleet, on failure stop`.
    pub summary: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    pub action: Action,
    pub region: Option<RegionName>,
}

/// `GET /v1/deployments/{model}/rollouts/{number}` (or `latest`), and each message of its `/watch` stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    pub schema_version: u32,
    pub model: ModelName,
    pub rollout: RolloutNumber,
    #[serde(default)]
    pub kind: RolloutKind,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    pub from: Option<RevisionNumber>,
    pub slot: Slot,
    pub state: RolloutState,
    pub soak: Soak,
    #[serde(default)]
    pub stage: StageView,
    /// It waits for a person, who resumes, promotes or aborts it.
    pub paused: Option<Pause>,
    pub failure: Option<RolloutFailure>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    pub regions: Vec<RegionView>,
    pub routing: Option<RoutingView>,
    pub steps: Vec<StepView>,
    /// What users get when the rollout fails: the version that serves as before, with its number of regions.
    pub serving: Option<ServingView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServingView {
    pub version: VersionNumber,
    pub revision: RevisionNumber,
    pub regions: usize,
}

/// Which of its stages a rollout is in, and who gets its revision when that is routed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageView {
    /// From 1.
    pub number: u32,
    pub of: u32,
    pub users: AudienceView,
}

impl Default for StageView {
    fn default() -> Self {
        Self { number: 1, of: 1, users: AudienceView::Everyone }
    }
}

impl StageView {
    /// Everybody gets the revision when it is routed.
    pub fn is_last(&self) -> bool {
        self.number == self.of
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AudienceView {
    Everyone,
    /// Those of so many regions, from the first on.
    OfRegions(usize),
    /// So many percent of them.
    #[schema(value_type = f64)]
    Share(Percent),
}

/// One region in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionView {
    pub region: RegionName,
    pub phase: RegionPhase,
    pub attempt: u32,
    pub attempts: u32,
    pub verification: Option<Verification>,
    /// What its agent says right now: bytes fetched, starting.
    pub observed: Option<SlotStatus>,
    pub failure: Option<tradewind_core::assignment::Failure>,
}

/// How far the gateways are with the new route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoutingView {
    pub epoch: Epoch,
    pub committed: bool,
    pub acknowledged: u32,
    pub gateways: u32,
    /// Between the first and the last gateway.
    pub skew_ms: Option<u64>,
}

/// One line of `rollout show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub step: u32,
    pub action: Action,
    /// Absent (null) for fleet steps.
    pub region: Option<RegionName>,
    /// Absent (null) before the step has begun.
    pub result: Option<StepResult>,
    /// The step that follows, as people read it: `verify us-east1`.
    pub next: Option<String>,
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    pub attempts: u32,
    pub detail: String,
}

/// `GET /v1/deployments/{model}/rollouts`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutList {
    pub schema_version: u32,
    /// Newest first.
    pub rollouts: Vec<RolloutSummary>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutSummary {
    pub model: ModelName,
    pub rollout: RolloutNumber,
    #[serde(default)]
    pub kind: RolloutKind,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    pub state: RolloutState,
    pub soak: Soak,
    pub regions: usize,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
}

/// `GET /v1/deployments/{model}/history`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    pub schema_version: u32,
    pub model: ModelName,
    /// Newest first.
    pub revisions: Vec<HistoryEntry>,
}

/// Query of `GET /v1/deployments/{model}/diff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffQuery {
    pub from: RevisionNumber,
    /// Absent: what users get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<RevisionNumber>,
}

/// What one revision fixes otherwise than another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    pub schema_version: u32,
    pub model: ModelName,
    pub from: RevisionNumber,
    pub to: RevisionNumber,
    /// A line each: `version 1 -> 2`, `regions + asia-northeast1`. How each was rolled out is no part of it.
    pub changes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    pub regions: Vec<RegionName>,
    /// What each region runs that has nothing of its own.
    #[serde(default)]
    pub scale: Scale,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    pub created_by: String,
    /// The difference to the revision before.
    pub changes: Vec<String>,
    /// Of its newest rollout.
    pub state: Option<RolloutState>,
    pub live: bool,
    /// Who rolled users back from it; nothing brings it back unless told to.
    pub bad: Option<Bad>,
    /// It is that revision again, brought up anew.
    pub copy_of: Option<RevisionNumber>,
    /// Those that brought it up or moved users to it, in their order.
    #[serde(default)]
    pub rollouts: Vec<RolloutNumber>,
}

/// One revision with everything that was done to bring it to users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevisionHistory {
    pub schema_version: u32,
    pub model: ModelName,
    pub revision: HistoryEntry,
    /// Newest first.
    pub rollouts: Vec<RolloutView>,
}
