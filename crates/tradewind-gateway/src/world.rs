//! The composed view of the world: one immutable value that a request reads once and holds through its retries.
//! What changes from second to second (health, requests in flight, capacity of peers) are atomics behind it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderValue;
use tradewind_api::gateway::{GatewaySnapshot, PeerCapacity};
use tradewind_core::{
    RegionName, catalogue,
    locality::{self, Condition, RegionView},
    region::Location,
    route::{Route, RouteState},
};

use crate::{
    peer::Peer,
    replica::Replica,
    traffic::{Look, Returning},
};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) own: RegionName,
    pub(crate) snapshot: Arc<GatewaySnapshot>,
    pub(crate) models: HashMap<String, Model>,
    pub(crate) regions: BTreeMap<RegionName, Region>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    replicas_known: bool,
    /// As this region sees them, nearest first.
    pub(crate) order: Vec<RegionName>,
    /// As the users of another region see them, by estimate; made when first asked for.
    foreign_orders: HashMap<RegionName, OnceLock<Vec<RegionName>>>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) committed: Option<Serving>,
    /// Never served, except to a gateway that has proof that it was committed.
    pub(crate) prepared: Option<Serving>,
    pub(crate) returning: Arc<Returning>,
}

/// One state of a route with what serves it here.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) state: RouteState,
    regions: HashSet<RegionName>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) slot: HeaderValue,
    pub(crate) revision: HeaderValue,
    pub(crate) epoch: HeaderValue,
}

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) location: Option<Location>,
    pub(crate) drained: bool,
    /// Empty for the own region.
    pub(crate) gateways: Vec<Arc<Peer>>,
}

impl Region {
    pub(crate) fn reachable(&self) -> bool {
        self.gateways.iter().any(|peer| peer.target.healthy())
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.gateways.iter().filter_map(|peer| peer.round_trip()).min()
    }
}

/// What a world is composed of.
pub(crate) struct Parts<'a> {
    pub(crate) own: &'a RegionName,
    pub(crate) snapshot: Arc<GatewaySnapshot>,
    pub(crate) peers: &'a HashMap<(RegionName, String), Arc<Peer>>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) previous_order: &'a [RegionName],
    /// Whether the replicas are those that all agents of the own region have told of.
    pub(crate) replicas_known: bool,
    /// Of each model that is routed.
    pub(crate) returning: &'a HashMap<String, Arc<Returning>>,
}

impl World {
    pub(crate) fn compose(parts: Parts<'_>) -> Self {
        let Parts { own, snapshot, peers, replicas, replicas_known, previous_order, returning } = parts;
        let regions: BTreeMap<RegionName, Region> = snapshot
            .regions
            .iter()
            .map(|members| {
                let gateways = peers.values().filter(|peer| peer.region == members.name).cloned().collect();
                let region = Region { location: members.location, drained: members.drained, gateways };
                (members.name.clone(), region)
            })
            .collect();
        let models = snapshot
            .routes
            .iter()
            .filter_map(|route| {
                let returning = Arc::clone(returning.get(route.model.as_str())?);
                Some((route.model.to_string(), Model::compose(route, &replicas, returning)))
            })
            .collect();
        let order = locality::reorder(previous_order, own, &measured_views(&regions));
        let foreign_orders = regions.keys().map(|name| (name.clone(), OnceLock::new())).collect();
        Self { own: own.clone(), snapshot, models, regions, replicas, replicas_known, order, foreign_orders }
    }

    /// Looks at each model that the own region should serve: whether it was lost since `before`, so that its users come
    /// back gradually.
    pub(crate) fn look(&self, before: &Self) {
        for (name, model) in &self.models {
            let Some(serving) = &model.committed else { continue };
            let condition = self.condition(name, serving, &self.own);
            if !condition.routed || condition.drained {
                continue;
            }
            let had = before.models.get(name).and_then(|model| model.committed.as_ref());
            let replaced = had.is_some_and(|had| serving.replaces_all_of(had));
            model.returning.look(Look { known: self.replicas_known, any_ready: condition.ready > 0, replaced });
        }
    }

    /// The order as it would be now; differs from `order` when round trips have changed enough.
    pub(crate) fn order_now(&self) -> Vec<RegionName> {
        locality::reorder(&self.order, &self.own, &measured_views(&self.regions))
    }

    /// The regions as the users of `region` see them; `None` for a place that nobody knows.
    pub(crate) fn order_from(&self, region: &RegionName) -> Option<&[RegionName]> {
        if *region == self.own {
            return Some(&self.order);
        }
        let order = self.foreign_orders.get(region)?;
        Some(order.get_or_init(|| locality::order(region, &estimated_views(&self.regions))))
    }

