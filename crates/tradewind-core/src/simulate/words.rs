//! The time line in words.

use super::control::Control;
use crate::{
    RegionName,
    rollout::{RegionPhase, Rollout, Soak, plan::Change},
    route::{Candidate, Users},
};

/// With more regions than this their number is told.
const NAMED: usize = 3;

/// What a change that was written is to people; none for one that says nothing new.
pub(super) fn of_change(change: &Change, control: &Control) -> Option<String> {
    let rollout = &control.rollout;
    let text = match change {
        Change::Begin { .. } => match attempt(change, control)? {
            (1, _) => "is brought up".to_owned(),
            (attempt, attempts) => format!("is brought up again, attempt {attempt} of {attempts}"),
        },
        Change::Deployed { .. } => format!("runs revision {}", rollout.revision),
        Change::Verified { .. } => "verified".to_owned(),
        Change::AttemptFailed { action, failure, .. } => {
            let (attempt, attempts) = attempt(change, control)?;
            let cause = failure.causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
            let record = control.records.iter().find(|record| Some(&record.region) == change.region())?;
            let end = if record.phase == RegionPhase::Failed { "; it has failed" } else { "" };
            format!("attempt {attempt} of {attempts} to {} failed: {}{cause}{end}", action.words(), failure.message)
        }
        Change::Defer { detail, .. } => format!("is set aside: {detail}"),
        Change::Resume { .. } => "catches up".to_owned(),
        Change::GiveWay { regions } => {
            let makes = if regions.len() == 1 { "makes" } else { "make" };
            format!("epoch {}: {} {makes} room, users there are served elsewhere", control.epoch, names(regions.iter()))
        }
        Change::Shrink { end, reason } => {
            format!("a wave ends with {}: {reason}", rollout.regions.get(end.saturating_sub(1))?)
        }
        Change::Prepare => format!("epoch {}: gateways prepare for it", control.epoch),
        Change::Hold { reason } => format!("epoch {}: {reason}", control.epoch),
        Change::Commit => format!("epoch {}: {} get revision {}", control.epoch, users(control)?, rollout.revision),
        Change::Arm { acknowledged, gateways } => {
            format!("epoch {}: acknowledged by {acknowledged} of {gateways} gateways", control.epoch)
        }
        Change::Extend { regions } => {
            let takes = if regions.len() == 1 { "takes" } else { "take" };
            format!("epoch {}: {} {takes} users too", control.epoch, names(regions.iter()))
        }
        Change::Armed => {
            format!("monitoring is active, revision {} soaks for {}", rollout.revision, rollout.strategy.soak)
        }
        Change::Pause { reason } => format!("waits for a person: {reason}"),
        Change::SoakEnded { soak } => soaked(*soak, rollout),
        Change::Condemn { region, reason } => format!("condemned: {reason} in {region}{}", taken_back(rollout)),
        Change::Retire => match rollout.from {
            Some(_) if rollout.is_in_place() => "done".to_owned(),
            Some(from) => format!("done: revision {from} is given up"),
            None => "done".to_owned(),
        },
        Change::Fail { failure } => format!("fails: {}{}", failure.failure.message, taken_back(rollout)),
        Change::Monitored { .. } | Change::Advance => return None,
    };
    Some(text)
}

/// The newest attempt of a region, and how many there may be.
fn attempt(change: &Change, control: &Control) -> Option<(u32, u32)> {
    let record = control.records.iter().find(|record| Some(&record.region) == change.region())?;
    Some((record.attempt, (control.rollout.strategy.retries + 1).max(record.attempt)))
}

/// Who gets the rollout's revision.
fn users(control: &Control) -> Option<String> {
    let who = match control.committed.as_ref()?.candidate.as_deref() {
        None => "users everywhere".to_owned(),
        Some(Candidate { users: Users::Share { share, .. }, .. }) => format!("{share} of users"),
        Some(Candidate { users: Users::OfRegions(regions), .. }) => format!("users of {}", names(regions.iter())),
    };
    Some(who)
}

fn soaked(soak: Soak, rollout: &Rollout) -> String {
    let verdict = match soak {
        Soak::Passed => "the soak is passed",
        Soak::Inconclusive => "the soak ends, and monitors can neither clear nor condemn it",
        _ => "the soak is failed, and nobody is taken back",
    };
    match rollout.from.filter(|_| rollout.in_last_stage() && !rollout.is_in_place()) {
        Some(from) => format!("{verdict}; revision {from} stays warm"),
        None => verdict.to_owned(),
    }
}

fn taken_back(rollout: &Rollout) -> String {
    match (rollout.course.taken_back, rollout.from) {
        (Some(epoch), Some(from)) if rollout.is_in_place() => {
            format!("; epoch {epoch}: users everywhere get revision {from} again, where it still is")
        }
        (Some(epoch), Some(from)) => format!("; epoch {epoch}: users everywhere get revision {from} again"),
        _ => String::new(),
    }
}

/// Their names, or their number if they are many.
pub(super) fn names<'a>(regions: impl ExactSizeIterator<Item = &'a RegionName>) -> String {
    match regions.len() {
        1..=NAMED => regions.map(RegionName::as_str).collect::<Vec<_>>().join(", "),
        count => format!("{count} regions"),
    }
}
