//! The composed view of the world: one immutable value that a request reads once and holds through its retries.
//! What changes from second to second (health, requests in flight, capacity of peers) are atomics behind it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use tradewind_api::{
    agent::RestingSlot,
    gateway::{GatewaySnapshot, PeerCapacity},
};
use tradewind_core::{
    Epoch, ModelName, RegionName, Slot, Timestamp,
    capacity::SPARE,
    catalogue,
    locality::{self, Condition, RegionView},
    pins::{Lookup, PinTarget},
    region::Location,
    route::{Candidate, Route, RouteState, Users},
};

use crate::{
    lane::Lane,
    metrics::{Key, Metrics, Series},
    peer::Peer,
    replica::Replica,
    tables::Tables,
    target::Target,
    traffic::Look,
};

/// So many requests of a model may always wait.
const WAITING_ROOM: u32 = 256;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) own: RegionName,
    pub(crate) snapshot: Arc<GatewaySnapshot>,
    pub(crate) models: foldhash::HashMap<Arc<str>, Model>,
    pub(crate) regions: BTreeMap<RegionName, Region>,
    /// The other gateways of the own region: one learns from them, and sends them nobody.
    neighbours: Vec<Arc<Peer>>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    /// Slots here that start a replica as soon as somebody asks.
    resting: Vec<RestingSlot>,
    replicas_known: bool,
    /// Of pinned users, as far as routes name them.
    pub(crate) tables: Tables,
    /// A drill takes the own region for lost: its replicas count as gone.
    pub(crate) drilled: bool,
    /// As this region sees them, nearest first.
    pub(crate) order: Vec<RegionName>,
    /// As the users of another region see them, by estimate; made when first asked for.
    foreign_orders: HashMap<RegionName, OnceLock<Vec<RegionName>>>,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) committed: Option<Routed>,
    /// Never served, except to a gateway that has proof that it was committed.
    pub(crate) prepared: Option<Routed>,
    pub(crate) pins: Lookup,
    pub(crate) lane: Arc<Lane>,
}

/// What users get at one epoch, with what serves it here.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) live: Serving,
    /// What some users get instead.
    pub(crate) candidate: Option<(Users, Serving)>,
}

impl Routed {
    pub(crate) fn epoch(&self) -> Epoch {
        self.live.state.epoch
    }

    pub(crate) fn served(&self) -> impl Iterator<Item = &Serving> {
        std::iter::once(&self.live).chain(self.candidate.iter().map(|(_, serving)| serving))
    }

    /// What a user of that region gets; `draw` is for one without a key.
    pub(crate) fn of_user(&self, from: &RegionName, user: Option<&[u8]>, draw: impl FnOnce() -> u64) -> &Serving {
        match &self.candidate {
            Some((users, serving)) if users.include(from, user, draw) => serving,
            _ => &self.live,
        }
    }

    /// What a user gets who is pinned to it; `None` if that is not there any more.
    pub(crate) fn of_pin(&self, target: PinTarget) -> Option<&Serving> {
        match target {
            PinTarget::Live => Some(&self.live),
            // Until there is one.
            PinTarget::Candidate => Some(self.candidate.as_ref().map_or(&self.live, |(_, serving)| serving)),
            PinTarget::Revision(number) => self.served().find(|serving| serving.state.revision == number),
        }
    }

    /// What another gateway has chosen for its user, as long as there is such a thing.
    pub(crate) fn in_slot(&self, slot: Option<Slot>) -> &Serving {
        self.served().find(|serving| Some(serving.state.live) == slot).unwrap_or(&self.live)
    }
}

/// One state of a route with what serves it here.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) state: RouteState,
    regions: foldhash::HashSet<RegionName>,
    pub(crate) replicas: Vec<Arc<Replica>>,
    /// The own region has none of them, and starts one as soon as somebody asks.
    pub(crate) resting: bool,
    /// How many replicas the own region should have; 0: not told.
    pub(crate) desired: u32,
    /// Where requests are counted, by the region that answers; made when first asked for.
    series: BTreeMap<RegionName, OnceLock<Arc<Series>>>,
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
    pub(crate) resting: Vec<RestingSlot>,
    pub(crate) previous_order: &'a [RegionName],
    /// Whether the replicas are those that all agents of the own region have told of.
    pub(crate) replicas_known: bool,
    /// Whether a drill takes the own region for lost.
    pub(crate) drilled: bool,
    pub(crate) tables: &'a Tables,
    /// Of each model that is routed.
    pub(crate) lanes: &'a HashMap<ModelName, Arc<Lane>>,
}

