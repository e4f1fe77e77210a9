//! What runs of a model, and how it is.

use std::{collections::BTreeMap, slice};

use tradewind_api::{
    SCHEMA_VERSION,
    agent::SlotScaling,
    deploy::AudienceView,
    status::{
        CandidateView, DeploymentProgress, DeploymentStatus, RegionHealth, RolloutBrief, ScalingView, SlotState,
        SlotView, VerificationProgress,
    },
};
use tradewind_core::{
    RegionName, RevisionNumber, Slot,
    assignment::{ReplicaCount, remarks},
    deployment::{Deployment, Revision},
    rollout::{RegionPhase, RegionRecord, Rollout, Soak, StepResult},
    route::{Candidate, Route, RouteState, Users},
};

use super::{
    capacity::{Failovers, capacity},
    sight::{Sight, Verdict},
    traffic,
};

/// What a status document is made of.
#[derive(Debug)]
pub(crate) struct StatusParts<'a> {
    pub deployment: &'a Deployment,
    /// The newest.
    pub rollout: &'a Rollout,
    pub records: &'a BTreeMap<RegionName, RegionRecord>,
    pub route: Option<&'a Route>,
    /// Those that a slot holds, and the rollout's.
    pub revisions: &'a BTreeMap<RevisionNumber, Revision>,
}

pub(crate) fn view(parts: &StatusParts<'_>, sight: &Sight<'_>) -> DeploymentStatus {
    let rollout = parts.rollout;
    let record = |region: &RegionName| parts.records.get(region);
    let committed = parts.route.and_then(|route| route.committed.as_ref());
    let succeeded = |step: &Option<tradewind_core::rollout::Step>| {
        step.as_ref().is_some_and(|step| step.result == StepResult::Success)
    };
    DeploymentStatus {
        schema_version: SCHEMA_VERSION,
        model: rollout.model.clone(),
        regions: rollout.regions.clone(),
        deployment_status: by_region(&rollout.regions, |region| deployment_progress(record(region))),
        verification_status: by_region(&rollout.regions, |region| verification_progress(record(region))),
        routing_configured: rollout.in_last_stage() && succeeded(&rollout.steps.route),
        monitoring_active: rollout.in_last_stage() && succeeded(&rollout.steps.arm),
        rollout: RolloutBrief {
            revision: rollout.revision,
            state: rollout.state,
            soak: rollout.soak(),
            stage: super::rollout::stage(rollout),
            paused: rollout.course.paused.as_ref().map(|pause| pause.reason.clone()),
            soak_until: rollout.soak_until.filter(|_| rollout.soak() != Soak::Skipped),
        },
        revision: committed.map(|state| state.revision),
        version: committed.map(|state| state.version),
        epoch: committed.map(|state| state.epoch),
        live_slot: committed.map(|state| state.live),
        candidate: committed.and_then(|state| state.candidate.as_deref()).map(candidate),
        slots: slots(parts, committed, sight),
        health: health(parts, committed, sight),
    }
}

fn candidate(candidate: &Candidate) -> CandidateView {
    let Candidate { users, state } = candidate;
    CandidateView {
        revision: state.revision,
        version: state.version,
        slot: state.live,
        users: match users {
            Users::OfRegions(regions) => AudienceView::OfRegions(regions.len()),
            Users::Share { share, .. } => AudienceView::Share(*share),
        },
    }
}

fn by_region<T>(regions: &[RegionName], value: impl Fn(&RegionName) -> T) -> BTreeMap<RegionName, T> {
    regions.iter().map(|region| (region.clone(), value(region))).collect()
}

fn deployment_progress(record: Option<&RegionRecord>) -> DeploymentProgress {
    let Some(record) = record else { return DeploymentProgress::Pending };
    let step = record.deploy.as_ref().map(|step| step.result);
    match (record.phase, step) {
        (RegionPhase::Deferred, _) | (_, Some(StepResult::Deferred)) => DeploymentProgress::Deferred,
        (_, None) => DeploymentProgress::Pending,
        (_, Some(StepResult::Success)) => DeploymentProgress::Success,
        (RegionPhase::Failed, Some(StepResult::Failed)) => DeploymentProgress::Failed,
        // Another attempt follows.
        (_, Some(StepResult::Running | StepResult::Failed)) => DeploymentProgress::Deploying,
    }
}

fn verification_progress(record: Option<&RegionRecord>) -> VerificationProgress {
    let Some(record) = record else { return VerificationProgress::Pending };
    match (record.phase, record.verify.as_ref().map(|step| step.result)) {
        (_, Some(StepResult::Success)) => VerificationProgress::Success,
        (RegionPhase::Failed, Some(StepResult::Failed)) => VerificationProgress::Failed,
        _ => VerificationProgress::Pending,
    }
}

