//! A slot's state in the words of those who look at it: the decision, the board, the successor.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tradewind_api::agent::CaseCounts;
use tradewind_core::assignment::{ReplicaCount, ReplicaStatus, SlotAssignment, SlotPhase, SlotStatus};

use super::{BundleState, Golden, Holding, Replica, SlotTask};
use crate::{
    board::{ReplicaView, SlotView},
    decide::{self, Bundle, Held, Seen},
    record::{ReplicaRecord, SlotRecord},
};

impl SlotTask {
    pub(super) fn wanted(&self, assignment: &SlotAssignment) -> decide::Wanted {
        // What is not held yet has no number either.
        let held = self.holding.as_ref().filter(|holding| holding.assignment.revision == assignment.revision);
        decide::Wanted {
            revision: assignment.revision,
            attempt: assignment.attempt,
            replicas: held.map_or(assignment.scale.replicas, |holding| holding.scaling.replicas()),
            verify: assignment.verify,
        }
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.holding.as_ref().map(Holding::held)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let copy = match self.holding.as_ref().map(|holding| &holding.bundle) {
            Some(BundleState::Installed(installed)) => Some(installed.copy),
            _ => None,
        };
        self.replicas.iter().map(|replica| replica.seen(copy)).collect()
    }

    /// The places that have to wait, and for how long.
    pub(super) fn waits(&self) -> BTreeMap<u32, Duration> {
        let now = std::time::Instant::now();
        let wait = |(number, place): (&u32, &super::Place)| {
            let left = place.not_before?.checked_duration_since(now)?;
            (!left.is_zero()).then_some((*number, left))
        };
        self.places.iter().filter_map(wait).collect()
    }

    pub(super) fn log_of(&self, record: &ReplicaRecord) -> PathBuf {
        self.context.home.log(&record.model, record.revision, record.slot, record.place)
    }

    pub(super) fn publish(&self) {
        self.context.board.publish(&self.key, self.holding.as_ref().map(|holding| self.view(holding)));
    }

    fn view(&self, holding: &Holding) -> SlotView {
        let assignment = &holding.assignment;
        let ready = self.replicas.iter().filter(|replica| replica.is_ready()).count();
        let desired = if holding.releasing { 0 } else { holding.scaling.replicas() };
        let serves = holding.reached_ready && !holding.releasing && holding.failure.is_none();
        let status = SlotStatus {
            revision: assignment.revision,
            attempt: assignment.attempt,
            phase: holding.phase(),
            replicas: ReplicaCount { ready: u32::try_from(ready).unwrap_or(u32::MAX), desired },
            resting: serves && holding.scaling.is_resting(),
            monitored: assignment.monitored,
            armed: assignment.armed,
            verification: holding.verification.clone(),
        };
        let replicas = self.replicas.iter().map(replica_view).collect();
        let (digest, health, concurrency) = (assignment.digest, assignment.health, assignment.scale.concurrency);
        let (settled, cases) = (holding.scaling.settled(), self.case_counts(holding));
        SlotView { status, digest, health, concurrency, settled, replicas, cases }
    }

    fn case_counts(&self, holding: &Holding) -> CaseCounts {
        let suspects = self.replicas.iter().filter(|replica| replica.is_running() && replica.is_suspect()).count();
        let Golden { asked, wrong, unanswered, asked_at, last_wrong, .. } = &holding.golden;
        CaseCounts {
            model: self.key.0.clone(),
            slot: self.key.1,
            revision: holding.assignment.revision,
            asked: *asked,
            wrong: *wrong,
            unanswered: *unanswered,
            asked_at: *asked_at,
            suspects: u32::try_from(suspects).unwrap_or(u32::MAX),
            last_wrong: last_wrong.clone(),
        }
    }

    pub(super) fn record(&self) -> Option<SlotRecord> {
        let (model, slot) = self.key.clone();
        self.holding.as_ref().map(|holding| SlotRecord {
            model,
            slot,
            assignment: holding.assignment.clone(),
            reached_ready: holding.reached_ready,
            verification: holding.verification.clone(),
            desired: Some(holding.scaling.replicas()),
        })
    }
}

fn replica_view(replica: &Replica) -> ReplicaView {
    let record = &replica.record;
    let status = ReplicaStatus {
        id: record.id.clone(),
        model: record.model.clone(),
        slot: record.slot,
        revision: record.revision,
        version: record.version,
        address: record.address.clone(),
        pid: replica.process.pid(),
        started_at: record.started_at,
        ready: replica.is_ready(),
        restarts: record.restarts,
        last_end: record.last_end.clone(),
        unenforced: record.budget.as_ref().and_then(|budget| budget.unenforced.clone()),
    };
    let (runtime, probe) = (record.runtime(), record.probe());
    let (place, budget) = (record.place, record.budget.clone());
    let (announced, suspect) = (replica.is_announced(), replica.is_suspect());
    ReplicaView { status, place, announced, suspect, runtime, probe, budget }
}

impl Holding {
    fn held(&self) -> Held {
        Held {
            revision: self.assignment.revision,
            attempt: self.assignment.attempt,
            bundle: match self.bundle {
                BundleState::Absent => Bundle::Absent,
                BundleState::Fetching { .. } | BundleState::Repairing => Bundle::Fetching,
                BundleState::Installed(_) => Bundle::Installed,
            },
            failed: self.failure.is_some(),
            releasing: self.releasing,
            reached_ready: self.reached_ready,
            early_exits: self.early_exits,
            verified: self.verification.as_ref().map(|each| (each.attempt, each.succeeded())),
            verifying: self.verifying,
            golden_due: self.golden_due_after().is_some_and(|wait| wait.is_zero()),
            verify_waits: self.verify_asked.map_or(Duration::ZERO, |asked| asked.elapsed()),
        }
    }

    fn phase(&self) -> SlotPhase {
        if self.releasing {
            return SlotPhase::Draining;
        }
        if let Some(failure) = &self.failure {
            return SlotPhase::Failed { failure: failure.clone() };
        }
        if self.reached_ready {
            return SlotPhase::Ready;
        }
        match self.bundle {
            BundleState::Absent => SlotPhase::Fetching { bytes_done: 0, bytes_total: 0 },
            BundleState::Fetching { done, total } => SlotPhase::Fetching { bytes_done: done, bytes_total: total },
            BundleState::Repairing | BundleState::Installed(_) => SlotPhase::Starting,
        }
    }
}
