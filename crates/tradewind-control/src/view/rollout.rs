//! A rollout as people watch it.

use std::collections::BTreeMap;

use tradewind_api::{
    SCHEMA_VERSION,
    deploy::{RegionView, RolloutSummary, RolloutView, RoutingView, ServingView, StepView},
};
use tradewind_core::{
    Epoch, RegionName, VersionNumber,
    rollout::{Action, RegionRecord, Rollout, Soak, Step},
    route::Route,
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

/// Nothing more will change that a watcher waits for: it has ended, or its soak is decided.
pub(crate) fn is_final(rollout: &Rollout) -> bool {
    rollout.state.is_final() || matches!(rollout.soak, Soak::Passed | Soak::Inconclusive | Soak::Failed)
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
    let of_this = |state: &&tradewind_core::route::RouteState| state.revision == rollout.revision;
    let prepared = route.prepared.as_ref().filter(of_this);
    let committed = route.committed.as_ref().filter(of_this);
    let (epoch, is_committed) = match (prepared, committed) {
        (Some(state), _) => (state.epoch, false),
        (None, Some(state)) => (state.epoch, true),
        (None, None) => return None,
    };
    let gateways = sight.seen.gateways_at(&rollout.model, epoch, sight.now);
    Some(RoutingView {
        epoch,
        committed: is_committed,
        acknowledged: if is_committed { gateways.committed } else { gateways.prepared },
        gateways: gateways.gateways,
        skew_ms: is_committed.then(|| skew_ms(rollout, epoch, sight)).flatten(),
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
    let fleet = &rollout.steps;
    let mut rows: Vec<(Action, Option<&RegionName>, Option<&Step>)> = Vec::with_capacity(records.len() * 3 + 4);
    rows.push((Action::SelectRegions, None, fleet.select.as_ref()));
    for record in records {
        let region = Some(&record.region);
        rows.push((Action::Deploy, region, record.deploy.as_ref()));
        rows.push((Action::ConfigureMonitoring, region, record.configure_monitoring.as_ref()));
        rows.push((Action::Verify, region, record.verify.as_ref()));
    }
    rows.push((Action::Route, None, fleet.route.as_ref()));
    rows.push((Action::ArmMonitoring, None, fleet.arm.as_ref()));
    if rollout.from.is_some() || fleet.retire.is_some() {
        rows.push((Action::Retire, None, fleet.retire.as_ref()));
    }
    let words = |(action, region, _): &(Action, Option<&RegionName>, Option<&Step>)| match region {
        Some(region) => format!("{} {region}", action.words()),
        None => action.words().to_owned(),
    };
    let following = rows.iter().skip(1).map(words).map(Some).chain([None]);
    let numbered = (1..).zip(rows.iter().zip(following));
    numbered.map(|(step, ((action, region, record), next))| step_view(step, *action, *region, *record, next)).collect()
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
