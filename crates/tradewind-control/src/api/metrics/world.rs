//! The world's part of the page: regions and their members, models and their rollouts.

use std::collections::BTreeMap;

use tradewind_api::metrics::{Page, control as of};
use tradewind_core::{
    ModelName, RegionName,
    bundle::ModelHead,
    capacity::{Failover, Fit},
    deployment::Deployment,
    rollout::{Rollout, RolloutState},
    route::{Route, RouteState},
};

use super::word;
use crate::{
    app::App,
    keys,
    repository::Result,
    view::{
        capacity::{Failovers, capacity},
        regions::is_stale,
        sight::{Sight, Verdict},
    },
};

const STATES: [RolloutState; 8] = [
    RolloutState::Regions,
    RolloutState::Preparing,
    RolloutState::Committing,
    RolloutState::Arming,
    RolloutState::Soaking,
    RolloutState::Succeeded,
    RolloutState::Failed,
    RolloutState::Superseded,
];

pub(super) async fn write(page: &mut Page, app: &App) -> Result<()> {
    let repository = &app.repository;
    let routes = repository.list::<Route>(keys::ROUTES).await?.values();
    let models = repository.list::<ModelHead>(keys::MODELS).await?.items.len();
    let mut rollouts: BTreeMap<RolloutState, usize> = STATES.into_iter().map(|state| (state, 0)).collect();
    for deployment in repository.list::<Deployment>(keys::DEPLOYMENTS).await?.values() {
        let newest = keys::rollout(&deployment.model, deployment.latest_rollout);
        if let Some(rollout) = repository.get::<Rollout>(newest).await? {
            *rollouts.entry(rollout.value.state).or_default() += 1;
        }
    }
    let regions = app.regions().await?;
    page.one(&of::MODELS, models);
    let mut series = page.begin(&of::ROLLOUTS);
    for (state, count) in rollouts {
        series.add([&word(&state)], count);
    }
    routed(page, &routes);
    app.look(&regions, |sight| {
        members(page, &routes, sight);
        health(page, sight);
        service(page, &routes, sight);
        room(page, &routes, sight);
    });
    Ok(())
}

fn routed(page: &mut Page, routes: &[Route]) {
    let live = || routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)));
    let mut series = page.begin(&of::MODEL_REVISION);
    for (model, live) in live() {
        series.add([model], live.revision.0);
    }
    let mut series = page.begin(&of::MODEL_EPOCH);
    for (model, live) in live() {
        series.add([model], live.epoch.0);
    }
}

fn members(page: &mut Page, routes: &[Route], sight: &Sight<'_>) {
    let reachable = sight.seen.agents.keys().filter(|region| sight.is_reachable(region));
    page.one(&of::AGENTS, reachable.count());
    let alive = |region| sight.gateways(region).iter().filter(|gateway| sight.alive(gateway));
    page.one(&of::GATEWAYS, sight.seen.gateways.values().filter(|gateway| sight.alive(gateway)).count());
    let mut series = page.begin(&of::GATEWAYS_STALE);
    for region in sight.regions.keys() {
        series.add([region], alive(region).filter(|gateway| is_stale(gateway, routes)).count());
    }
}

fn health(page: &mut Page, sight: &Sight<'_>) {
    let mut series = page.begin(&of::REGION_HEALTHY);
    for region in sight.regions.values().filter(|region| !region.drained) {
        match sight.members_verdict(&region.name) {
            Verdict::Unknown => {}
            verdict => series.add([&region.name], verdict == Verdict::Healthy),
        }
    }
    let mut series = page.begin(&of::REGION_DRAINED);
    for region in sight.regions.values() {
        series.add([&region.name], region.drained);
    }
}

/// Every model in every region that it is routed to.
fn each_routed(routes: &[Route]) -> impl Iterator<Item = (&ModelName, &RouteState, &RegionName)> {
    let live = routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)));
    live.flat_map(|(model, live)| live.regions.iter().map(move |region| (model, live, region)))
}

/// How routed regions serve their users.
fn service(page: &mut Page, routes: &[Route], sight: &Sight<'_>) {
    let routed = || each_routed(routes);
    let mut series = page.begin(&of::MODEL_HEALTHY);
    for (model, live, region) in routed().filter(|(_, _, region)| sight.members_verdict(region) == Verdict::Healthy) {
        series.add([model, region], sight.serving(region, model, live).verdict == Verdict::Healthy);
    }
    let mut series = page.begin(&of::MODEL_SERVED);
    for (model, live, region) in routed().filter(|(_, _, region)| sight.members_verdict(region) != Verdict::Unknown) {
        series.add([model, region], sight.users_go_to(region, model, live).is_some());
    }
}

/// What regions hold, how full they are, and whether their users would find room elsewhere.
fn room(page: &mut Page, routes: &[Route], sight: &Sight<'_>) {
    let mut series = page.begin(&of::MODEL_DRIFTED);
    for (model, live, region) in each_routed(routes).filter(|(_, _, region)| sight.is_reachable(region)) {
        let held = sight.seen.agents.get(region).and_then(|agent| agent.slot(model, live.live));
        series.add([model, region], held.is_some_and(|slot| slot.revision != live.revision));
    }
    let mut series = page.begin(&of::MODEL_UTILISATION);
    for (model, live, region) in each_routed(routes) {
        if let Some(used) = capacity(sight, region, model, live).and_then(|capacity| capacity.utilisation()) {
            series.add([model, region], used);
        }
    }
    let failovers = Failovers::new(routes, sight);
    let shared = |route: &&Route| route.committed.as_ref().is_some_and(|live| live.regions.len() > 1);
    let mut series = page.begin(&of::FAILOVER_FITS);
    for region in sight.regions.keys() {
        let models = routes.iter().filter(shared).filter_map(|route| failovers.of_model(region, route));
        let failover = Failover::of(models.collect());
        match failover.worst().map(|model| model.fit) {
            Some(fit @ (Fit::Fits | Fit::DoesNotFit)) => series.add([region], fit == Fit::Fits),
            Some(Fit::Unknown) | None => {}
        }
    }
}
