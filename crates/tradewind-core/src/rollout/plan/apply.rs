//! What each change makes of the record.

use std::time::Duration;

use super::{Change, failed_step, retry_wait};
use crate::{
    Epoch, ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, Timestamp,
    assignment::{CheckName, Failure, Verification},
    rollout::{
        Action, FleetSteps, RegionPhase, RegionRecord, Rollout, RolloutFailure, RolloutKind, RolloutState, Soak, Step,
        StepResult,
        course::{Audience, Course, Pause, Stage},
        strategy::Strategy,
    },
};

impl Change {
    /// The region whose record this changes; `None` if it changes the fleet's.
    pub fn region(&self) -> Option<&RegionName> {
        match self {
            Self::Begin { region }
            | Self::Deployed { region }
            | Self::Monitored { region }
            | Self::Verified { region, .. }
            | Self::AttemptFailed { region, .. }
            | Self::Defer { region, .. }
            | Self::Resume { region } => Some(region),
            Self::GiveWay { .. }
            | Self::Shrink { .. }
            | Self::Prepare
            | Self::Hold { .. }
            | Self::Commit
            | Self::Arm { .. }
            | Self::Extend { .. }
            | Self::Armed
            | Self::Pause { .. }
            | Self::Advance
            | Self::SoakEnded { .. }
            | Self::Condemn { .. }
            | Self::Retire
            | Self::Fail { .. } => None,
        }
    }

    /// Applies a change of a region to its record.
    ///
    /// # Panics
    /// If the change is one of the fleet.
    pub fn apply_region(&self, rollout: &Rollout, record: &mut RegionRecord, now: Timestamp) {
        record.deadline = now.checked_add(rollout.strategy.progress_deadline.duration()).ok();
        match self {
            Self::Begin { .. } | Self::Resume { .. } => {
                record.alone |= rollout.is_in_place();
                begin(record, record.attempt + 1, now);
            }
            Self::Deployed { .. } => {
                record.phase = RegionPhase::ConfiguringMonitoring;
                finish(&mut record.deploy, StepResult::Success, String::new(), now);
                record.configure_monitoring = Some(Step::begun(record.attempt, now));
            }
            Self::Monitored { .. } => {
                record.phase = RegionPhase::Verifying;
                finish(&mut record.configure_monitoring, StepResult::Success, String::new(), now);
                record.verify = Some(Step::begun(record.attempt, now));
            }
            Self::Verified { verification, .. } => {
                record.phase = RegionPhase::Verified;
                record.deadline = None;
                record.failure = None;
                finish(&mut record.verify, StepResult::Success, summary(verification), now);
                record.verification = Some(verification.clone());
            }
            Self::AttemptFailed { action, failure, verification, .. } => {
                attempt_failed(rollout, record, *action, failure, verification.as_ref(), now);
            }
            Self::Defer { detail, .. } => {
                record.phase = RegionPhase::Deferred;
                record.deadline = None;
                let step = record.deploy.get_or_insert_with(|| Step::begun(record.attempt, now));
                (step.result, step.finished_at, step.detail) = (StepResult::Deferred, Some(now), detail.clone());
            }
            _ => panic!("{self:?} does not change a region"),
        }
    }

