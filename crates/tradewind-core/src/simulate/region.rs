//! A simulated region: its agent does what it is assigned, in its own time, and its gateway takes up routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::Durations;
use crate::{
    Epoch, RevisionNumber, Slot, Timestamp,
    assignment::{Check, CheckName, CheckResult, Failure, ReplicaCount, SlotPhase, SlotStatus, Verification},
    route::RouteState,
};

/// What one slot should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Assigned {
    pub revision: RevisionNumber,
    pub attempt: u32,
    pub monitored: bool,
    pub verify: Option<u32>,
    pub armed: bool,
}

pub(super) type Assignment = BTreeMap<Slot, Assigned>;

/// What faults make of a region's work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conduct {
    /// Everything takes so many times as long.
    pub factor: u32,
    /// Attempts up to this one fail.
    pub failing: u32,
    pub wrong: bool,
}

#[derive(Debug, Default)]
pub(super) struct Agent {
    pub assigned: Assignment,
    slots: BTreeMap<Slot, Held>,
    /// Revisions that have passed their verification here, and were not begun again since.
    pub verified: BTreeSet<RevisionNumber>,
}

/// What an agent has made of a slot.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub status: SlotStatus,
    changed_at: Timestamp,
    task: Option<Task>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Start,
    Monitor,
    Verify(u32),
}

#[derive(Debug, Clone, Copy)]
struct Task {
    work: Work,
    began_at: Timestamp,
    ends_at: Timestamp,
}

impl Agent {
    /// One that serves `revision` since long ago.
    pub(super) fn serving(slot: Slot, revision: RevisionNumber, now: Timestamp) -> Self {
        let assigned = Assigned { revision, attempt: 1, monitored: true, verify: Some(1), armed: true };
        let status = SlotStatus {
            phase: SlotPhase::Ready,
            replicas: ReplicaCount { ready: 1, desired: 1 },
            monitored: true,
            armed: true,
            verification: Some(verification(1, true, now)),
            ..begun(assigned)
        };
        Self {
            assigned: [(slot, assigned)].into(),
            slots: [(slot, Held { status, changed_at: now, task: None })].into(),
            verified: [revision].into(),
        }
    }

    pub(super) fn slot(&self, slot: Slot) -> Option<&Held> {
        self.slots.get(&slot)
    }

    pub(super) fn slots(&self) -> BTreeMap<Slot, Held> {
        self.slots.clone()
    }

    /// Does what is due; whether anything is other than before.
    pub(super) fn act(&mut self, conduct: Conduct, durations: &Durations, now: Timestamp) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot, _| self.assigned.contains_key(slot));
        let mut changed = self.slots.len() != before;
        for (slot, assigned) in &self.assigned {
            let of_attempt =
                |held: &&mut Held| (held.status.revision, held.status.attempt) == (assigned.revision, assigned.attempt);
            let held = match self.slots.get_mut(slot).filter(of_attempt) {
                Some(held) => held,
                None => {
                    changed = true;
                    self.verified.remove(&assigned.revision);
                    let held = Held { status: begun(*assigned), changed_at: now, task: None };
                    self.slots.entry(*slot).insert_entry(held).into_mut()
                }
            };
            changed |= held.act(*assigned, conduct, durations, now);
            let passed =
                |verification: &Verification| verification.succeeded() && verification.attempt == held.status.attempt;
            if held.status.verification.as_ref().is_some_and(passed) {
                self.verified.insert(assigned.revision);
            }
        }
        changed
    }

    /// What was under way begins anew when it is back.
    pub(super) fn stop(&mut self) {
        self.slots.values_mut().for_each(|held| held.task = None);
    }

    pub(super) fn next_event(&self) -> Option<Timestamp> {
        self.slots.values().filter_map(|held| Some(held.task?.ends_at)).min()
    }
}

impl Held {
    /// When it last made progress: bytes arrive through the first half of a start.
    pub(super) fn progress_at(&self, now: Timestamp) -> Timestamp {
        match self.task {
            Some(Task { work: Work::Start, began_at, ends_at }) => {
                let half = Duration::try_from(ends_at.duration_since(began_at)).unwrap_or_default() / 2;
                later(began_at, half).min(now)
            }
            _ => self.changed_at,
        }
    }

