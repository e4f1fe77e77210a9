//! A rollout's progress in words: which lines a new view of it adds to those that were told before.

use std::{collections::HashSet, time::Duration};

use tradewind_api::deploy::{AudienceView, RegionView, RolloutView, StepView};
use tradewind_core::{
    RegionName,
    assignment::{Check, CheckName, CheckResult},
    rollout::{Action, RegionPhase, StepResult},
};

use crate::{commands::rollout, terminal::units};

/// With more regions than this that were not begun, the rest is counted.
const NOT_STARTED_NAMED: usize = 5;

/// How much one line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// One completed step.
    Step,
    /// One region that is done, whatever came of it; its steps were shown live.
    Region,
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Told {
    Step(RegionName, Action, u32),
    Retry(RegionName, u32),
    Outcome(RegionName),
    /// Of a stage.
    Routing(u32),
    Monitoring,
    NotStarted,
}

/// The narrator of one rollout.
#[derive(Debug)]
pub(super) struct Lines {
    detail: Detail,
    told: HashSet<Told>,
}

impl Lines {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, told: HashSet::new() }
    }

    /// The lines that this view adds, each without its end.
    pub(super) fn news(&mut self, view: &RolloutView) -> Vec<String> {
        let mut lines = Vec::new();
        for region in &view.regions {
            match self.detail {
                Detail::Step => self.steps(view, region, &mut lines),
                Detail::Region => self.region(view, region, &mut lines),
            }
        }
        self.fleet(view, &mut lines);
        lines
    }

    fn steps(&mut self, view: &RolloutView, region: &RegionView, lines: &mut Vec<String>) {
        for action in [Action::Deploy, Action::Verify] {
            let Some(text) = completed(view, region, action) else { continue };
            if self.told.insert(Told::Step(region.region.clone(), action, region.attempt)) {
                lines.push(labelled(view, region.region.as_str(), &text));
            }
        }
        let retrying = region.phase == RegionPhase::Retrying;
        if retrying && self.told.insert(Told::Retry(region.region.clone(), region.attempt)) {
            let text = format!("{}, trying again", failed(region));
            lines.push(labelled(view, region.region.as_str(), &text));
        }
        if let Some(text) = outcome(region)
            && self.told.insert(Told::Outcome(region.region.clone()))
        {
            lines.push(labelled(view, region.region.as_str(), &text));
        }
    }

    fn region(&mut self, view: &RolloutView, region: &RegionView, lines: &mut Vec<String>) {
        let done = matches!(region.phase, RegionPhase::Verified | RegionPhase::Failed | RegionPhase::Deferred);
        if !done || !self.told.insert(Told::Outcome(region.region.clone())) {
            return;
        }
        let steps = [Action::Deploy, Action::Verify].into_iter().filter_map(|action| completed(view, region, action));
        let parts: Vec<String> = steps.chain(outcome(region)).collect();
        lines.push(labelled(view, region.region.as_str(), &parts.join("   ")));
    }

    fn fleet(&mut self, view: &RolloutView, lines: &mut Vec<String>) {
        let routing = view.routing.as_ref().filter(|_| view.state.is_routed());
        if let Some(routing) = routing
            && self.told.insert(Told::Routing(view.stage.number))
        {
            let skew = routing.skew_ms.map(|skew| format!(", skew {skew} ms")).unwrap_or_default();
            let (epoch, acknowledged, gateways) = (routing.epoch, routing.acknowledged, routing.gateways);
            let users = some_users(view).map(|users| format!(" for {users}")).unwrap_or_default();
            let text = format!("epoch {epoch}{users} acknowledged by {acknowledged} of {gateways} gateways{skew}");
            lines.push(labelled(view, "routing", &text));
        }
        if is_monitored(view) && self.told.insert(Told::Monitoring) {
            let text = format!("active in {}", units::count(routed(view), "region"));
            lines.push(labelled(view, "monitoring", &text));
        }
        let pending: Vec<&RegionView> =
            view.regions.iter().filter(|region| region.phase == RegionPhase::Pending).collect();
        if view.state.is_final() && !pending.is_empty() && self.told.insert(Told::NotStarted) {
            for region in pending.iter().take(NOT_STARTED_NAMED) {
                lines.push(labelled(view, region.region.as_str(), "not started"));
            }
            if let Some(more) = pending.len().checked_sub(NOT_STARTED_NAMED).filter(|more| *more > 0) {
                lines.push(labelled(view, "", &format!("and {more} more not started")));
            }
        }
    }
}