    /// What decides whether a region may be given users of that model.
    pub(crate) fn condition(&self, model: &str, serving: &Serving, name: &RegionName) -> Condition {
        let Some(region) = self.regions.get(name) else {
            return Condition { routed: false, drained: false, reachable: false, ready: 0 };
        };
        let own = *name == self.own;
        let ready = if own {
            serving.replicas.iter().filter(|replica| replica.ready()).count() as u32
        } else {
            let healthy = region.gateways.iter().filter(|peer| peer.target.healthy());
            healthy.map(|peer| peer.ready(model, &serving.state)).max().unwrap_or(0)
        };
        Condition { routed: serving.routed(name), drained: region.drained, reachable: own || region.reachable(), ready }
    }

    /// Where users of the own region are sent.
    pub(crate) fn users_go_to(&self, model: &str, serving: &Serving) -> Option<&RegionName> {
        locality::users_go_to(&self.order, |name| self.condition(model, serving, name))
    }

    pub(crate) fn eligible(&self, model: &str, serving: &Serving) -> bool {
        self.users_go_to(model, serving).is_some()
    }

    /// The routed models that no region can serve, and why.
    pub(crate) fn unserved(&self) -> Vec<String> {
        let mut unserved: Vec<String> = self
            .models
            .iter()
            .filter_map(|(name, model)| Some((name, model.committed.as_ref()?)))
            .filter(|(name, serving)| !self.eligible(name, serving))
            .map(|(name, serving)| self.why_not(name, serving))
            .collect();
        unserved.sort();
        unserved
    }

    /// Why no region can serve the model now, for people.
    pub(crate) fn why_not(&self, model: &str, serving: &Serving) -> String {
        let mut message = format!("model `{model}` cannot be served now");
        let mut separator = ": ";
        for name in self.order.iter().filter(|name| serving.routed(name)) {
            if let Err(reason) = self.condition(model, serving, name).check() {
                message.push_str(&format!("{separator}{name} {}", describe(reason)));
                separator = ", ";
            }
        }
        message
    }

    /// Ready replicas here, by model, slot and revision.
    pub(crate) fn capacity(&self) -> Vec<PeerCapacity> {
        let mut counts = BTreeMap::new();
        for replica in self.replicas.iter().filter(|replica| replica.ready()) {
            let endpoint = &replica.endpoint;
            *counts.entry((endpoint.model.clone(), endpoint.slot, endpoint.revision)).or_insert(0_u32) += 1;
        }
        let capacity = |((model, slot, revision), replicas)| PeerCapacity { model, slot, revision, replicas };
        counts.into_iter().map(capacity).collect()
    }
}

fn describe(reason: locality::Ineligible) -> &'static str {
    match reason {
        locality::Ineligible::NotRouted => "does not serve it",
        locality::Ineligible::Drained => "is drained",
        locality::Ineligible::Unreachable => "is unreachable",
        locality::Ineligible::NoReplica => "has no ready replica",
    }
}

fn measured_views(regions: &BTreeMap<RegionName, Region>) -> Vec<RegionView<'_>> {
    let measured = |(_, region): (_, &Region)| region.round_trip();
    regions.iter().map(|entry| view(entry, measured(entry))).collect()
}

fn estimated_views(regions: &BTreeMap<RegionName, Region>) -> Vec<RegionView<'_>> {
    regions.iter().map(|entry| view(entry, None)).collect()
}

fn view<'a>((name, region): (&'a RegionName, &Region), measured_round_trip: Option<Duration>) -> RegionView<'a> {
    let location = region.location.or_else(|| catalogue::location(name.as_str()));
    RegionView { name, location, measured_round_trip }
}

impl Model {
    fn compose(route: &Route, replicas: &[Arc<Replica>], returning: Arc<Returning>) -> Self {
        let serving = |state: &RouteState| Serving::compose(route.model.as_str(), state, replicas);
        Self {
            committed: route.committed.as_ref().map(serving),
            prepared: route.prepared.as_ref().map(serving),
            returning,
        }
    }
}

impl Serving {
    fn compose(model: &str, state: &RouteState, replicas: &[Arc<Replica>]) -> Self {
        Self {
            regions: state.regions.iter().cloned().collect(),
            replicas: replicas.iter().filter(|replica| replica.holds(model, state)).cloned().collect(),
            slot: HeaderValue::from_static(state.live.as_str()),
            revision: HeaderValue::from(state.revision.0),
            epoch: HeaderValue::from(state.epoch.0),
            state: state.clone(),
        }
    }

    /// Whether it had replicas of the same revision here, and none of them is left.
    fn replaces_all_of(&self, had: &Self) -> bool {
        let same = (had.state.revision, had.state.live) == (self.state.revision, self.state.live);
        let is_left = |replica: &Arc<Replica>| self.replicas.iter().any(|left| Arc::ptr_eq(left, replica));
        same && !had.replicas.is_empty() && !had.replicas.iter().any(is_left)
    }

    pub(crate) fn routed(&self, region: &RegionName) -> bool {
        self.regions.contains(region)
    }
}
