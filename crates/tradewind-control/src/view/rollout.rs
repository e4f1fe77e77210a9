//! A rollout as people watch it.

use std::{cmp::Ordering, collections::BTreeMap};

use tradewind_api::{
    SCHEMA_VERSION,
    deploy::{AudienceView, RegionView, RolloutSummary, RolloutView, RoutingView, ServingView, StageView, StepView},
};
use tradewind_core::{
    Epoch, RegionName, VersionNumber,
    rollout::{
        Action, RegionRecord, Rollout, Soak, Step,
        course::{self, Audience, Planned, Stage},
    },
    route::{Route, RouteState},
};

use super::sight::Sight;

/// What a view of one rollout is made of.
#[derive(Debug)]
pub(crate) struct RolloutParts<'a> {
    pub rollout: &'a Rollout,
    pub version: VersionNumber,
    /// A region without a record has not been begun.
    pub records: &'a BTreeMap<RegionName, RegionRecord>,
    pub route: Option<&'a Route>,
    /// Of the deployment; an older rollout has nothing to do with the route any more.
    pub is_latest: bool,
}

/// Nothing more will change that a watcher waits for: it has ended, or the soak of everybody is decided.
pub(crate) fn is_final(rollout: &Rollout) -> bool {
    let decided = matches!(rollout.soak, Soak::Passed | Soak::Inconclusive | Soak::Failed);
    rollout.state.is_final() || rollout.in_last_stage() && decided
}

/// It has ended, and not every gateway knows yet that nobody gets its revision.
pub(crate) fn takes_users_back(view: &RolloutView, rollout: &Rollout) -> bool {
    let is_behind = view.routing.as_ref().is_some_and(|routing| routing.acknowledged < routing.gateways);
    rollout.course.taken_back.is_some() && is_behind
}

pub(crate) fn view(parts: &RolloutParts<'_>, sight: &Sight<'_>) -> RolloutView {
    let rollout = parts.rollout;
    let records: Vec<RegionRecord> = rollout.regions.iter().map(|region| parts.record(region)).collect();
    let committed = parts.route.and_then(|route| route.committed.as_ref());
    RolloutView {
        schema_version: SCHEMA_VERSION,
        model: rollout.model.clone(),
        rollout: rollout.number,
        kind: rollout.kind,
        revision: rollout.revision,
        version: parts.version,
        from: rollout.from,
        slot: rollout.slot,
        state: rollout.state,
        soak: rollout.soak(),
        stage: stage(rollout),
        paused: rollout.course.paused.clone(),
        failure: rollout.failure.clone(),
        created_at: rollout.created_at,
        finished_at: rollout.finished_at,
        regions: records.iter().map(|record| region_view(rollout, record, sight)).collect(),
        routing: routing(parts, sight),
        steps: steps(rollout, &records),
        serving: committed.map(|state| ServingView {
            version: state.version,
            revision: state.revision,
            regions: state.regions.len(),
        }),
    }
}

pub(super) fn stage(rollout: &Rollout) -> StageView {
    let Stage { regions, users } = rollout.stage();
    StageView {
        number: rollout.course.stage + 1,
        of: u32::try_from(rollout.stages().len()).unwrap_or(u32::MAX),
        users: match users {
            Audience::Everyone => AudienceView::Everyone,
            Audience::OfRegions => AudienceView::OfRegions(regions),
            Audience::Share(share) => AudienceView::Share(share),
        },
    }
}

impl RolloutParts<'_> {
    fn record(&self, region: &RegionName) -> RegionRecord {
        self.records.get(region).cloned().unwrap_or_else(|| RegionRecord::pending(region.clone()))
    }
}

pub(crate) fn summary(rollout: &Rollout, version: VersionNumber) -> RolloutSummary {
    RolloutSummary {
        model: rollout.model.clone(),
        rollout: rollout.number,
        kind: rollout.kind,
        revision: rollout.revision,
        version,
        state: rollout.state,
        soak: rollout.soak(),
        regions: rollout.regions.len(),
        created_at: rollout.created_at,
        finished_at: rollout.finished_at,
    }
}

fn region_view(rollout: &Rollout, record: &RegionRecord, sight: &Sight<'_>) -> RegionView {
    RegionView {
        region: record.region.clone(),
        phase: record.phase,
        attempt: record.attempt,
        attempts: rollout.strategy.retries + 1,
        verification: record.verification.clone(),
        observed: sight.slot(&record.region, &rollout.model, rollout.slot, rollout.revision).cloned(),
        failure: record.failure.as_ref().map(|(_, failure)| failure.clone()),
    }
}