impl World {
    pub(crate) fn compose(parts: Parts<'_>) -> Self {
        let Parts { own, snapshot, peers, replicas, resting, replicas_known, drilled, tables, previous_order, lanes } =
            parts;
        let (replicas, resting) = if drilled { (Vec::new(), Vec::new()) } else { (replicas, resting) };
        let (neighbours, foreign): (Vec<_>, Vec<_>) = peers.values().cloned().partition(|peer| peer.region == *own);
        let regions: BTreeMap<RegionName, Region> = snapshot
            .regions
            .iter()
            .map(|members| {
                let gateways = foreign.iter().filter(|peer| peer.region == members.name).cloned().collect();
                let region = Region { location: members.location, drained: members.drained, gateways };
                (members.name.clone(), region)
            })
            .collect();
        let models = snapshot
            .routes
            .iter()
            .filter_map(|route| {
                let lane = Arc::clone(lanes.get(&route.model)?);
                Some((route.model.as_str().into(), Model::compose(own, route, &replicas, &resting, tables, lane)))
            })
            .collect();
        let order = locality::reorder(previous_order, own, &measured_views(&regions));
        let foreign_orders = regions.keys().map(|name| (name.clone(), OnceLock::new())).collect();
        Self {
            own: own.clone(),
            snapshot,
            models,
            regions,
            neighbours,
            replicas,
            resting,
            replicas_known,
            tables: tables.clone(),
            drilled,
            order,
            foreign_orders,
        }
    }

    /// All other gateways.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.regions.values().flat_map(|region| &region.gateways).chain(&self.neighbours)
    }

    /// Looks at each model that the own region should serve: whether it was lost since `before`, so that its users come
    /// back gradually.
    pub(crate) fn look(&self, before: &Self) {
        for (name, model) in &self.models {
            let Some(serving) = model.live() else { continue };
            let condition = self.condition(name, serving, &self.own);
            if !condition.routed || condition.drained {
                continue;
            }
            let had = before.models.get(name).and_then(Model::live);
            let replaced = had.is_some_and(|had| serving.replaces_all_of(had));
            model.lane.returning.look(Look { known: self.replicas_known, any_ready: condition.ready > 0, replaced });
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
            let ready = serving.replicas.iter().filter(|replica| replica.ready()).count() as u32;
            ready.max(u32::from(serving.resting))
        } else {
            let healthy = region.gateways.iter().filter(|peer| peer.target.healthy());
            healthy.map(|peer| peer.ready(model, &serving.state)).max().unwrap_or(0)
        };
        Condition { routed: serving.routed(name), drained: region.drained, reachable: own || region.reachable(), ready }
    }

    /// Where users of the own region are sent.
    pub(crate) fn users_go_to(&self, model: &str, serving: &Serving) -> Option<&RegionName> {
        locality::users_go_to(&self.order, |name| self.condition_for(&self.own, model, serving, name))
    }

    /// The same for users of one region, whose requests may be bound to some regions.
    pub(crate) fn condition_for(
        &self,
        from: &RegionName,
        model: &str,
        serving: &Serving,
        name: &RegionName,
    ) -> Condition {
        let condition = self.condition(model, serving, name);
        Condition { routed: condition.routed && serving.state.may_go(from, name), ..condition }
    }

    pub(crate) fn eligible(&self, model: &str, serving: &Serving) -> bool {
        self.users_go_to(model, serving).is_some()
    }

    /// The routed models that no region can serve, and why.
    pub(crate) fn unserved(&self) -> Vec<String> {
        let mut unserved: Vec<String> = self
            .models
            .iter()
            .filter_map(|(name, model)| Some((name, model.live()?)))
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
            if let Err(reason) = self.condition_for(&self.own, model, serving, name).check() {
                message.push_str(&format!("{separator}{name} {}", describe(reason)));
                separator = ", ";
            }
        }
        message
    }

    /// Ready replicas here, by model, slot and revision, and the room they have; what rests has none, and serves.
    pub(crate) fn capacity(&self) -> Vec<PeerCapacity> {
        let mut groups: BTreeMap<_, Vec<&Target>> = BTreeMap::new();
        for replica in self.replicas.iter().filter(|replica| replica.ready()) {
            let endpoint = &replica.endpoint;
            let key = (endpoint.model.clone(), endpoint.slot, endpoint.revision);
            groups.entry(key).or_default().push(&replica.target);
        }
        let capacity = |((model, slot, revision), group): (_, Vec<&Target>)| PeerCapacity {
            model,
            slot,
            revision,
            replicas: u32::try_from(group.len()).unwrap_or(u32::MAX),
            headroom: headroom(group.into_iter()),
            resting: false,
        };
        let resting = self.resting.iter().map(|RestingSlot { model, slot, revision }| PeerCapacity {
            model: model.clone(),
            slot: *slot,
            revision: *revision,
            replicas: 0,
            headroom: Some(0),
            resting: true,
        });
        groups.into_iter().map(capacity).chain(resting).collect()
    }

    /// The gateways that share the room which another region has to spare: all but its own.
    pub(crate) fn gateways_outside(&self, region: &Region) -> u32 {
        let gateways: usize = self.snapshot.regions.iter().map(|members| members.gateways.len()).sum();
        u32::try_from(gateways.saturating_sub(region.gateways.len())).unwrap_or(u32::MAX)
    }
}

