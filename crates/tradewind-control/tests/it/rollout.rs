//! Rollouts by real reconcilers on a real store, with agents and gateways that answer at once.

mod changes;
mod crash;
mod failure;
mod in_place;
mod intercepted;
mod leadership;
mod moves;
mod removal;
mod scaling;
mod stages;
mod tables;

use std::time::Duration;

use tradewind_api::deploy::{DeployAnswer, DeployRequest, ScaleChange};
use tradewind_control::keys;
use tradewind_core::{
    Epoch, RegionName, RevisionNumber, Slot, VersionNumber,
    assignment::Assignment,
    duration::Span,
    rollout::strategy::MaxParallel,
    rollout::{RegionPhase, RegionRecord, Rollout, RolloutState, Soak},
    route::{Route, RouteState},
};
use tradewind_testkit::{
    eventually,
    fleet::{Begun, Behaviour, Control, Fleet, model, region},
};

/// Ten times what the slowest of them takes, and more.
const DEADLINE: Duration = Duration::from_secs(60);

/// All regions of the fleet, one after the other, nothing tried twice, and done as soon as users are switched.
fn request(fleet: &Fleet, version: u64) -> DeployRequest {
    DeployRequest {
        version: Some(VersionNumber(version)),
        regions: Some(fleet.regions().to_vec()),
        retries: Some(0),
        soak: Some(Span::from_millis(0)),
        standby: Some(Span::from_millis(0)),
        requested_by: "ada@lovelace".to_owned(),
        ..DeployRequest::default()
    }
}

fn scaled(replicas: u32) -> Option<ScaleChange> {
    Some(ScaleChange { replicas: Some(replicas), ..ScaleChange::default() })
}

async fn deploy(fleet: &Fleet, request: DeployRequest) -> DeployAnswer {
    fleet.deploy(request).await.unwrap_or_else(|problem| panic!("{problem:?}"))
}

/// Waits until the rollout has come to its end.
async fn finish(fleet: &Fleet) -> Rollout {
    fleet.rollout(DEADLINE, |rollout| rollout.state.is_final()).await.unwrap()
}

/// A fleet that serves version 1, and its control plane.
async fn serving(regions: usize) -> (Fleet, Control) {
    let fleet = Fleet::start(regions, 3).await.unwrap();
    let control = fleet.control();
    deploy(&fleet, request(&fleet, 1)).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    (fleet, control)
}

async fn route(fleet: &Fleet) -> Option<Route> {
    Some(fleet.repository().get::<Route>(keys::route(&model())).await.unwrap()?.value)
}

/// What users get.
async fn committed(fleet: &Fleet) -> RouteState {
    route(fleet).await.and_then(|route| route.committed).expect("something is routed")
}

/// The slots of a region, with what they hold.
async fn slots(fleet: &Fleet, region: &RegionName) -> Vec<(Slot, RevisionNumber)> {
    let key = keys::assignment(region, &model());
    let kept = fleet.repository().get::<Assignment>(key).await.unwrap();
    let slots = kept.map(|kept| kept.value.slots).unwrap_or_default();
    slots.into_iter().map(|(slot, held)| (slot, held.revision)).collect()
}

async fn record(fleet: &Fleet, rollout: &Rollout, region: &RegionName) -> RegionRecord {
    let key = keys::record(&model(), rollout.number, region);
    fleet.repository().get::<RegionRecord>(key).await.unwrap().expect("the region was begun").value
}

/// Waits until a region's agent has begun with a revision.
async fn begun(fleet: &Fleet, region: &RegionName, revision: u64) {
    let wanted = |begun: &Begun| begun.region == *region && begun.revision == RevisionNumber(revision);
    let seen = || async { fleet.begun().iter().any(wanted).then_some(()) };
    eventually("the agent begins", DEADLINE, seen).await.unwrap();
}

/// Waits until each region holds this and nothing else.
async fn swept(fleet: &Fleet, regions: &[RegionName], wanted: &[(Slot, RevisionNumber)]) {
    for region in regions {
        let left = fleet.changes(keys::assignments(region), DEADLINE, async |_| {
            Ok((slots(fleet, region).await == wanted).then_some(()))
        });
        left.await.unwrap();
    }
}

