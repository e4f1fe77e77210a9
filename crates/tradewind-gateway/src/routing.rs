//! The decision for one request: who is asked next.

use std::sync::Arc;

use tradewind_core::{RegionName, locality};

use crate::{
    peer::Peer,
    replica::Replica,
    target::Target,
    world::{Serving, World},
};

/// Who is asked.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    Replica(Arc<Replica>),
    Peer(Arc<Peer>),
}

impl Choice {
    pub(crate) fn target(&self) -> &Arc<Target> {
        match self {
            Self::Replica(replica) => &replica.target,
            Self::Peer(peer) => &peer.target,
        }
    }
}

/// Walks the regions from the nearest on, never to the same target twice.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    world: &'a World,
    model: &'a str,
    serving: &'a Serving,
    order: &'a [RegionName],
    /// The own region takes this user only when nobody else can.
    own_last: bool,
    /// Spreads ties.
    turn: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(world: &'a World, model: &'a str, serving: &'a Serving, order: &'a [RegionName]) -> Self {
        Self { world, model, serving, order, own_last: false, turn: 0 }
    }

    #[must_use]
    pub(crate) fn own_last(mut self, own_last: bool) -> Self {
        self.own_last = own_last;
        self
    }

    #[must_use]
    pub(crate) fn turn(mut self, turn: usize) -> Self {
        self.turn = turn;
        self
    }

    /// The nearest eligible choice that was not tried yet.
    pub(crate) fn next(&self, tried: &[Arc<Target>]) -> Option<Choice> {
        let preferred = if self.own_last { self.eligible(tried, true) } else { None };
        preferred.or_else(|| self.eligible(tried, false)).or_else(|| self.hopeful(tried))
    }

    fn eligible(&self, tried: &[Arc<Target>], without_own: bool) -> Option<Choice> {
        let mut found = None;
        locality::users_go_to(self.order, |name| {
            let mut condition = self.world.condition(self.model, self.serving, name);
            let choice = if without_own && *name == self.world.own { None } else { self.choose(name, tried) };
            if choice.is_none() {
                condition.ready = 0;
            }
            if condition.eligible() {
                found = choice;
            }
            condition
        })?;
        found
    }

    /// Nobody is known to have a ready replica. What peers told may be a probe interval old, so those that answer are
    /// asked all the same: they decline at once if they cannot. After them the nearest of those that do not answer is
    /// tried, since a link that is back is known to probes only later; one for each request, as it may take as long as
    /// connecting may.
    fn hopeful(&self, tried: &[Arc<Target>]) -> Option<Choice> {
        let open = |name: &&RegionName| {
            self.serving.routed(name) && self.world.regions.get(*name).is_some_and(|region| !region.drained)
        };
        let regions = self.order.iter().filter(open).filter_map(|name| self.world.regions.get(name));
        let peers = regions.flat_map(|region| &region.gateways);
        let untried = peers.clone().filter(|peer| !was_tried(tried, &peer.target));
        let knocked = peers.clone().any(|peer| !peer.target.healthy() && was_tried(tried, &peer.target));
        let answering = untried.clone().find(|peer| peer.target.healthy());
        let silent = || untried.clone().next().filter(|_| !knocked);
        answering.or_else(silent).cloned().map(Choice::Peer)
    }

    fn choose(&self, name: &RegionName, tried: &[Arc<Target>]) -> Option<Choice> {
        if *name == self.world.own {
            let ready = self.serving.replicas.iter().filter(|r| r.ready() && !was_tried(tried, &r.target));
            return self.least_loaded(ready, |replica| &replica.target).cloned().map(Choice::Replica);
        }
        let able = |peer: &&Arc<Peer>| {
            peer.target.healthy() && peer.ready(self.model, &self.serving.state) > 0 && !was_tried(tried, &peer.target)
        };
        let peers = self.world.regions.get(name)?.gateways.iter().filter(able);
        self.least_loaded(peers, |peer| &peer.target).cloned().map(Choice::Peer)
    }

    /// A full scan for the fewest requests in flight; ties go round.
    fn least_loaded<'t, T>(
        &self,
        candidates: impl Iterator<Item = &'t T> + Clone,
        target: impl Fn(&T) -> &Arc<Target>,
    ) -> Option<&'t T> {
        let least = candidates.clone().map(|candidate| target(candidate).in_flight()).min()?;
        let tied = candidates.clone().filter(|candidate| target(candidate).in_flight() <= least);
        let count = tied.clone().count();
        // Counts move while we look; whoever is first then is good enough.
        tied.clone().nth(self.turn % count.max(1)).or_else(|| candidates.clone().next())
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
    use crate::{traffic::Returning, world::Parts};

    const OWN: &str = "us-east1";
    const NEAR: &str = "us-west1";
    const FAR: &str = "europe-west1";

    fn name(text: &str) -> RegionName {
        text.parse().unwrap()
    }

    fn members(region: &str) -> RegionMembers {
        let (gateways, location) = (vec![format!("{region}:1")], catalogue::location(region));
        RegionMembers { name: name(region), location, drained: false, gateways, agents: Vec::new() }
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
            health: HealthPolicy::default(),
        };
        let route = Route { model: "digits".parse().unwrap(), committed: Some(state), prepared: None };
        let snapshot = GatewaySnapshot {
            incarnation: "one".to_owned(),
            revision: 1,
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
            replicas_known: true,
            previous_order: &[],
            returning: &HashMap::from([("digits".to_owned(), Arc::new(Returning::new()))]),
        })
    }

    /// Who is asked, one after the other, while nobody can be connected to.
    fn check(answering: &[&str], expected: &[&str]) {
        let world = world(answering);
        let serving = world.models["digits"].committed.as_ref().unwrap();
        let walk = Walk::new(&world, "digits", serving, &world.order);
        let (mut tried, mut asked) = (Vec::new(), Vec::new());
        while let Some(choice) = walk.next(&tried) {
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
