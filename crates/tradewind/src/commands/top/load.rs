//! What a region or a model carries, put together from how each model is in each region.

use std::collections::BTreeSet;

use tradewind_api::status::{DeploymentStatus, RegionHealth, SlotState, WorldStatus};
use tradewind_core::{RegionName, assignment::ReplicaCount};

use super::history::Sample;

/// Sums, and the slowest of the latencies: quantiles do not add up.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Load {
    pub(super) requests_per_second: f64,
    pub(super) errors_per_second: f64,
    pub(super) p50_us: Option<u64>,
    pub(super) p99_us: Option<u64>,
    pub(super) ready: u32,
    pub(super) desired: u32,
    /// Where users of this region go instead of staying; nothing in it stands for errors.
    pub(super) users_elsewhere: BTreeSet<Option<RegionName>>,
    /// Whether anything is to be served here.
    pub(super) serves: bool,
}

impl Load {
    pub(super) fn of_world(world: &WorldStatus) -> Self {
        world.models.iter().fold(Self::default(), |load, model| load.and(Self::of_model(model)))
    }

    pub(super) fn of_model(model: &DeploymentStatus) -> Self {
        let replicas = shown_replicas(model).map(|(_, count)| *count).fold(Self::default(), Self::with_replicas);
        model.health.iter().fold(replicas, |load, (region, health)| load.with_health(region, health))
    }

    pub(super) fn of_region(world: &WorldStatus, region: &RegionName) -> Self {
        world.models.iter().fold(Self::default(), |load, model| load.and(Self::of_model_in(model, region)))
    }

    pub(super) fn of_model_in(model: &DeploymentStatus, region: &RegionName) -> Self {
        let here = shown_replicas(model).filter(|(name, _)| *name == region).map(|(_, count)| *count);
        let replicas = here.fold(Self::default(), Self::with_replicas);
        model.health.get(region).map_or(replicas.clone(), |health| replicas.with_health(region, health))
    }

    pub(super) fn sample(&self) -> Sample {
        Sample {
            requests_per_second: self.requests_per_second,
            errors_per_second: self.errors_per_second,
            p99_us: self.p99_us,
        }
    }

    fn with_replicas(mut self, count: ReplicaCount) -> Self {
        self.ready += count.ready;
        self.desired += count.desired;
        self
    }

    fn with_health(self, region: &RegionName, health: &RegionHealth) -> Self {
        let elsewhere = health.users_go_to.as_ref() != Some(region);
        self.and(Self {
            requests_per_second: health.requests_per_second,
            errors_per_second: health.errors_per_second,
            p50_us: health.p50_us,
            p99_us: health.p99_us,
            users_elsewhere: elsewhere.then(|| health.users_go_to.clone()).into_iter().collect(),
            serves: true,
            ..Self::default()
        })
    }

    fn and(mut self, other: Self) -> Self {
        self.users_elsewhere.extend(other.users_elsewhere);
        Self {
            requests_per_second: self.requests_per_second + other.requests_per_second,
            errors_per_second: self.errors_per_second + other.errors_per_second,
            p50_us: self.p50_us.max(other.p50_us),
            p99_us: self.p99_us.max(other.p99_us),
            ready: self.ready + other.ready,
            desired: self.desired + other.desired,
            users_elsewhere: self.users_elsewhere,
            serves: self.serves || other.serves,
        }
    }
}

/// Of the live slot; before anything is live, of the one that is being brought up.
fn shown_replicas(model: &DeploymentStatus) -> impl Iterator<Item = (&RegionName, &ReplicaCount)> {
    let live = model.slots.values().find(|view| view.state == SlotState::Live);
    live.or_else(|| model.slots.values().next()).into_iter().flat_map(|view| &view.replicas)
}
