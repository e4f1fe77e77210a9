//! The planner: what a rollout does next, from its record and what is observed.
//!
//! [`plan`] proposes [`Change`]s; [`Change::apply_region`] and [`Change::apply_fleet`] say what each makes of
//! the record. Whoever executes a change writes the changed record, and the desired state that goes with it, in one
//! transaction: the intent is recorded before anything acts on it, and a change that is proposed twice is written once.

use super::{
    Action, RegionPhase, RegionRecord, Rollout, RolloutFailure, RolloutState, Soak, StepResult,
    course::{Decided, Decision},
    strategy::{OnFailure, Strategy},
};
use crate::{
    RegionName, Timestamp,
    assignment::{Failure, SlotPhase, SlotStatus, Verification},
    backoff::Backoff,
};

mod apply;
mod catch_up;
mod in_place;
mod moving;
mod observed;
mod soak;
#[cfg(test)]
mod tests;

pub use observed::{GatewayObservation, LEASE, Observed, Reach, RegionObservation, Room, SILENCE_LIMIT};

/// While a region is worked on, its agent is looked for this often.
const SILENCE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// A region that caught up waits no longer than this for others that are about to, so that they share one epoch: a
/// region costs a new route, which names them all.
pub const GATHER_LIMIT: std::time::Duration = std::time::Duration::from_millis(500);

/// Gateways that have not acknowledged a committed route after this time are not waited for.
pub const COMMIT_WAIT: std::time::Duration = LEASE;

/// One change of the record.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Begins the next attempt of a region: its slot is assigned.
    Begin {
        region: RegionName,
    },
    /// Replicas are ready: its slot is monitored.
    Deployed {
        region: RegionName,
    },
    /// Monitors sample: its slot is verified.
    Monitored {
        region: RegionName,
    },
    Verified {
        region: RegionName,
        verification: Verification,
    },
    AttemptFailed {
        region: RegionName,
        action: Action,
        failure: Failure,
        verification: Option<Verification>,
    },
    /// Set aside until it returns.
    Defer {
        region: RegionName,
        detail: String,
    },
    /// A deferred region is back: like `Begin`, from its first attempt.
    Resume {
        region: RegionName,
    },
    /// Nobody is sent to these regions any more, so that they have room for the new revision.
    GiveWay {
        regions: Vec<RegionName>,
    },
    /// A wave ends earlier, after so many of the rollout's regions.
    Shrink {
        end: usize,
        reason: String,
    },
    /// The new route is offered to the gateways.
    Prepare,
    /// Gateways are prepared, and the switch waits for something else.
    Hold {
        reason: String,
    },
    Commit,
    /// Gateways have acknowledged, or were waited for long enough: alerts are armed.
    Arm {
        acknowledged: u32,
        gateways: u32,
    },
    /// Regions that caught up take traffic, all at one new epoch.
    Extend {
        regions: Vec<RegionName>,
    },
    Armed,
    /// It waits for a person.
    Pause {
        reason: String,
    },
    /// On to the next users.
    Advance,
    SoakEnded {
        soak: Soak,
    },
    /// Users are worse off in a region: all of them are taken back.
    Condemn {
        region: RegionName,
        reason: String,
    },
    Retire,
    Fail {
        failure: RolloutFailure,
    },
}

/// What to do now, and when to look again if nothing happens meanwhile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// What to do next. Never reads a clock, never looks at anything but its arguments. `records` are those of all regions,
/// in the order of the rollout: all of them are looked at for every step, so they lie side by side.
pub fn plan(rollout: &Rollout, records: &[RegionRecord], observed: &dyn Observed, now: Timestamp) -> Plan {
    let mut planner = Planner { rollout, records, observed, now, leaving: Vec::new(), plan: Plan::default() };
    if let Some(condemn) = planner.condemn() {
        planner.plan.changes.push(condemn);
        return planner.plan;
    }
    planner.judge_again();
    match rollout.state {
        RolloutState::Regions => planner.bring_up_regions(),
        RolloutState::Preparing => planner.prepare(),
        RolloutState::Committing => planner.commit(),
        RolloutState::Arming => planner.arm(),
        RolloutState::Soaking => {
            planner.soak();
            // Until everybody has the revision, its regions have their turn.
            if rollout.in_last_stage() {
                planner.catch_up();
            }
        }
        // A superseded rollout is planned when the one that superseded it has failed: its revision still serves.
        RolloutState::Succeeded | RolloutState::Superseded => planner.catch_up(),
        // One that is being left, and serves until another does.
        RolloutState::Failed if rollout.has_served() => planner.catch_up(),
        RolloutState::Failed => {}
    }
    planner.plan
}