/// How many more requests these replicas can take and still have [`SPARE`] for their own users; `None` where one of
/// them has no declared limit.
pub(crate) fn headroom<'a>(replicas: impl Iterator<Item = &'a Target>) -> Option<u32> {
    let mut room = 0.0;
    for target in replicas {
        let limit = Some(target.declared_limit()).filter(|limit| *limit > 0)?;
        room += f64::from(limit) * (1.0 - SPARE) - f64::from(target.in_flight());
    }
    // The cast saturates.
    Some(room.max(0.0) as u32)
}

pub(crate) fn describe(reason: locality::Ineligible) -> &'static str {
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
    fn compose(
        own: &RegionName,
        route: &Route,
        replicas: &[Arc<Replica>],
        resting: &[RestingSlot],
        tables: &Tables,
        lane: Arc<Lane>,
    ) -> Self {
        let routed = |state: &RouteState| {
            let serving = |state| Serving::compose(own, &route.model, state, replicas, resting);
            let candidate =
                state.candidate.as_deref().map(|Candidate { users, state }| (users.clone(), serving(state)));
            Routed { live: serving(state), candidate }
        };
        Self {
            committed: route.committed.as_ref().map(routed),
            prepared: route.prepared.as_ref().map(routed),
            pins: Lookup::new(Arc::clone(&route.pins), |digest| tables.get(digest).cloned()),
            lane,
        }
    }

    /// What most users get.
    pub(crate) fn live(&self) -> Option<&Serving> {
        self.committed.as_ref().map(|routed| &routed.live)
    }

    /// What somebody has chosen for a user.
    pub(crate) fn pin_of(&self, user: Option<&[u8]>) -> Option<PinTarget> {
        let user = user.filter(|_| !self.pins.is_empty())?;
        self.pins.of(user, Timestamp::now())
    }

    /// Everything that users get.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Serving> {
        self.committed.iter().flat_map(Routed::served)
    }
}

impl Serving {
    fn compose(
        own: &RegionName,
        model: &ModelName,
        state: &RouteState,
        replicas: &[Arc<Replica>],
        resting: &[RestingSlot],
    ) -> Self {
        let replicas: Vec<_> =
            replicas.iter().filter(|replica| replica.holds(model.as_str(), state)).cloned().collect();
        let rests =
            |slot: &RestingSlot| slot.model == *model && slot.slot == state.live && slot.revision == state.revision;
        Self {
            regions: state.regions.iter().cloned().collect(),
            resting: replicas.is_empty() && resting.iter().any(rests),
            desired: replicas.iter().map(|replica| replica.desired()).max().unwrap_or(0),
            replicas,
            series: state.regions.iter().chain([own]).map(|name| (name.clone(), OnceLock::new())).collect(),
            slot: HeaderValue::from_static(state.live.as_str()),
            revision: HeaderValue::from(state.revision.0),
            epoch: HeaderValue::from(state.epoch.0),
            state: state.without_candidate(state.epoch),
        }
    }

    /// Whether it had replicas of the same revision here, and none of them is left.
    fn replaces_all_of(&self, had: &Self) -> bool {
        let same = (had.state.revision, had.state.live) == (self.state.revision, self.state.live);
        let is_left = |replica: &Arc<Replica>| self.replicas.iter().any(|left| Arc::ptr_eq(left, replica));
        same && !self.resting && !had.replicas.is_empty() && !had.replicas.iter().any(is_left)
    }

    pub(crate) fn routed(&self, region: &RegionName) -> bool {
        self.regions.contains(region)
    }

    /// Where requests are counted that `region` answers; `None` for one that does not serve this state.
    pub(crate) fn series(&self, metrics: &Metrics, model: &str, region: &str) -> Option<&Arc<Series>> {
        let (region, series) = self.series.iter().find(|(name, _)| name.as_str() == region)?;
        Some(series.get_or_init(|| {
            metrics.series(&Key {
                model: model.parse().expect("a routed model's name was checked"),
                revision: self.state.revision,
                slot: self.state.live,
                region: region.clone(),
            })
        }))
    }

    /// Counts something that is not a request, where requests that `region` answers are counted.
    pub(crate) fn count(&self, metrics: &Metrics, model: &str, region: &RegionName, of: fn(&Series) -> &AtomicU64) {
        if let Some(series) = self.series(metrics, model, region.as_str()) {
            of(series).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many requests may wait for a replica to have room: as many as the replicas can take, and enough for a burst
    /// that finds them idle.
    pub(crate) fn waiting_room(&self) -> u32 {
        let ready = self.replicas.iter().filter(|replica| replica.ready());
        ready.map(|replica| replica.target.limit()).fold(0, u32::saturating_add).max(WAITING_ROOM)
    }
}
