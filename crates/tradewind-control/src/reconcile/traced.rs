//! The steps of a rollout as spans of the trace that asked for it. A step is recorded by whoever committed its end, with
//! the times of its record and in the place that everybody knows: which control plane began it does not matter.

use tradewind_core::{
    Epoch, RegionName, Timestamp,
    rollout::{Action, RegionRecord, Rollout, Step, StepResult, place, plan::Change},
};
use tradewind_traces::Kind;

/// Records what has ended of a region with a change of its record.
pub(super) fn region(rollout: &Rollout, before: &RegionRecord, after: &RegionRecord) {
    let steps = [
        (Action::Deploy, &before.deploy, &after.deploy),
        (Action::ConfigureMonitoring, &before.configure_monitoring, &after.configure_monitoring),
        (Action::Verify, &before.verify, &after.verify),
    ];
    ended(rollout, Some(&after.region), steps);
}

/// Records what has ended of the fleet's steps with a change.
pub(super) fn fleet(rollout: &Rollout, change: &Change, epoch: Epoch, now: Timestamp) {
    if rollout.trace.is_none() {
        return;
    }
    let mut after = rollout.clone();
    change.apply_fleet(&mut after, epoch, now);
    let (before, after) = (&rollout.steps, &after.steps);
    let steps = [
        (Action::Route, &before.route, &after.route),
        (Action::ArmMonitoring, &before.arm, &after.arm),
        (Action::Retire, &before.retire, &after.retire),
    ];
    ended(rollout, None, steps);
}

fn ended<const N: usize>(
    rollout: &Rollout,
    region: Option<&RegionName>,
    steps: [(Action, &Option<Step>, &Option<Step>); N],
) {
    let Some(trace) = rollout.trace else { return };
    for (action, before, after) in steps {
        let Some(step) = after.as_ref().filter(|after| before.as_ref() != Some(*after)) else { continue };
        let Some(end) = step.finished_at else { continue };
        let place = place(trace, action, region, step.attempts);
        let Some(span) = tradewind_traces::placed(action.words(), Kind::Internal, place, trace) else { return };
        let mut span = span
            .between(step.started_at, end)
            .with("tradewind.model", rollout.model.to_string())
            .with("tradewind.rollout", rollout.number.to_string())
            .with("tradewind.detail", step.detail.clone());
        if let Some(region) = region {
            span.set("tradewind.region", region.to_string());
        }
        if step.result == StepResult::Failed {
            span.fail(step.detail.clone());
        }
    }
}
