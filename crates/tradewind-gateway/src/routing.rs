//! The decision for one request: who is asked next.

use std::{cell::RefCell, sync::Arc};

use smallvec::SmallVec;
use tradewind_core::{
    RegionName,
    balance::{self, Heat, Load},
};

use crate::{
    clock::Millis,
    peer::{Peer, Spilled},
    replica::Replica,
    target::{InFlight, Target},
    world::{Serving, World},
};

/// There are seldom more replicas of a model, or gateways of a region.
type Few<T> = SmallVec<[T; 8]>;

/// Who is asked. The request counts as in flight there from now on.
#[derive(Debug)]
pub(crate) enum Choice {
    Replica { replica: Arc<Replica>, in_flight: InFlight },
    Peer { peer: Arc<Peer>, in_flight: InFlight, spilled: Option<Spilled> },
}

impl Choice {
    pub(crate) fn target(&self) -> &Arc<Target> {
        match self {
            Self::Replica { replica, .. } => &replica.target,
            Self::Peer { peer, .. } => &peer.target,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Next {
    Ask(Choice),
    /// Replicas here have as many requests as they can take, and nobody else has room.
    Wait,
    Nobody,
}

/// What the own region says to one more request.
enum Own {
    Takes(Choice),
    Full,
    Nobody,
}

/// Walks the regions from the nearest on, never to the same target twice.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) world: &'a World,
    pub(crate) model: &'a str,
    pub(crate) serving: &'a Serving,
    pub(crate) order: &'a [RegionName],
    /// The region whose user asks.
    pub(crate) from: &'a RegionName,
    /// The own region takes this user only when nobody else can.
    pub(crate) own_last: bool,
    pub(crate) heat: &'a RefCell<Heat>,
}

impl Walk<'_> {
    /// The nearest choice that was not tried yet; `random` spreads ties.
    pub(crate) fn next(&self, tried: &[Arc<Target>], random: u64) -> Next {
        let now = Millis::now();
        if self.own_last
            && let Some(choice) = self.nearest_peer(tried, random, false)
        {
            return Next::Ask(choice);
        }
        let mut full = false;
        for name in self.order() {
            if *name == self.world.own {
                match self.own(tried, random, now) {
                    Own::Takes(choice) => return Next::Ask(choice),
                    Own::Full => full = true,
                    Own::Nobody => {}
                }
            } else if let Some(choice) = self.peer(name, tried, random, full) {
                return Next::Ask(choice);
            }
        }
        if full {
            return Next::Wait;
        }
        self.hopeful(tried).or_else(|| self.suspected(tried)).map_or(Next::Nobody, Next::Ask)
    }

    /// The regions that may answer, nearest first.
    fn order(&self) -> impl Iterator<Item = &RegionName> + Clone {
        self.order.iter().filter(|name| self.serving.state.may_go(self.from, name))
    }

    fn nearest_peer(&self, tried: &[Arc<Target>], random: u64, full: bool) -> Option<Choice> {
        let others = self.order().filter(|name| **name != self.world.own);
        others.into_iter().find_map(|name| self.peer(name, tried, random, full))
    }

    /// The own region: no replica that was tried, is down or is left out for its answers.
    fn own(&self, tried: &[Arc<Target>], random: u64, now: Millis) -> Own {
        let own = self.world.regions.get(&self.world.own);
        if !self.serving.routed(&self.world.own) || own.is_none_or(|region| region.drained) {
            return Own::Nobody;
        }
        let able = |replica: &&Arc<Replica>| {
            replica.ready() && !replica.target.ejected(now) && !was_tried(tried, &replica.target)
        };
        let candidates: Few<&Arc<Replica>> = self.serving.replicas.iter().filter(able).collect();
        if candidates.is_empty() {
            return Own::Nobody;
        }
        let take = |replica: &Arc<Replica>| {
            let mut in_flight = replica.target.begin_within_limit()?;
            let may = replica.target.try_again(&mut in_flight, now);
            may.then(|| Choice::Replica { replica: Arc::clone(replica), in_flight })
        };
        let loads: Few<Load> = candidates.iter().map(|replica| replica.target.load(now)).collect();
        let preferred = self.prefer(&loads, random).map(|index| candidates[index]);
        let others = || candidates.iter().copied().find_map(take);
        preferred.and_then(take).or_else(others).map_or(Own::Full, Own::Takes)
    }

    fn prefer(&self, loads: &[Load], random: u64) -> Option<usize> {
        if loads.len() <= balance::SCAN_LIMIT {
            return balance::least_loaded(loads, random as usize);
        }
        let (one, other) = balance::two_of(loads.len(), random);
        let colder = self.heat.borrow_mut().colder(loads[one], loads[other]);
        Some(if colder { one } else { other })
    }

    /// A gateway of another region that can serve the model, or, when the own region is `full`, that has room to spare.
    fn peer(&self, name: &RegionName, tried: &[Arc<Target>], random: u64, full: bool) -> Option<Choice> {
        if !self.serving.routed(name) {
            return None;
        }
        let region = self.world.regions.get(name).filter(|region| !region.drained)?;
        let able = |peer: &&Arc<Peer>| {
            peer.target.healthy() && peer.ready(self.model, &self.serving.state) > 0 && !was_tried(tried, &peer.target)
        };
        let able: Few<&Arc<Peer>> = region.gateways.iter().filter(able).collect();
        let now = Millis::now();
        let loads: Few<Load> = able.iter().map(|peer| peer.target.load(now)).collect();
        let peer = able[balance::least_loaded(&loads, random as usize)?];
        let spilled = match full {
            true => Some(peer.spill(self.model, &self.serving.state, self.world.gateways_outside(region))?),
            false => None,
        };
        Some(Choice::Peer { peer: Arc::clone(peer), in_flight: peer.target.begin(), spilled })
    }

    /// Nobody is known to have a ready replica. What peers told may be a probe interval old, so those that answer are
    /// asked all the same: they decline at once if they cannot. After them the nearest of those that do not answer is
    /// tried, since a link that is back is known to probes only later; one for each request, as it may take as long as
    /// connecting may.
    fn hopeful(&self, tried: &[Arc<Target>]) -> Option<Choice> {
        let open = |name: &&RegionName| {
            self.serving.routed(name) && self.world.regions.get(*name).is_some_and(|region| !region.drained)
        };
        let regions = self.order().filter(open).filter_map(|name| self.world.regions.get(name));
        let peers = regions.flat_map(|region| &region.gateways);
        let untried = peers.clone().filter(|peer| !was_tried(tried, &peer.target));
        let knocked = peers.clone().any(|peer| !peer.target.healthy() && was_tried(tried, &peer.target));
        let answering = untried.clone().find(|peer| peer.target.healthy());
        let silent = || untried.clone().next().filter(|_| !knocked);
        let peer = answering.or_else(silent)?;
        Some(Choice::Peer { peer: Arc::clone(peer), in_flight: peer.target.begin(), spilled: None })
    }

    /// The last resort: a replica that is left out because its answers were bad or wrong may still give a good one.
    fn suspected(&self, tried: &[Arc<Target>]) -> Option<Choice> {
        if !self.order().any(|name| *name == self.world.own) || !self.serving.routed(&self.world.own) {
            return None;
        }
        let able = |replica: &&Arc<Replica>| replica.is_up() && !was_tried(tried, &replica.target);
        let replica = self.serving.replicas.iter().find(able)?;
        Some(Choice::Replica { replica: Arc::clone(replica), in_flight: replica.target.begin_within_limit()? })
    }
}

fn was_tried(tried: &[Arc<Target>], target: &Arc<Target>) -> bool {
    tried.iter().any(|known| Arc::ptr_eq(known, target))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tradewind_api::gateway::{GatewaySnapshot, RegionMembers};
    use tradewind_core::{
        Epoch, RevisionNumber, Slot, VersionNumber, catalogue,
        deployment::HealthPolicy,
        route::{Route, RouteState},
    };

    use super::*;
    use crate::{lane::Lane, world::Parts};

    const OWN: &str = "us-east1";
    const NEAR: &str = "us-west1";
    const FAR: &str = "europe-west1";

    fn name(text: &str) -> RegionName {
        text.parse().unwrap()
    }

    fn members(region: &str) -> RegionMembers {
        let (gateways, location) = (vec![format!("{region}:1")], catalogue::location(region));
        RegionMembers { name: name(region), location, drained: false, gateways, agents: Vec::new(), drill: None }
    }

    /// The own region does not serve the model; of the others nothing is known but whether they answer.
    fn world(answering: &[&str]) -> World {
        let state = RouteState {
            epoch: Epoch(1),
            live: Slot::Blue,
            revision: RevisionNumber(1),
            version: VersionNumber(1),
            regions: vec![name(NEAR), name(FAR)],
            region_health: Default::default(),
            stay_in: Default::default(),
            candidate: None,
            health: HealthPolicy::default(),
        };
        let route = Route {
            model: "digits".parse().unwrap(),
            committed: Some(state),
            prepared: None,
            pins: Default::default(),
        };
        let snapshot = GatewaySnapshot {
            incarnation: "one".to_owned(),
            revision: 1,
            deployed: 1,
            mesh_token: "mesh".to_owned(),
            regions: [OWN, NEAR, FAR].map(members).into(),
            routes: vec![route],
            health: HealthPolicy::default(),
        };
        let peer = |region: &str| {
            let peer = Arc::new(Peer::new(name(region), format!("{region}:1")));
            peer.target.set_healthy(answering.contains(&region));
            ((name(region), format!("{region}:1")), peer)
        };
        World::compose(Parts {
            own: &name(OWN),
            snapshot: Arc::new(snapshot),
            peers: &HashMap::from([NEAR, FAR].map(peer)),
            replicas: Vec::new(),
            resting: Vec::new(),
            replicas_known: true,
            drilled: false,
            tables: &Default::default(),
            previous_order: &[],
            lanes: &HashMap::from([("digits".parse().unwrap(), Arc::new(Lane::new()))]),
        })
    }

    /// Who is asked, one after the other, while nobody can be connected to.
    fn check(answering: &[&str], expected: &[&str]) {
        let world = world(answering);
        let serving = world.models["digits"].live().unwrap();
        let (order, heat) = (&world.order, &RefCell::default());
        let (own_last, from) = (false, &world.own);
        let walk = Walk { world: &world, model: "digits", serving, order, from, own_last, heat };
        let (mut tried, mut asked) = (Vec::new(), Vec::new());
        while let Next::Ask(choice) = walk.next(&tried, 0) {
            choice.target().condemn();
            asked.push(choice.target().address().to_owned());
            tried.push(Arc::clone(choice.target()));
        }
        let expected: Vec<String> = expected.iter().map(|region| format!("{region}:1")).collect();
        assert_eq!(asked, expected, "answering: {answering:?}");
    }

    #[test]
    fn peers_that_are_thought_down_are_the_last_resort_and_only_one_is_tried() {
        check(&[], &[NEAR]);
        check(&[FAR], &[FAR]);
        check(&[NEAR, FAR], &[NEAR, FAR]);
    }
}