    /// Applies a change of the fleet to the rollout's record. `epoch` is what a new route gets.
    ///
    /// # Panics
    /// If the change is one of a region.
    pub fn apply_fleet(&self, rollout: &mut Rollout, epoch: Epoch, now: Timestamp) {
        match self {
            Self::Shrink { end, .. } => rollout.course.cuts.push(*end),
            Self::Prepare => {
                rollout.state = RolloutState::Preparing;
                let detail = format!("epoch {epoch}{}", users(rollout));
                rollout.steps.route = Some(Step { detail, ..Step::begun(1, now) });
            }
            Self::Hold { reason } => {
                if let Some(route) = &mut rollout.steps.route {
                    route.detail = format!("epoch {epoch} {reason}");
                }
            }
            Self::Commit => {
                rollout.state = RolloutState::Committing;
                let detail = format!("epoch {epoch}{}", users(rollout));
                if let Some(route) = &mut rollout.steps.route {
                    route.detail = detail;
                }
                rollout.committed_at = Some(now);
            }
            Self::Arm { acknowledged, gateways } => {
                rollout.state = RolloutState::Arming;
                finish_keeping_detail(&mut rollout.steps.route, now);
                if let Some(route) = &mut rollout.steps.route {
                    route.detail = format!("{} acknowledged by {acknowledged} of {gateways} gateways", route.detail);
                }
                rollout.steps.arm = Some(Step::begun(1, now));
            }
            Self::Armed => {
                rollout.state = RolloutState::Soaking;
                finish_keeping_detail(&mut rollout.steps.arm, now);
                rollout.soak = Soak::Running;
                // Nobody goes back from where they are taken back to.
                let is_on_the_way_back = rollout.kind == RolloutKind::Rollback && !rollout.in_last_stage();
                let soak = if is_on_the_way_back { Duration::ZERO } else { rollout.strategy.soak.duration() };
                rollout.soak_until = now.checked_add(soak).ok();
            }
            Self::Pause { reason } => {
                rollout.course.paused = Some(Pause { at: now, by: None, reason: reason.clone() });
            }
            Self::Advance => rollout.advance(),
            Self::SoakEnded { soak } => rollout.soak = *soak,
            Self::Condemn { region, reason } => {
                let failure = Failure {
                    message: format!("{reason} in {region} after users were moved"),
                    causes: Vec::new(),
                    hint: None,
                    retryable: false,
                };
                fail(
                    rollout,
                    &RolloutFailure { region: Some(region.clone()), action: Action::ArmMonitoring, failure },
                    now,
                );
                rollout.soak = Soak::Failed;
            }
            Self::Retire => {
                rollout.state = RolloutState::Succeeded;
                rollout.finished_at = Some(now);
                if rollout.from.is_some() {
                    let mut retire = Some(Step::begun(1, now));
                    finish_keeping_detail(&mut retire, now);
                    rollout.steps.retire = retire;
                }
            }
            Self::Fail { failure } => fail(rollout, failure, now),
            // Its regions' records say it.
            Self::GiveWay { .. } | Self::Extend { .. } => {}
            _ => panic!("{self:?} does not change the fleet"),
        }
    }
}

impl Step {
    pub(crate) fn begun(attempts: u32, now: Timestamp) -> Self {
        Self { result: StepResult::Running, started_at: now, finished_at: None, attempts, detail: String::new() }
    }
}

impl Rollout {
    /// One that begins at `now`, with nothing done: a model's first, to slot blue, unless it is told otherwise.
    pub fn new(
        model: ModelName,
        revision: RevisionNumber,
        regions: Vec<RegionName>,
        strategy: Strategy,
        now: Timestamp,
    ) -> Self {
        Self {
            model,
            number: RolloutNumber(1),
            kind: RolloutKind::Deploy,
            revision,
            from: None,
            slot: Slot::Blue,
            regions,
            strategy,
            state: RolloutState::Regions,
            failure: None,
            steps: FleetSteps::default(),
            created_at: now,
            finished_at: None,
            committed_at: None,
            soak_until: None,
            soak: Soak::Pending,
            trace: None,
            records_of: None,
            course: Course::default(),
        }
    }

    /// Ends because a later deploy took over.
    pub fn supersede(&mut self, now: Timestamp) {
        self.state = RolloutState::Superseded;
        self.finished_at = Some(now);
    }

    /// A move of users to the revision that this rollout brought up and that is still there. It is committed as it is
    /// written, at `epoch`: what was verified and warm needs no preparation.
    #[must_use]
    pub fn revisit(&self, kind: RolloutKind, number: RolloutNumber, epoch: Epoch, now: Timestamp) -> Self {
        let select = Step {
            result: StepResult::Success,
            finished_at: Some(now),
            detail: format!("revision {} is warm in slot {}", self.revision, self.slot),
            ..Step::begun(1, now)
        };
        let route = Step { detail: format!("epoch {epoch}"), ..Step::begun(1, now) };
        let strategy = self.strategy.of_rollback();
        Self {
            number,
            kind,
            from: self.from,
            slot: self.slot,
            state: RolloutState::Committing,
            steps: FleetSteps { select: Some(select), route: Some(route), ..FleetSteps::default() },
            committed_at: Some(now),
            records_of: Some(self.records()),
            ..Self::new(self.model.clone(), self.revision, self.regions.clone(), strategy, now)
        }
    }

    /// The records of a rollout that begins, in its order: nothing done in any region.
    pub fn new_records(&self) -> Vec<RegionRecord> {
        self.regions.iter().cloned().map(RegionRecord::pending).collect()
    }
}