fn routing(parts: &RolloutParts<'_>, sight: &Sight<'_>) -> Option<RoutingView> {
    let (rollout, route) = (parts.rollout, parts.route.filter(|_| parts.is_latest)?);
    let routes_it = |state: &&RouteState| state.served().any(|served| served.revision == rollout.revision);
    let prepared = route.prepared.as_ref().filter(routes_it).map(|state| (state.epoch, false));
    let committed = || route.committed.as_ref().filter(routes_it).map(|state| (state.epoch, true));
    let taken_back = || rollout.course.taken_back.map(|epoch| (epoch, true));
    let (epoch, committed) = prepared.or_else(committed).or_else(taken_back)?;
    let gateways = sight.seen.gateways_at(&rollout.model, epoch, sight.now);
    Some(RoutingView {
        epoch,
        committed,
        acknowledged: if committed { gateways.committed } else { gateways.prepared },
        gateways: gateways.gateways,
        skew_ms: committed.then(|| skew_ms(rollout, epoch, sight)).flatten(),
    })
}

/// Between the first and the last gateway that took up this epoch.
fn skew_ms(rollout: &Rollout, epoch: Epoch, sight: &Sight<'_>) -> Option<u64> {
    let leased = sight.seen.gateways.values().filter(|gateway| sight.seen.leased(gateway, sight.now));
    let committed = leased.filter_map(|gateway| gateway.report.as_ref()?.committed.get(&rollout.model));
    let times: Vec<i64> =
        committed.filter(|committed| committed.epoch == epoch).map(|committed| committed.at.as_millisecond()).collect();
    Some(times.iter().max()?.abs_diff(*times.iter().min()?))
}

fn steps(rollout: &Rollout, records: &[RegionRecord]) -> Vec<StepView> {
    let replaces = rollout.from.is_some() || rollout.steps.retire.is_some();
    let planned = course::outline(&rollout.stages(), rollout.regions.len(), replaces);
    let is_taken = |planned: &&Planned| planned.region.is_some() || moves(rollout, planned.stage).is_some();
    let row = |planned: &Planned| {
        let record = planned.region.map(|region| &records[region]);
        let step = match planned.action {
            Action::SelectRegions => rollout.steps.select.as_ref(),
            Action::Deploy => record.and_then(|record| record.deploy.as_ref()),
            Action::ConfigureMonitoring => record.and_then(|record| record.configure_monitoring.as_ref()),
            Action::Verify => record.and_then(|record| record.verify.as_ref()),
            Action::Route => moves(rollout, planned.stage).and_then(|(route, _)| route),
            Action::ArmMonitoring => moves(rollout, planned.stage).and_then(|(_, arm)| arm),
            Action::Retire => rollout.steps.retire.as_ref(),
        };
        (planned.action, record.map(|record| &record.region), step)
    };
    let rows: Vec<(Action, Option<&RegionName>, Option<&Step>)> = planned.iter().filter(is_taken).map(row).collect();
    let words = |(action, region, _): &(Action, Option<&RegionName>, Option<&Step>)| match region {
        Some(region) => format!("{} {region}", action.words()),
        None => action.words().to_owned(),
    };
    let following = rows.iter().skip(1).map(words).map(Some).chain([None]);
    let numbered = (1..).zip(rows.iter().zip(following));
    numbered.map(|(step, ((action, region, record), next))| step_view(step, *action, *region, *record, next)).collect()
}

/// The steps that move the users of a stage; `None` for one that was skipped.
fn moves(rollout: &Rollout, stage: usize) -> Option<(Option<&Step>, Option<&Step>)> {
    match stage.cmp(&(rollout.course.stage as usize)) {
        Ordering::Equal => Some((rollout.steps.route.as_ref(), rollout.steps.arm.as_ref())),
        Ordering::Greater => Some((None, None)),
        Ordering::Less => rollout.course.passed.get(stage).map(|passed| (passed.route.as_ref(), passed.arm.as_ref())),
    }
}

fn step_view(
    step: u32,
    action: Action,
    region: Option<&RegionName>,
    record: Option<&Step>,
    next: Option<String>,
) -> StepView {
    StepView {
        step,
        action,
        region: region.cloned(),
        result: record.map(|record| record.result),
        next,
        started_at: record.map(|record| record.started_at),
        finished_at: record.and_then(|record| record.finished_at),
        attempts: record.map_or(0, |record| record.attempts),
        detail: record.map(|record| record.detail.clone()).unwrap_or_default(),
    }
}
