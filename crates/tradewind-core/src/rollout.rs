//! The rollout: its record, which is an explicit persisted state machine, and its planner.
//!
//! The record of a region is a value of its own, so that a step costs the same with ten regions as with a thousand.
//! [`plan`](plan::plan) never reads a clock, and never looks at anything but its arguments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Epoch, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp,
    assignment::{Failure, Verification},
    trace::TraceParent,
};

pub mod course;
pub mod plan;
pub mod strategy;

use course::Course;
use strategy::Strategy;

/// The fleet-wide part of a rollout's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    pub model: ModelName,
    pub number: RolloutNumber,
    #[serde(default, skip_serializing_if = "RolloutKind::is_deploy")]
    pub kind: RolloutKind,
    pub revision: RevisionNumber,
    /// What served before.
    pub from: Option<RevisionNumber>,
    /// The slot that the revision is brought up in.
    pub slot: Slot,
    /// In the order of the rollout.
    pub regions: Vec<RegionName>,
    pub strategy: Strategy,
    pub state: RolloutState,
    pub failure: Option<RolloutFailure>,
    pub steps: FleetSteps,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    /// When the route of its stage was committed.
    #[schema(value_type = Option<String>)]
    pub committed_at: Option<Timestamp>,
    /// When the soak ends; set when monitoring is armed.
    #[schema(value_type = Option<String>)]
    pub soak_until: Option<Timestamp>,
    pub soak: Soak,
    /// The trace of whoever asked for it, if it is being recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trace: Option<TraceParent>,
    /// The rollout that brought up the regions of this one, which only moves users back to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_of: Option<RolloutNumber>,
    #[serde(default, skip_serializing_if = "Course::is_default")]
    pub course: Course,
}

/// What a rollout is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutKind {
    #[default]
    Deploy,
    /// Users are moved to what the other slot holds.
    Switch,
    /// Users are moved back to what served them before.
    Rollback,
}

impl RolloutKind {
    fn is_deploy(&self) -> bool {
        *self == Self::Deploy
    }
}

/// Where a rollout is. The first five are passed in this order, in each of its stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Regions are brought up, monitored and verified.
    Regions,
    /// Every gateway with a live lease is told of the new route.
    Preparing,
    /// The new route is committed; gateways acknowledge it.
    Committing,
    /// Alerts are armed in the routed regions.
    Arming,
    /// Monitoring is active; the soak runs, and after that of the last stage the standby of the old slot.
    Soaking,
    /// Done: the old slot is retired.
    Succeeded,
    Failed,
    /// A later deploy, switch or rollback took over.
    Superseded,
}

impl RolloutState {
    /// Nothing more happens to the fleet in this state; deferred regions may still catch up.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Superseded)
    }

    /// Users get this revision.
    pub fn is_routed(self) -> bool {
        matches!(self, Self::Arming | Self::Soaking | Self::Succeeded)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Soak {
    #[default]
    Pending,
    Running,
    Passed,
    /// The evidence neither clears nor condemns the revision.
    Inconclusive,
    /// The monitors have proved that users are worse off: they were taken back, or there was nothing to take them back to.
    Failed,
    /// The rollout failed or was superseded before there was a verdict.
    Skipped,
}

impl Soak {
    /// What a rollout that has ended left open is not decided any more.
    fn under(self, state: RolloutState) -> Self {
        match (state, self) {
            (RolloutState::Failed | RolloutState::Superseded, Self::Pending | Self::Running) => Self::Skipped,
            (_, soak) => soak,
        }
    }
}

impl Rollout {
    /// Under which number the records of its regions are kept.
    pub fn records(&self) -> RolloutNumber {
        self.records_of.unwrap_or(self.number)
    }

    /// How the soak stands, to be shown.
    pub fn soak(&self) -> Soak {
        self.soak.under(self.state)
    }
}

/// Why a rollout failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutFailure {
    pub region: Option<RegionName>,
    pub action: Action,
    pub failure: Failure,
}

/// The records of the steps that concern the fleet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FleetSteps {
    pub select: Option<Step>,
    pub route: Option<Step>,
    pub arm: Option<Step>,
    pub retire: Option<Step>,
}

/// The place of a step's attempt in the trace of its rollout. Control records it when the step has ended; until then
/// agents know already whose children their spans are.
pub fn place(trace: TraceParent, action: Action, region: Option<&RegionName>, attempt: u32) -> TraceParent {
    trace.place(&format!("{} {} {attempt}", action.words(), region.map_or("", RegionName::as_str)))
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    SelectRegions,
    Deploy,
    ConfigureMonitoring,
    Verify,
    Route,
    ArmMonitoring,
    Retire,
}

impl Action {
    /// As people read it: `configure monitoring`.
    pub fn words(self) -> &'static str {
        match self {
            Self::SelectRegions => "select regions",
            Self::Deploy => "deploy",
            Self::ConfigureMonitoring => "configure monitoring",
            Self::Verify => "verify",
            Self::Route => "route",
            Self::ArmMonitoring => "arm monitoring",
            Self::Retire => "retire",
        }
    }
}

/// The record of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    pub result: StepResult,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Timestamp>,
    pub attempts: u32,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    Running,
    Success,
    Failed,
    Deferred,
}

/// The record of one region in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RegionRecord {
    pub region: RegionName,
    pub phase: RegionPhase,
    /// From 1; 0 before the region was begun.
    pub attempt: u32,
    /// When the next attempt may begin, after a failed one.
    #[schema(value_type = Option<String>)]
    pub retry_at: Option<Timestamp>,
    /// When the attempt fails unless it makes progress.
    #[schema(value_type = Option<String>)]
    pub deadline: Option<Timestamp>,
    pub deploy: Option<Step>,
    pub configure_monitoring: Option<Step>,
    pub verify: Option<Step>,
    /// The newest verification in full.
    pub verification: Option<Verification>,
    /// Why the newest attempt failed.
    pub failure: Option<(Action, Failure)>,
    /// Nobody is sent to this region, and what it runs makes room for this revision before that is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// The epoch at which the region became part of the route.
    pub routed_at: Option<Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionPhase {
    Pending,
    Deploying,
    ConfiguringMonitoring,
    Verifying,
    Verified,
    /// An attempt failed and the next one waits for `retry_at`.
    Retrying,
    Failed,
    /// Unreachable; brought up and verified when it returns.
    Deferred,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_that_was_cut_short_is_not_pending_or_running() {
        let check = |state, soak: Soak, expected| assert_eq!(soak.under(state), expected, "{state:?} {soak:?}");
        check(RolloutState::Failed, Soak::Pending, Soak::Skipped);
        check(RolloutState::Superseded, Soak::Running, Soak::Skipped);
        check(RolloutState::Superseded, Soak::Passed, Soak::Passed);
        check(RolloutState::Soaking, Soak::Running, Soak::Running);
    }
}