#[tokio::test]
async fn every_region_is_brought_up_once_and_then_all_are_switched() {
    let fleet = Fleet::start(4, 3).await.unwrap();
    let control = fleet.control();
    deploy(&fleet, DeployRequest { soak: Some(Span::from_secs(600)), ..request(&fleet, 1) }).await;
    let rollout = fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();

    assert_eq!(rollout.soak, Soak::Running);
    let begun: Vec<(RegionName, u32)> = fleet.begun().into_iter().map(|begun| (begun.region, begun.attempt)).collect();
    let once: Vec<(RegionName, u32)> = fleet.regions().iter().map(|region| (region.clone(), 1)).collect();
    assert_eq!(begun, once, "one after the other, in the order of the request");
    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.live, live.revision), (Epoch(1), Slot::Blue, RevisionNumber(1)));
    assert_eq!(live.regions, fleet.regions());
    // Begun, deployed, monitored and armed, or verified: nothing was written twice.
    for (key, (puts, _)) in fleet.traces().await.unwrap().state {
        let wanted = match key.split('/').next() {
            Some("assignments") => 4,
            Some("records" | "rollouts") => 5,
            Some("deployments") => 3,
            Some("routes") => 2,
            _ => 1,
        };
        assert_eq!(puts, wanted, "{key}");
    }
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn the_next_version_goes_to_the_other_slot_and_the_old_one_is_swept() {
    let (fleet, control) = serving(3).await;
    deploy(&fleet, DeployRequest { max_parallel: Some(MaxParallel::All), ..request(&fleet, 2) }).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);

    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.live, live.version), (Epoch(2), Slot::Green, VersionNumber(2)));
    swept(&fleet, fleet.regions(), &[(Slot::Green, RevisionNumber(2))]).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn deploying_what_runs_changes_nothing() {
    let (fleet, control) = serving(2).await;
    // What is left to do of the first rollout is done by the reconcilers that stop here.
    control.stop().await;
    let before = fleet.traces().await.unwrap();
    let answer = deploy(&fleet, request(&fleet, 1)).await;

    assert!(answer.plan.unchanged);
    assert_eq!(answer.rollout, None);
    let control = fleet.control();
    let lead = fleet
        .changes(keys::LEADER, DEADLINE, async |repository| Ok(repository.store().get(keys::LEADER).await?.map(drop)));
    lead.await.unwrap();
    control.stop().await;
    assert_eq!(fleet.traces().await.unwrap(), before);
    fleet.stop().await;
}

/// A fleet that serves version 1 but for regions that are silent, and its control plane.
async fn serving_without(regions: usize, silent: &[RegionName], max_parallel: MaxParallel) -> (Fleet, Control) {
    let fleet = Fleet::start(regions, 3).await.unwrap();
    for region in silent {
        fleet.order(region, Behaviour::Silent);
    }
    let control = fleet.control();
    let min_regions = u32::try_from(regions - silent.len()).ok();
    let max_parallel = Some(max_parallel);
    deploy(&fleet, DeployRequest { min_regions, max_parallel, ..request(&fleet, 1) }).await;
    let rollout = finish(&fleet).await;
    assert_eq!(rollout.state, RolloutState::Succeeded);
    for region in silent {
        assert_eq!(record(&fleet, &rollout, region).await.phase, RegionPhase::Deferred);
    }
    (fleet, control)
}

/// Waits until a deferred region takes traffic, and gives the route that it is in.
async fn joined(fleet: &Fleet, rollout: &Rollout, region: &RegionName) -> RouteState {
    let wait = fleet.changes(keys::records(&model(), rollout.number), DEADLINE, async |_| {
        Ok(record(fleet, rollout, region).await.routed_at)
    });
    let routed_at = wait.await.unwrap();
    let route = committed(fleet).await;
    assert!(route.regions.contains(region) && route.epoch >= routed_at, "{region} is not in {route:?}");
    route
}

#[tokio::test]
async fn a_silent_region_is_deferred_and_joins_the_route_when_it_returns() {
    let late = region(1);
    let (fleet, control) = serving_without(3, std::slice::from_ref(&late), MaxParallel::Count(1)).await;
    let before = committed(&fleet).await;
    assert_eq!(before.regions, [region(0), region(2)]);

    fleet.order(&late, Behaviour::Good);
    let rollout = finish(&fleet).await;
    let after = joined(&fleet, &rollout, &late).await;
    assert_eq!(after.regions, fleet.regions());
    assert!(after.epoch > before.epoch, "{after:?}");
    let record = record(&fleet, &rollout, &late).await;
    assert_eq!((record.phase, record.routed_at, record.attempt), (RegionPhase::Verified, Some(after.epoch), 1));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn regions_that_return_together_join_the_route_together() {
    let silent: Vec<RegionName> = (1..100).map(region).collect();
    let (fleet, control) = serving_without(100, &silent, MaxParallel::All).await;
    let before = committed(&fleet).await;
    for region in &silent {
        fleet.order(region, Behaviour::Good);
    }
    let rollout = finish(&fleet).await;
    for region in &silent {
        joined(&fleet, &rollout, region).await;
    }
    let after = committed(&fleet).await;
    assert_eq!(after.regions, fleet.regions());
    // One, unless this machine is so slow that some come long after the others.
    let epochs = after.epoch.0 - before.epoch.0;
    assert!(epochs <= 10, "99 regions took {epochs} epochs");
    control.stop().await;
    fleet.stop().await;
}