struct Planner<'a> {
    rollout: &'a Rollout,
    records: &'a [RegionRecord],
    observed: &'a dyn Observed,
    now: Timestamp,
    /// Regions that are to begin, and have something to give up first.
    leaving: Vec<&'a RegionName>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn bring_up_regions(&mut self) {
        let mut counts = Counts::default();
        self.records.iter().for_each(|record| counts.add(self.phase(record)));
        if let Some(failure) = self.fatal_failure(&counts) {
            self.plan.changes.push(Change::Fail { failure });
            return;
        }
        if let Some(reason) = self.asks_a_person() {
            self.plan.changes.push(Change::Pause { reason });
            return;
        }
        let before = self.plan.changes.len();
        let stage = self.rollout.stage();
        let wave = self.open_wave();
        let mut may_begin = if self.is_paused() { 0 } else { self.parallel().saturating_sub(counts.working) };
        let mut may_defer = self.may_still_defer(&counts);
        let mut none = 0;
        for (index, record) in self.records[..stage.regions].iter().enumerate() {
            // Those that come first are wanted.
            let may_defer = if index < self.rollout.strategy.first.len() { &mut none } else { &mut may_defer };
            match self.phase(record) {
                RegionPhase::Pending if may_begin > 0 && index < wave => {
                    may_begin -= 1;
                    self.begin(record, may_defer);
                }
                RegionPhase::Retrying if !self.is_paused() => self.retry(record, may_defer),
                RegionPhase::Deploying | RegionPhase::ConfiguringMonitoring | RegionPhase::Verifying => {
                    self.advance(record, may_defer);
                }
                _ => {}
            }
        }
        let leaving = std::mem::take(&mut self.leaving);
        if !leaving.is_empty() {
            return self.give_way(&leaving);
        }
        let settled = self.records[..stage.regions].iter().all(|record| is_settled(self.phase(record)));
        if settled && self.plan.changes.len() == before && !self.is_paused() && self.may_leave_the_rest() {
            self.plan.changes.push(Change::Prepare);
        }
    }

    /// The phase of a region; what a person wants tried again is as if it had not begun.
    fn phase(&self, record: &RegionRecord) -> RegionPhase {
        let again = record.phase == RegionPhase::Failed && self.decided_since(record) == Some(Decision::Resume);
        if again { RegionPhase::Pending } else { record.phase }
    }

    /// What a person has decided since a region failed.
    fn decided_since(&self, record: &RegionRecord) -> Option<Decision> {
        let Decided { at, what } = self.rollout.course.decided?;
        (record.failed_at()? <= at).then_some(what)
    }

    /// Why a person is to decide, unless one is being asked: a region has failed, and nobody has said to go on without it.
    fn asks_a_person(&self) -> Option<String> {
        if self.rollout.strategy.on_failure != OnFailure::Pause || self.is_paused() {
            return None;
        }
        let undecided = |record: &&RegionRecord| {
            self.phase(record) == RegionPhase::Failed && self.decided_since(record) != Some(Decision::Promote)
        };
        let record = self.records.iter().find(undecided)?;
        let why = record.failure.as_ref().map_or("failed", |(_, failure)| failure.message.as_str());
        let in_region =
            if why.contains(record.region.as_str()) { String::new() } else { format!(" in {}", record.region) };
        Some(format!("{why}{in_region}"))
    }

    fn is_paused(&self) -> bool {
        self.rollout.course.paused.is_some()
    }

    /// So many regions, from the first on, may be worked on: to the end of the first wave that is not settled.
    fn open_wave(&self) -> usize {
        let is_open = |end: &usize| self.records[..*end].iter().any(|record| !is_settled(self.phase(record)));
        self.rollout.waves().into_iter().find(is_open).unwrap_or(self.records.len())
    }

    /// A listed wave is worked on as a whole.
    fn parallel(&self) -> usize {
        let strategy = &self.rollout.strategy;
        if strategy.waves.is_empty() { strategy.max_parallel.limit() } else { usize::MAX }
    }

    /// With `stop`, the first failed region ends it, and so does one that must come first; otherwise only that too few can
    /// still be verified.
    fn fatal_failure(&self, counts: &Counts) -> Option<RolloutFailure> {
        let Strategy { on_failure, min_regions, first, .. } = &self.rollout.strategy;
        let failed =
            |records: &'a [RegionRecord]| records.iter().find(|record| self.phase(record) == RegionPhase::Failed);
        // Regions that are brought up last are so when users have long been moved.
        let total = self.rollout.stages().last().map_or(0, |stage| stage.regions);
        let possible = total.saturating_sub(counts.failed + counts.deferred);
        let wanted = match (min_regions, on_failure) {
            (Some(least), _) => (*least as usize).clamp(1, total),
            (None, OnFailure::Stop) => total,
            (None, OnFailure::Continue | OnFailure::Pause) => 1,
        };
        let stopped = match on_failure {
            OnFailure::Stop => counts.failed > 0,
            OnFailure::Continue => failed(&self.records[..first.len()]).is_some(),
            OnFailure::Pause => false,
        };
        // A person may still have what failed tried again.
        let undecided = self.is_paused() || self.asks_a_person().is_some();
        if !stopped && (possible >= wanted || undecided) {
            return None;
        }
        let failure = failed(self.records).and_then(|record| {
            record.failure.clone().map(|(action, failure)| RolloutFailure {
                region: Some(record.region.clone()),
                action,
                failure,
            })
        });
        Some(failure.unwrap_or_else(|| RolloutFailure {
            region: None,
            action: Action::SelectRegions,
            failure: Failure {
                message: format!("only {possible} of {total} regions can be reached, and {wanted} are wanted"),
                causes: Vec::new(),
                hint: Some("start the agents of the missing regions, or allow fewer with --min-regions".to_owned()),
                retryable: true,
            },
        }))
    }

    /// How many regions more may be deferred before too few remain.
    fn may_still_defer(&self, counts: &Counts) -> usize {
        let Some(least) = self.rollout.strategy.min_regions else { return 0 };
        let total = self.rollout.regions.len();
        (total - counts.failed - counts.deferred).saturating_sub((least as usize).clamp(1, total))
    }

    fn begin(&mut self, record: &'a RegionRecord, may_defer: &mut usize) {
        let region = record.region.clone();
        match self.observed.region(&region).reach {
            Reach::Unreachable { silent_secs } => self.lost(record, Action::Deploy, silent_secs, may_defer),
            // The executor looks again as soon as the region reports, or its silence is long enough to tell.
            Reach::Unknown => self.look_again_soon(),
            Reach::Reachable if self.rollout.is_in_place() && !record.alone => self.leaving.push(&record.region),
            Reach::Reachable => self.when_there_is_room(record, Change::Begin { region }),
        }
    }

    fn retry(&mut self, record: &'a RegionRecord, may_defer: &mut usize) {
        match record.retry_at {
            Some(at) if at > self.now => self.plan.wake(at),
            _ => self.begin(record, may_defer),
        }
    }

    fn look_again_soon(&mut self) {
        let at = self.now.checked_add(std::time::Duration::from_millis(250)).unwrap_or(self.now);
        self.plan.wake(at);
    }

    /// The region went silent: deferred where that is allowed, else a failed attempt.
    fn lost(&mut self, record: &RegionRecord, action: Action, silent_secs: Option<u64>, may_defer: &mut usize) {
        let region = record.region.clone();
        let message = match silent_secs {
            Some(secs) => format!("no agent of {region} has reported for {secs} s"),
            None => format!("no agent of {region} has ever reported"),
        };
        if *may_defer > 0 {
            *may_defer -= 1;
            self.plan.changes.push(Change::Defer { region, detail: message });
            return;
        }
        let start = format!("start the agent of {region}");
        let hint = match self.rollout.regions.len() {
            0 | 1 => start,
            total => format!("{start}, or go on without it: --min-regions {}", total - 1),
        };
        let failure = Failure { message, causes: Vec::new(), hint: Some(hint), retryable: true };
        self.plan.changes.push(Change::AttemptFailed { region, action, failure, verification: None });
    }

    /// A region that is being worked on: has what was asked for been observed?
    fn advance(&mut self, record: &RegionRecord, may_defer: &mut usize) {
        let action = match record.phase {
            RegionPhase::ConfiguringMonitoring => Action::ConfigureMonitoring,
            RegionPhase::Verifying => Action::Verify,
            _ => Action::Deploy,
        };
        let region = record.region.clone();
        let observation = self.observed.region(&region);
        if let Reach::Unreachable { silent_secs } = observation.reach {
            return self.lost(record, action, silent_secs, may_defer);
        }
        let current = |slot: &&SlotStatus| slot.revision == self.rollout.revision && slot.attempt == record.attempt;
        let Some(slot) = observation.slot.filter(current) else {
            return self.watch_deadline(record, action, observation.progress_at);
        };
        if let SlotPhase::Failed { failure } = &slot.phase {
            let failure = failure.clone();
            self.plan.changes.push(Change::AttemptFailed { region, action, failure, verification: None });
            return;
        }
        let verification = slot.verification.as_ref().filter(|verification| verification.attempt == record.attempt);
        let change = match (record.phase, verification) {
            (RegionPhase::Deploying, _) if slot.phase == SlotPhase::Ready => Change::Deployed { region },
            (RegionPhase::ConfiguringMonitoring, _) if slot.monitored => Change::Monitored { region },
            (RegionPhase::Verifying, Some(verification)) => verdict(region, verification.clone()),
            _ => return self.watch_deadline(record, action, observation.progress_at),
        };
        self.plan.changes.push(change);
    }

    fn watch_deadline(&mut self, record: &RegionRecord, action: Action, progress_at: Option<Timestamp>) {
        let after_progress =
            progress_at.and_then(|at| at.checked_add(self.rollout.strategy.progress_deadline.duration()).ok());
        let Some(deadline) = record.deadline.max(after_progress) else { return };
        if deadline > self.now {
            // Nothing tells of an agent that falls silent.
            self.plan.wake(deadline.min(self.now.checked_add(SILENCE_INTERVAL).unwrap_or(deadline)));
            return;
        }
        let failure = Failure {
            message: format!(
                "{} made no progress in {} for {}",
                action.words(),
                record.region,
                self.rollout.strategy.progress_deadline
            ),
            causes: Vec::new(),
            hint: Some(format!("see its log with `tradewind logs {} --region {}`", self.rollout.model, record.region)),
            retryable: true,
        };
        let region = record.region.clone();
        self.plan.changes.push(Change::AttemptFailed { region, action, failure, verification: None });
    }
}

