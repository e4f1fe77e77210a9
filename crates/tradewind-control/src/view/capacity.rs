//! What regions have to do, and where the users of each would go if it were lost now.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use tradewind_core::{
    ModelName, RegionName,
    capacity::{Capacity, Failover, ModelFailover, Movers, fail_over},
    route::{Route, RouteState},
};

use super::sight::Sight;

/// Of a model's live slot in a region: the sum of what the region's gateways have there. All of them see the same
/// replicas. `None` when none of them says anything.
pub(crate) fn capacity(
    sight: &Sight<'_>,
    region: &RegionName,
    model: &ModelName,
    live: &RouteState,
) -> Option<Capacity> {
    let loads = sight.live_reports(region).flat_map(|report| &report.load);
    let of_live = loads.filter(|load| load.model == *model && load.slot == live.live && load.revision == live.revision);
    of_live.map(|load| load.capacity).reduce(|one, other| Capacity {
        in_flight: one.in_flight + other.in_flight,
        in_flight_now: one.in_flight_now.saturating_add(other.in_flight_now),
        limit: one.limit.max(other.limit),
        replicas: one.replicas.max(other.replicas),
    })
}

/// Answers per second, by the region of those who asked.
type Rates<'a> = BTreeMap<&'a RegionName, f64>;
/// Of the regions of one model.
type Capacities = BTreeMap<RegionName, Capacity>;

/// Users are told to go to so many regions at most: gateways try no more targets for one request.
const REFUGES_LIMIT: usize = 16;

/// Answers for each region and model. What many of them need is made once, when first asked for.
pub(crate) struct Failovers<'a> {
    sight: &'a Sight<'a>,
    routes: &'a [Route],
    /// By model and by the region that answers.
    rates: HashMap<(&'a ModelName, &'a RegionName), Rates<'a>>,
    orders: RefCell<HashMap<RegionName, Rc<Vec<RegionName>>>>,
    capacities: RefCell<HashMap<&'a ModelName, Rc<Capacities>>>,
}

impl<'a> Failovers<'a> {
    pub(crate) fn new(routes: &'a [Route], sight: &'a Sight<'a>) -> Self {
        let mut rates: HashMap<_, Rates<'a>> = HashMap::new();
        for from in sight.regions.keys() {
            for entry in sight.live_reports(from).flat_map(|report| &report.traffic) {
                let by_user = rates.entry((&entry.model, &entry.region)).or_default();
                *by_user.entry(from).or_default() += entry.per_second;
            }
        }
        Self { sight, routes, rates, orders: RefCell::default(), capacities: RefCell::default() }
    }

    /// `None` for a region that serves nobody.
    pub(crate) fn of_region(&self, lost: &RegionName) -> Option<Failover> {
        let models: Vec<_> = self.routes.iter().filter_map(|route| self.of_model(lost, route)).collect();
        (!models.is_empty()).then(|| Failover::of(models))
    }

    /// `None` where the region does not serve the model.
    pub(crate) fn of_model(&self, lost: &RegionName, route: &'a Route) -> Option<ModelFailover> {
        let (model, live) = (&route.model, route.committed.as_ref()?);
        if !self.sight.condition(lost, lost, model, live).eligible() {
            return None;
        }
        Some(fail_over(model.clone(), &self.movers(lost, model, live), &self.capacities(model, live)))
    }

    fn capacities(&self, model: &'a ModelName, live: &RouteState) -> Rc<Capacities> {
        let make = || {
            let of = |region: &RegionName| (region.clone(), self.capacity(region, model, live));
            Rc::new(live.regions.iter().map(of).collect())
        };
        Rc::clone(self.capacities.borrow_mut().entry(model).or_insert_with(make))
    }

    /// Of a region whose gateways say nothing its agent's word is all that is known.
    fn capacity(&self, region: &RegionName, model: &ModelName, live: &RouteState) -> Capacity {
        capacity(self.sight, region, model, live).unwrap_or_else(|| {
            let replicas = self.sight.condition(region, region, model, live).ready;
            Capacity { in_flight: 0.0, in_flight_now: 0, limit: None, replicas }
        })
    }

    /// What is in flight in the region, divided among those who ask there as their answers are.
    fn movers(&self, lost: &RegionName, model: &ModelName, live: &RouteState) -> Vec<Movers> {
        let in_flight = capacity(self.sight, lost, model, live).map_or(0.0, |capacity| capacity.in_flight);
        let mut rates = self.rates.get(&(model, lost)).cloned().unwrap_or_default();
        let all: f64 = rates.values().sum();
        rates.retain(|from, rate| *from == lost || *rate > 0.0);
        let part = |from: &RegionName, rate: f64| match all > 0.0 {
            true => rate / all,
            false => f64::from(u8::from(from == lost)),
        };
        let movers = |from: &RegionName, rate: f64| Movers {
            in_flight: in_flight * part(from, rate),
            nearest_first: self.refuges(from, lost, model, live),
        };
        // The region's own users come back at any moment, also when they ask for nothing now.
        let own = (!rates.contains_key(lost)).then(|| movers(lost, 0.0));
        own.into_iter().chain(rates.iter().map(|(from, rate)| movers(from, *rate))).collect()
    }

    /// Where users of `from` may go instead.
    fn refuges(&self, from: &RegionName, lost: &RegionName, model: &ModelName, live: &RouteState) -> Vec<RegionName> {
        let may = |region: &&RegionName| {
            *region != lost && live.may_go(from, region) && self.sight.condition(from, region, model, live).eligible()
        };
        self.order(from).iter().filter(may).take(REFUGES_LIMIT).cloned().collect()
    }

