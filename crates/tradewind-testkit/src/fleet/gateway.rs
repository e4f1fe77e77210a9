//! A gateway that serves no users: it prepares and commits routes as soon as it is told of them.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_api::gateway::{Committed, GatewayReport, HEARTBEAT, SlotLoad};
use tradewind_control::{hub::Hub, keys, repository::Repository};
use tradewind_core::{ModelName, RegionName, Timestamp, capacity::Capacity, route::Route};
use tradewind_store::list_then_watch;

/// The region and the address of a fleet's gateway.
pub(super) fn identity(regions: &[RegionName], number: usize) -> (RegionName, String) {
    let region = regions[number % regions.len()].clone();
    let address = format!("{region}:{}", 7410 + number);
    (region, address)
}

/// How all gateways are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Condition {
    /// They report, and take up nothing new.
    pub(super) deaf: bool,
    pub(super) in_flight: f64,
}

#[derive(Debug)]
pub(super) struct Gateway {
    region: RegionName,
    address: String,
    started_at: Timestamp,
    hub: watch::Receiver<Arc<Hub>>,
    condition: watch::Receiver<Condition>,
    routes: Vec<Route>,
    committed: BTreeMap<ModelName, Committed>,
}

impl Gateway {
    pub(super) fn new(
        regions: &[RegionName],
        number: usize,
        hub: watch::Receiver<Arc<Hub>>,
        condition: watch::Receiver<Condition>,
    ) -> Self {
        let (region, address) = identity(regions, number);
        let (routes, committed) = (Vec::new(), BTreeMap::new());
        Self { region, address, started_at: Timestamp::now(), hub, condition, routes, committed }
    }

    pub(super) async fn run(mut self, repository: Repository, stop: CancellationToken) {
        let mut updates = list_then_watch(repository.store().clone(), keys::ROUTES);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                update = updates.next() => {
                    if update.is_none() {
                        return;
                    }
                    let routes = repository.list::<Route>(keys::ROUTES).await;
                    self.routes = routes.expect("the store is open and can be read").values();
                    self.commit();
                }
                changed = self.condition.changed() => match changed {
                    Ok(()) => self.commit(),
                    Err(_) => return,
                },
                changed = self.hub.changed() => if changed.is_err() { return },
                _ = heartbeat.tick() => {}
            }
            let hub = self.hub.borrow_and_update().clone();
            hub.report_gateway(self.report(), Timestamp::now());
        }
    }

    /// Takes up what is committed. An older epoch is refused.
    fn commit(&mut self) {
        if self.condition.borrow_and_update().deaf {
            return;
        }
        self.committed.retain(|model, _| self.routes.iter().any(|route| route.model == *model));
        for (model, state) in self.routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?))) {
            if self.committed.get(model).is_none_or(|before| before.epoch < state.epoch) {
                self.committed.insert(model.clone(), Committed { epoch: state.epoch, at: Timestamp::now() });
            }
        }
    }

    /// What users have in flight on what is live.
    fn load(&self) -> Vec<SlotLoad> {
        let in_flight = self.condition.borrow().in_flight;
        let live = self.routes.iter().filter_map(|route| route.committed.as_ref().map(|state| (&route.model, state)));
        let load = live.map(|(model, state)| SlotLoad {
            model: model.clone(),
            slot: state.live,
            revision: state.revision,
            capacity: Capacity { in_flight, in_flight_now: 0, limit: None, replicas: 1 },
        });
        load.collect()
    }

    fn report(&self) -> GatewayReport {
        let prepared = |route: &Route| Some((route.model.clone(), route.prepared.as_ref()?.epoch));
        GatewayReport {
            region: self.region.clone(),
            pid: std::process::id(),
            started_at: self.started_at,
            address: self.address.clone(),
            prepared: self.routes.iter().filter_map(prepared).collect(),
            committed: self.committed.clone(),
            refused: None,
            config: None,
            peers: Vec::new(),
            traffic: Vec::new(),
            users_go_to: BTreeMap::new(),
            load: self.load(),
        }
    }
}