/// Nothing more happens to it in its stage.
fn is_settled(phase: RegionPhase) -> bool {
    matches!(phase, RegionPhase::Verified | RegionPhase::Failed | RegionPhase::Deferred)
}

fn verdict(region: RegionName, verification: Verification) -> Change {
    let Some(failed) = verification.first_failed() else { return Change::Verified { region, verification } };
    let failure = Failure {
        message: format!("verification failed in {region}"),
        causes: vec![failed.detail.clone()],
        hint: None,
        retryable: true,
    };
    Change::AttemptFailed { region, action: Action::Verify, failure, verification: Some(verification) }
}

#[derive(Debug, Default)]
struct Counts {
    working: usize,
    failed: usize,
    deferred: usize,
}

impl Counts {
    fn add(&mut self, phase: RegionPhase) {
        match phase {
            RegionPhase::Deploying
            | RegionPhase::ConfiguringMonitoring
            | RegionPhase::Verifying
            | RegionPhase::Retrying => self.working += 1,
            RegionPhase::Failed => self.failed += 1,
            RegionPhase::Deferred => self.deferred += 1,
            RegionPhase::Pending | RegionPhase::Verified => {}
        }
    }
}

/// The wait before a region's next attempt.
pub(super) fn retry_wait(attempt: u32) -> std::time::Duration {
    Backoff::REGION.after(attempt)
}

/// The result of a step that ended with `failure`.
pub(super) fn failed_step(detail: &Failure) -> (StepResult, String) {
    let cause = detail.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
    (StepResult::Failed, format!("{}{cause}", detail.message))
}