/// Users get the revision and its monitors are armed.
pub(super) fn is_monitored(view: &RolloutView) -> bool {
    let last = view.steps.iter().rfind(|step| step.action == Action::ArmMonitoring);
    view.state.is_routed() && view.stage.is_last() && last.is_some_and(|step| step.result == Some(StepResult::Success))
}

/// Whom this stage is for, where that is not everybody: `10 % of users`.
pub(super) fn some_users(view: &RolloutView) -> Option<String> {
    (view.stage.users != AudienceView::Everyone).then(|| rollout::users(view.stage.users))
}

/// Who has the new version now.
pub(super) fn users(view: &RolloutView) -> String {
    let has_it = view.routing.as_ref().is_some_and(|routing| routing.committed);
    match (has_it, some_users(view)) {
        (false, _) => "No user gets it yet".to_owned(),
        (true, Some(users)) if view.state.is_routed() => format!("It is routed to {users}"),
        (true, None) if view.state.is_routed() => "Everybody gets it".to_owned(),
        (true, _) => "Some users get it".to_owned(),
    }
}

/// How many regions users are sent to.
pub(super) fn routed(view: &RolloutView) -> usize {
    view.regions.iter().filter(|region| region.phase == RegionPhase::Verified).count()
}

/// A line of one region, or of the fleet, in its column.
pub(super) fn labelled(view: &RolloutView, label: &str, text: &str) -> String {
    let widest = view.regions.iter().map(|region| region.region.as_str().len()).max().unwrap_or(0);
    format!("  {label:width$}  {text}", width = widest.max("monitoring".len()))
}

/// `deployed 0.2 s`, once that step has succeeded.
fn completed(view: &RolloutView, region: &RegionView, action: Action) -> Option<String> {
    let of_region = |step: &&StepView| step.region.as_ref() == Some(&region.region) && step.action == action;
    let step = view.steps.iter().find(of_region).filter(|step| step.result == Some(StepResult::Success))?;
    let took = step.started_at.zip(step.finished_at).map(|(from, to)| units::between(from, to));
    let took = units::seconds(took.unwrap_or(Duration::ZERO));
    match action {
        Action::Verify => {
            let checks = region.verification.as_ref().map(|verification| checks(&verification.checks));
            Some(format!("verified {took}   {}", checks.unwrap_or_else(|| step.detail.clone())))
        }
        _ => Some(format!("deployed {took}")),
    }
}

/// `digest ok, signature ok, 20/20 golden cases, p99 0.4 ms`
fn checks(checks: &[Check]) -> String {
    let words = checks.iter().filter(|check| check.name != CheckName::Ready).map(|check| match check.result {
        CheckResult::Skipped => format!("{} skipped", check_name(check.name)),
        CheckResult::Unproved => format!("{} unproved", check_name(check.name)),
        _ if check.detail.is_empty() => format!("{} ok", check_name(check.name)),
        _ => check.detail.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

pub(in crate::commands) fn check_name(check: CheckName) -> &'static str {
    match check {
        CheckName::Digest => "digest",
        CheckName::Ready => "ready",
        CheckName::Signature => "signature",
        CheckName::GoldenCases => "golden cases",
        CheckName::Smoke => "smoke case",
        CheckName::Latency => "latency",
    }
}

/// What came of a region that did not verify.
fn outcome(region: &RegionView) -> Option<String> {
    match region.phase {
        RegionPhase::Failed => Some(failed(region)),
        RegionPhase::Deferred => Some("deferred: it cannot be reached, and catches up when it returns".to_owned()),
        _ => None,
    }
}

/// `verification failed   golden cases 3/20 (attempt 3 of 3)`
pub(super) fn failed(region: &RegionView) -> String {
    let check = region.verification.as_ref().and_then(|verification| verification.first_failed());
    let what = match (check, &region.failure) {
        (Some(check), _) => format!("verification failed   {}", check.detail),
        (None, Some(failure)) => failure.message.clone(),
        (None, None) => "failed".to_owned(),
    };
    format!("{what} (attempt {} of {})", region.attempt, region.attempts)
}