    fn order(&self, from: &RegionName) -> Rc<Vec<RegionName>> {
        let known = self.orders.borrow().get(from).cloned();
        known.unwrap_or_else(|| {
            let order = Rc::new(self.sight.nearest_first(from, self.sight.regions.keys()));
            self.orders.borrow_mut().insert(from.clone(), Rc::clone(&order));
            order
        })
    }
}

#[cfg(test)]
mod tests {
    use tradewind_api::gateway::{GatewayReport, PeerHealth, SlotLoad, Traffic};
    use tradewind_core::{
        Epoch, RevisionNumber, Slot, Timestamp, VersionNumber, capacity::Fit, catalogue, deployment::HealthPolicy,
        region::Region,
    };

    use super::*;
    use crate::{
        hub::Hub,
        view::{fixtures, sight::Regions},
    };

    const US: &str = "us-east1";
    const WEST: &str = "us-west1";
    const EU: &str = "europe-west1";

    fn name(text: &str) -> RegionName {
        text.parse().unwrap()
    }

    fn digits() -> ModelName {
        "digits".parse().unwrap()
    }

    fn route(stay_in: &[&str]) -> Route {
        let live = RouteState {
            epoch: Epoch(1),
            live: Slot::Blue,
            revision: RevisionNumber(1),
            version: VersionNumber(1),
            regions: [US, EU].map(name).into(),
            health: HealthPolicy::default(),
            region_health: BTreeMap::new(),
            stay_in: stay_in.iter().map(|region| name(region)).collect(),
            candidate: None,
        };
        Route { model: digits(), committed: Some(live), prepared: None, pins: Default::default() }
    }

    /// A gateway of `region` that has so much in flight there, and whose users were answered in us-east1 at that rate.
    fn gateway(region: &str, address: &str, in_flight: f64, limit: Option<u32>, per_second: f64) -> GatewayReport {
        let capacity = Capacity { in_flight, in_flight_now: 0, limit, replicas: 1 };
        let load = SlotLoad { model: digits(), slot: Slot::Blue, revision: RevisionNumber(1), capacity };
        let traffic = Traffic {
            model: digits(),
            revision: RevisionNumber(1),
            region: name(US),
            requests: 100,
            errors: 0,
            durations: Default::default(),
            duration_us: 0,
            p50_us: 1,
            p99_us: 1,
            per_second,
            errors_per_second: 0.0,
        };
        let peer = |region| PeerHealth { region: name(region), healthy: true, round_trip_us: None };
        GatewayReport {
            address: address.to_owned(),
            traffic: vec![traffic],
            load: vec![load],
            peers: [US, EU, WEST].map(peer).into(),
            ..fixtures::gateway(region)
        }
    }

    fn failover(gateways: &[GatewayReport], route: Route, drained: &str) -> Option<Failover> {
        let (hub, now) = (Hub::new(Timestamp::UNIX_EPOCH), Timestamp::now());
        for region in [US, EU] {
            hub.report_agent(fixtures::agent(region, &digits()), now);
        }
        for report in gateways {
            hub.report_gateway(report.clone(), now);
        }
        let region = |region: &str| {
            let drained = region == drained;
            (name(region), Region { name: name(region), location: catalogue::location(region), drained })
        };
        let regions = Regions::from([US, EU, WEST].map(region));
        let seen = hub.seen();
        Failovers::new(&[route], &Sight::new(&regions, &seen, now)).of_region(&name(US))
    }

    #[test]
    fn gateways_of_a_region_share_its_replicas() {
        let gateways = [
            gateway(US, "us:1", 3.0, Some(20), 10.0),
            gateway(US, "us:2", 5.0, Some(20), 10.0),
            gateway(EU, "eu:1", 1.0, Some(20), 0.0),
            gateway(EU, "eu:2", 1.0, Some(20), 0.0),
        ];
        let found = failover(&gateways, route(&[]), "").unwrap();
        let model = &found.models[0];
        assert_eq!((found.fit, model.in_flight, model.targets.len()), (Fit::Fits, 8.0, 1));
        assert_eq!((model.targets[0].utilisation, model.targets[0].utilisation_then), (Some(0.1), Some(0.5)));
    }

    #[test]
    fn users_who_may_not_leave_find_no_room() {
        let gateways = |west| {
            [
                gateway(US, "us:1", 8.0, None, 30.0),
                gateway(EU, "eu:1", 0.0, Some(20), 0.0),
                gateway(WEST, "w:1", 0.0, None, west),
            ]
        };
        // A quarter of what is answered here is asked by users of another region, who may go anywhere.
        let bound = failover(&gateways(10.0), route(&[US]), "").unwrap();
        assert_eq!((bound.fit, bound.models[0].share), (Fit::DoesNotFit, Some(0.25)));
        let free = failover(&gateways(10.0), route(&[]), "").unwrap();
        assert_eq!((free.fit, free.models[0].targets[0].in_flight), (Fit::Fits, 8.0));
    }

    #[test]
    fn a_drained_region_takes_nobody_and_loses_nobody() {
        let gateways = [gateway(US, "us:1", 0.0, Some(20), 0.0), gateway(EU, "eu:1", 0.0, Some(20), 0.0)];
        let nowhere = failover(&gateways, route(&[]), EU).unwrap();
        assert_eq!((nowhere.fit, nowhere.models[0].targets.len()), (Fit::DoesNotFit, 0));
        assert_eq!(failover(&gateways, route(&[]), US), None);
    }

    #[test]
    fn a_region_whose_gateways_say_nothing_is_not_known() {
        let silent = GatewayReport { load: Vec::new(), ..gateway(EU, "eu:1", 0.0, None, 0.0) };
        let found = failover(&[gateway(US, "us:1", 8.0, Some(20), 5.0), silent], route(&[]), "").unwrap();
        assert_eq!(found.fit, Fit::Unknown);
    }
}