    fn act(&mut self, assigned: Assigned, conduct: Conduct, durations: &Durations, now: Timestamp) -> bool {
        let mut changed = false;
        if let Some(task) = self.task.filter(|task| task.ends_at <= now) {
            self.finish(task.work, conduct, now);
            changed = true;
        }
        if self.status.phase == SlotPhase::Ready && self.status.armed != assigned.armed {
            self.status.armed = assigned.armed;
            changed = true;
        }
        if self.task.is_none()
            && let Some(work) = self.wanted(assigned)
        {
            let takes = match work {
                Work::Start => durations.deploy,
                Work::Monitor => durations.monitor,
                Work::Verify(_) => durations.verify,
            };
            let ends_at = later(now, takes.duration().saturating_mul(conduct.factor));
            self.task = Some(Task { work, began_at: now, ends_at });
        }
        changed
    }

    fn wanted(&self, assigned: Assigned) -> Option<Work> {
        let verified = self.status.verification.as_ref().map(|verification| verification.attempt);
        match self.status.phase {
            SlotPhase::Starting => Some(Work::Start),
            SlotPhase::Ready if assigned.monitored && !self.status.monitored => Some(Work::Monitor),
            SlotPhase::Ready => assigned.verify.filter(|wanted| verified != Some(*wanted)).map(Work::Verify),
            _ => None,
        }
    }

    fn finish(&mut self, work: Work, conduct: Conduct, now: Timestamp) {
        (self.task, self.changed_at) = (None, now);
        match work {
            Work::Start if self.status.attempt <= conduct.failing => {
                let message = "the replica ended with exit code 1".to_owned();
                let failure = Failure { message, causes: Vec::new(), hint: None, retryable: true };
                self.status.phase = SlotPhase::Failed { failure };
            }
            Work::Start => {
                self.status.phase = SlotPhase::Ready;
                self.status.replicas.ready = self.status.replicas.desired;
            }
            Work::Monitor => self.status.monitored = true,
            Work::Verify(attempt) => self.status.verification = Some(verification(attempt, !conduct.wrong, now)),
        }
    }
}

fn begun(assigned: Assigned) -> SlotStatus {
    SlotStatus {
        revision: assigned.revision,
        attempt: assigned.attempt,
        phase: SlotPhase::Starting,
        replicas: ReplicaCount { ready: 0, desired: 1 },
        resting: false,
        monitored: false,
        armed: false,
        verification: None,
    }
}

fn verification(attempt: u32, good: bool, now: Timestamp) -> Verification {
    let (result, detail) = match good {
        true => (CheckResult::Passed, "20/20 golden cases"),
        false => (CheckResult::Failed, "golden cases 3/20"),
    };
    let check = Check { name: CheckName::GoldenCases, result, detail: detail.to_owned() };
    Verification { attempt, checks: vec![check], finished_at: now }
}

/// What a gateway has taken up.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub prepared: Option<Epoch>,
    pub committed: Option<Arc<RouteState>>,
}

impl Taken {
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.committed.as_ref().map(|state| state.epoch)
    }

    fn is(&self, other: &Self) -> bool {
        (self.prepared, self.epoch()) == (other.prepared, other.epoch())
    }
}

#[derive(Debug, Default)]
pub(super) struct Gateway {
    pub taken: Taken,
    under_way: Option<(Timestamp, Taken)>,
}

impl Gateway {
    /// Has taken up what was under way, if it is due; whether it was.
    pub(super) fn take_up(&mut self, now: Timestamp) -> bool {
        let due = self.under_way.take_if(|(at, _)| *at <= now);
        due.map(|(_, taken)| self.taken = taken).is_some()
    }

    /// Begins to take up what it is offered, unless it is busy or knows better.
    pub(super) fn consider(&mut self, offered: Taken, takes: Duration, now: Timestamp) {
        if self.under_way.is_none() && !self.taken.is(&offered) && self.taken.epoch() <= offered.epoch() {
            self.under_way = Some((later(now, takes), offered));
        }
    }

    /// What was under way is lost.
    pub(super) fn stop(&mut self) {
        self.under_way = None;
    }

    pub(super) fn next_event(&self) -> Option<Timestamp> {
        self.under_way.as_ref().map(|(at, _)| *at)
    }
}

pub(super) fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
