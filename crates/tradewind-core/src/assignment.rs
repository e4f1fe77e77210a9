//! What one region should run of one deployment, and what its agent reports back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Digest, Generation, ModelName, RegionName, RevisionNumber, Slot, Timestamp, VersionNumber,
    deployment::HealthPolicy, monitor::Monitors, scale::Scale, scaler::ByHand, trace::TraceParent,
};

/// What one region should run of one model. The generation grows with every change; agents refuse older ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Assignment {
    pub region: RegionName,
    pub model: ModelName,
    pub generation: Generation,
    /// An absent slot is emptied: its replicas drain and stop.
    pub slots: BTreeMap<Slot, SlotAssignment>,
    /// A number of replicas that a person has set, for whatever slot is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
}

/// What one slot should hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotAssignment {
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// Digest of the bundle: what the replica loaded must be equal to it.
    pub digest: Digest,
    pub scale: Scale,
    pub health: HealthPolicy,
    #[serde(default, skip_serializing_if = "Monitors::is_default")]
    pub monitors: Monitors,
    /// The rollout's attempt at this slot, from 1. A higher one makes the agent try again what failed.
    pub attempt: u32,
    /// Monitors sample from here on.
    #[serde(default)]
    pub monitored: bool,
    /// The attempt whose verification is wanted; absent until the deploy step has succeeded.
    #[serde(default)]
    pub verify: Option<u32>,
    /// Alerts are armed: the slot takes users.
    #[serde(default)]
    pub armed: bool,
    /// There is room for nothing beside it: it is started when slots that are not assigned any more are empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// The trace of the rollout that brings it, if it is being recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub trace: Option<TraceParent>,
}

/// What an agent sees of one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotStatus {
    pub revision: RevisionNumber,
    /// The attempt that `phase` speaks of.
    pub attempt: u32,
    pub phase: SlotPhase,
    pub replicas: ReplicaCount,
    /// It was scaled to zero, or its first replica since then is still starting: users who come wait for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resting: bool,
    /// Monitors sample this slot.
    pub monitored: bool,
    pub armed: bool,
    /// The newest verification, with its attempt.
    pub verification: Option<Verification>,
}

impl SlotStatus {
    /// Whether users who are sent here are answered: by a replica, or by one that starts for them.
    pub fn can_serve(&self) -> bool {
        self.replicas.ready > 0 || self.resting
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ReplicaCount {
    pub ready: u32,
    pub desired: u32,
}

/// How far an agent has come with a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum SlotPhase {
    Fetching {
        bytes_done: u64,
        bytes_total: u64,
    },
    Starting,
    /// All replicas are ready. Once reached in an attempt, the slot stays here while single replicas come and go.
    Ready,
    /// The attempt failed; a higher attempt tries again.
    Failed {
        failure: Failure,
    },
    /// The slot was taken out of the assignment and its replicas are finishing.
    Draining,
}

/// Why something failed, for people: what, because of what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// One sentence, lower case, no final period.
    pub message: String,
    /// Causes, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    #[serde(default)]
    pub hint: Option<String>,
    /// Whether another attempt may succeed. A wrong answer of a golden case is retried too; a model that is not there is not.
    pub retryable: bool,
}

/// The result of one verification run in one region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    pub attempt: u32,
    pub checks: Vec<Check>,
    #[schema(value_type = String)]
    pub finished_at: Timestamp,
}

impl Verification {
    pub fn succeeded(&self) -> bool {
        self.checks.iter().all(|check| check.result != CheckResult::Failed)
    }

    pub fn first_failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.result == CheckResult::Failed)
    }
}

/// One check: digest, ready, signature, golden cases, latency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    pub name: CheckName,
    pub result: CheckResult,
    /// One short phrase: `20/20 golden cases`, `expected 7, got 1`.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    Digest,
    Ready,
    Signature,
    GoldenCases,
    /// A seeded request with finite outputs of the declared shape, for bundles without golden cases.
    Smoke,
    Latency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Passed,
    Failed,
    Skipped,
    /// What would show it cannot be known: nobody sees what a server of the author's own has loaded.
    Unproved,
}

/// One replica as its agent knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStatus {
    /// Unique in the world.
    pub id: String,
    pub model: ModelName,
    pub slot: Slot,
    pub revision: RevisionNumber,
    pub version: VersionNumber,
    /// host:port
    pub address: String,
    pub pid: u32,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    pub ready: bool,
    /// Times that a replica in this place ended and was started again.
    pub restarts: u32,
    /// How the one before it in its place ended: `over its memory of 512MiB: killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// What of its limits nobody keeps it to, why, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unenforced: Option<String>,
}

impl ReplicaStatus {
    /// What people should know of it beyond its state.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let (id, restarts) = (&self.id, self.restarts);
        let times = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
        let ended = self.last_end.as_ref().filter(|_| restarts > 0);
        let ended = ended.map(|end| format!("{id}: restarted {times}; the one before it ended: {end}"));
        self.unenforced.clone().into_iter().chain(ended)
    }
}

/// What people should know of these replicas, each thing once.
pub fn remarks<'a>(replicas: impl IntoIterator<Item = &'a ReplicaStatus>) -> Vec<String> {
    let mut remarks: Vec<String> = Vec::new();
    for remark in replicas.into_iter().flat_map(ReplicaStatus::remarks) {
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_known_of_replicas_is_said_once() {
        let replica = |place: u32, restarts: u32, last_end: Option<&str>, unenforced: Option<&str>| -> ReplicaStatus {
            serde_json::from_value(serde_json::json!({
                "id": format!("m-blue{place}"), "model": "m", "slot": "blue", "revision": 1, "version": 1,
                "address": "127.0.0.1:1", "pid": 1, "started_at": "2026-01-01T00:00:00Z", "ready": true,
                "restarts": restarts, "last_end": last_end, "unenforced": unenforced,
            }))
            .unwrap()
        };
        let said = remarks(&[
            replica(0, 0, None, Some("not enforced")),
            replica(1, 1, Some("over its memory"), Some("not enforced")),
            replica(2, 3, Some("exit code 1"), None),
            replica(3, 0, Some("of an earlier attempt"), None),
        ]);
        assert_eq!(
            said,
            [
                "not enforced",
                "m-blue1: restarted once; the one before it ended: over its memory",
                "m-blue2: restarted 3 times; the one before it ended: exit code 1",
            ]
        );
        assert!(remarks(&[replica(0, 4, None, None)]).is_empty(), "an agent of an earlier version does not say");
    }
}