impl RegionRecord {
    /// When the newest attempt ended, if it failed.
    pub(super) fn failed_at(&self) -> Option<Timestamp> {
        let steps = [&self.deploy, &self.configure_monitoring, &self.verify].into_iter().flatten();
        steps.filter(|step| step.result == StepResult::Failed).filter_map(|step| step.finished_at).max()
    }

    pub fn pending(region: RegionName) -> Self {
        Self {
            region,
            phase: RegionPhase::Pending,
            attempt: 0,
            retry_at: None,
            deadline: None,
            deploy: None,
            configure_monitoring: None,
            verify: None,
            verification: None,
            failure: None,
            alone: false,
            routed_at: None,
        }
    }

    /// Nobody is sent to this region any more, so that it has room for the revision of the rollout.
    pub fn make_room(&mut self, rollout: &Rollout, now: Timestamp) {
        self.alone = true;
        self.deadline = now.checked_add(rollout.strategy.progress_deadline.duration()).ok();
    }

    /// What this region serves is given up for another revision. Should that not come, this one comes back as a region does
    /// that was deferred.
    pub fn give_way(&mut self) {
        (self.phase, self.routed_at, self.alone) = (RegionPhase::Deferred, None, true);
    }
}

/// Whom a move of users concerns, where it is not everybody at once.
fn users(rollout: &Rollout) -> String {
    match rollout.stage().users {
        Audience::Share(share) => format!(" for {share} of users"),
        Audience::OfRegions => {
            let Stage { regions, .. } = rollout.stage();
            format!(" for users of {regions} of {} regions", rollout.regions.len())
        }
        Audience::Everyone if rollout.course.stage > 0 => " for everybody".to_owned(),
        Audience::Everyone => String::new(),
    }
}

fn begin(record: &mut RegionRecord, attempt: u32, now: Timestamp) {
    record.phase = RegionPhase::Deploying;
    record.attempt = attempt;
    record.retry_at = None;
    let started_at = record.deploy.as_ref().filter(|_| attempt > 1).map_or(now, |step| step.started_at);
    record.deploy = Some(Step { started_at, ..Step::begun(attempt, now) });
    record.configure_monitoring = None;
    record.verify = None;
}

fn attempt_failed(
    rollout: &Rollout,
    record: &mut RegionRecord,
    action: Action,
    failure: &Failure,
    verification: Option<&Verification>,
    now: Timestamp,
) {
    // An attempt that could not even begin, because its region is silent, counts as one.
    if matches!(record.phase, RegionPhase::Pending | RegionPhase::Retrying | RegionPhase::Failed) {
        begin(record, record.attempt + 1, now);
    }
    let step = match action {
        Action::ConfigureMonitoring => &mut record.configure_monitoring,
        Action::Verify => &mut record.verify,
        _ => &mut record.deploy,
    };
    let (result, detail) = failed_step(failure);
    finish(step, result, detail, now);
    record.failure = Some((action, failure.clone()));
    if let Some(verification) = verification {
        record.verification = Some(verification.clone());
    }
    record.deadline = None;
    if failure.retryable && record.attempt <= rollout.strategy.retries {
        record.phase = RegionPhase::Retrying;
        record.retry_at = now.checked_add(retry_wait(record.attempt)).ok();
    } else {
        record.phase = RegionPhase::Failed;
    }
}

fn finish(step: &mut Option<Step>, result: StepResult, detail: String, now: Timestamp) {
    if let Some(step) = step {
        (step.result, step.finished_at, step.detail) = (result, Some(now), detail);
    }
}

fn finish_keeping_detail(step: &mut Option<Step>, now: Timestamp) {
    if let Some(step) = step {
        (step.result, step.finished_at) = (StepResult::Success, Some(now));
    }
}

fn fail(rollout: &mut Rollout, failure: &RolloutFailure, now: Timestamp) {
    rollout.state = RolloutState::Failed;
    rollout.finished_at = Some(now);
    rollout.failure = Some(failure.clone());
    if failure.action == Action::Route {
        let (result, detail) = failed_step(&failure.failure);
        finish(&mut rollout.steps.route, result, detail, now);
    }
}

/// `digest ok, signature ok, 20/20 golden cases`
fn summary(verification: &Verification) -> String {
    let words = verification.checks.iter().filter(|check| check.name != CheckName::Ready);
    words.map(|check| check.detail.as_str()).filter(|detail| !detail.is_empty()).collect::<Vec<_>>().join(", ")
}