fn slots(parts: &StatusParts<'_>, committed: Option<&RouteState>, sight: &Sight<'_>) -> BTreeMap<Slot, SlotView> {
    // What served before was given up in place.
    let is_alone = parts.rollout.is_in_place() && parts.rollout.has_served();
    let shown = Slot::BOTH.into_iter().filter(|slot| !is_alone || *slot == parts.rollout.slot);
    let held = shown.filter_map(|slot| Some((slot, parts.deployment.slots[slot]?)));
    held.map(|(slot, number)| (slot, slot_view(parts, committed, slot, number, sight))).collect()
}

fn slot_view(
    parts: &StatusParts<'_>,
    committed: Option<&RouteState>,
    slot: Slot,
    number: RevisionNumber,
    sight: &Sight<'_>,
) -> SlotView {
    let (model, rollout) = (&parts.rollout.model, parts.rollout);
    let state = if committed.is_some_and(|state| state.live == slot && state.revision == number) {
        SlotState::Live
    } else if rollout.slot == slot && rollout.revision == number && !rollout.state.is_final() {
        SlotState::Candidate
    } else {
        SlotState::Standby
    };
    let spec = parts.revisions.get(&number).map(|revision| &revision.spec);
    let replicas = |region: &RegionName| {
        let desired = spec.map_or(0, |spec| spec.scale_of(region).replicas);
        let observed = sight.slot(region, model, slot, number).map(|status| status.replicas);
        observed.unwrap_or(ReplicaCount { ready: 0, desired })
    };
    let regions = spec.map(|spec| spec.regions.as_slice()).unwrap_or_default();
    let told = |region: &RegionName| {
        let status = sight.slot(region, model, slot, number)?;
        let agent = sight.seen.agents.get(region)?;
        let of_slot = |told: &&SlotScaling| told.model == *model && told.slot == slot && told.revision == number;
        let told = agent.report.scaling.iter().find(of_slot)?;
        let bounds = spec.and_then(|spec| spec.scale_of(region).bounds.as_ref());
        let view = ScalingView {
            reason: told.reason.clone(),
            in_flight: told.in_flight,
            min: bounds.map(|bounds| bounds.min),
            max: bounds.map(|bounds| bounds.max),
            by_hand: told.by_hand,
            resting: status.resting,
        };
        Some((region.clone(), view))
    };
    let scaling = regions.iter().filter_map(told).collect();
    let remarked = |region: &RegionName| {
        let said = remarks(sight.replicas(region, model, slot, number));
        (!said.is_empty()).then(|| (region.clone(), said))
    };
    let remarks = regions.iter().filter_map(remarked).collect();
    SlotView { revision: number, state, replicas: by_region(regions, replicas), scaling, remarks }
}

/// Of the regions that users are routed to, and of those that the newest rollout names.
fn health(
    parts: &StatusParts<'_>,
    committed: Option<&RouteState>,
    sight: &Sight<'_>,
) -> BTreeMap<RegionName, RegionHealth> {
    let routed = committed.map(|state| state.regions.as_slice()).unwrap_or_default();
    let regions = routed.iter().chain(parts.rollout.regions.iter().filter(|region| !routed.contains(region)));
    let failovers = Failovers::new(parts.route.map(slice::from_ref).unwrap_or_default(), sight);
    let health = |region| RegionHealth {
        capacity: committed.and_then(|live| capacity(sight, region, &parts.rollout.model, live)),
        failover: parts.route.and_then(|route| failovers.of_model(region, route)),
        ..region_health(parts, committed, region, sight)
    };
    regions.map(|region| (region.clone(), health(region))).collect()
}

fn region_health(
    parts: &StatusParts<'_>,
    committed: Option<&RouteState>,
    region: &RegionName,
    sight: &Sight<'_>,
) -> RegionHealth {
    let model = &parts.rollout.model;
    let (verdict, users_go_to) = match committed {
        Some(live) if live.regions.contains(region) => {
            let serving = sight.serving(region, model, live);
            (serving.verdict, serving.users_go_to)
        }
        Some(live) => {
            let verdict = match sight.members_verdict(region) {
                Verdict::Healthy => Verdict::Unhealthy("not routed yet".to_owned()),
                verdict => verdict,
            };
            (verdict, sight.users_go_to(region, model, live))
        }
        None => (Verdict::Unhealthy("nothing is routed yet".to_owned()), None),
    };
    let felt = traffic::felt(sight, region, model);
    RegionHealth {
        healthy: verdict == Verdict::Healthy,
        reason: verdict.reason(),
        users_go_to,
        requests_per_second: felt.per_second,
        errors_per_second: felt.errors_per_second,
        requests: felt.requests,
        errors: felt.errors,
        p50_us: felt.p50_us,
        p99_us: felt.p99_us,
        capacity: None,
        failover: None,
    }
}
