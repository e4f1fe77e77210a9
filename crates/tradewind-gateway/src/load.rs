//! How much the replicas of the own region have to do, smoothed, as reports tell it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tradewind_api::gateway::SlotLoad;
use tradewind_core::{
    ModelName, RevisionNumber, Slot,
    capacity::{Capacity, smoothed},
};

use crate::{gateway::Gateway, world::World};

/// What is in flight is looked at this often. Requests are not counted on their way: a look costs them nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

type Key = (ModelName, Slot, RevisionNumber);

/// Written by the one task that looks, read for each report.
#[derive(Debug, Default)]
pub(crate) struct RegionLoad(Mutex<BTreeMap<Key, Capacity>>);

impl RegionLoad {
    pub(crate) fn read(&self) -> Vec<SlotLoad> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = |((model, slot, revision), capacity): (&Key, &Capacity)| SlotLoad {
            model: model.clone(),
            slot: *slot,
            revision: *revision,
            capacity: *capacity,
        };
        known.iter().map(entry).collect()
    }

    /// Takes in what is in flight now, so long after the last look.
    fn look(&self, now: BTreeMap<Key, Capacity>, passed: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let follow = |(key, capacity): (Key, Capacity)| {
            let before = known.get(&key).map_or(0.0, |known| known.in_flight);
            let in_flight = smoothed(before, f64::from(capacity.in_flight_now), passed);
            (key, Capacity { in_flight, ..capacity })
        };
        let next = now.into_iter().map(follow).collect();
        *known = next;
    }
}

/// Looks until told to stop.
pub(crate) async fn run(gateway: &Gateway, over: &CancellationToken) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while over.run_until_cancelled(looks.tick()).await.is_some() {
        let now = gateway.world.load().as_ref().map(|world| at_once(world)).unwrap_or_default();
        gateway.load.look(now, last.elapsed());
        last = Instant::now();
    }
}

/// What ready replicas have of what they may have, and who waits for them.
fn at_once(world: &World) -> BTreeMap<Key, Capacity> {
    let mut groups: BTreeMap<Key, Capacity> = BTreeMap::new();
    for replica in world.replicas.iter().filter(|replica| replica.ready()) {
        let endpoint = &replica.endpoint;
        let key = (endpoint.model.clone(), endpoint.slot, endpoint.revision);
        let group =
            groups.entry(key).or_insert(Capacity { in_flight: 0.0, in_flight_now: 0, limit: Some(0), replicas: 0 });
        let declared = Some(replica.target.declared_limit()).filter(|limit| *limit > 0);
        group.in_flight_now += replica.target.in_flight();
        group.limit = group.limit.zip(declared).map(|(sum, limit)| sum.saturating_add(limit));
        group.replicas += 1;
    }
    for ((model, slot, revision), group) in &mut groups {
        let Some(model) = world.models.get(model.as_str()) else { continue };
        let live = model.live().map(|serving| (serving.state.live, serving.state.revision));
        if live == Some((*slot, *revision)) {
            group.in_flight_now += model.lane.gate.waiting();
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(in_flight_now: u32) -> BTreeMap<Key, Capacity> {
        let key = ("digits".parse().unwrap(), Slot::Blue, RevisionNumber(1));
        BTreeMap::from([(key, Capacity { in_flight: 0.0, in_flight_now, limit: Some(8), replicas: 2 })])
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_stays_is_smoothed() {
        let load = RegionLoad::default();
        for _ in 0..100 {
            load.look(of(4), Duration::from_secs(1));
        }
        load.look(of(0), LOOK_INTERVAL);
        let told = load.read();
        assert!((3.0..4.0).contains(&told[0].capacity.in_flight), "{told:?}");
        assert_eq!((told[0].capacity.limit, told[0].capacity.replicas), (Some(8), 2));
        load.look(BTreeMap::new(), LOOK_INTERVAL);
        assert_eq!(load.read(), []);
    }
}
