//! What holds at every step of every story, whatever goes wrong.

use std::collections::BTreeMap;

use super::{
    region::Assignment,
    world::{Place, World},
};
use crate::{
    Epoch, RegionName, RevisionNumber, RolloutNumber,
    duration::Span,
    rollout::{
        RegionPhase, Rollout, RolloutKind, RolloutState, Soak,
        course::{Decided, Decision},
        strategy::{Strategy, Switch},
    },
    route::RouteState,
};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub at: Span,
    pub promise: &'static str,
    pub detail: String,
}

/// How the world was at the last look, which is all that a promise about changes needs.
pub(super) struct Promises {
    rollout: RolloutNumber,
    phases: Vec<RegionPhase>,
    assignments: BTreeMap<RegionName, Assignment>,
    gateways: BTreeMap<RegionName, Option<Epoch>>,
    committed: Option<Epoch>,
}

/// Says what is wrong.
type Check = fn(&Promises, &World<'_>) -> Option<String>;

const PROMISES: [(&str, Check); 13] = [
    ("there is always a region that serves", Promises::nowhere),
    ("in place, a region has one revision at a time", Promises::crowded),
    ("users are sent only to regions that are verified", Promises::unverified),
    ("nothing is taken down that a gateway with a lease sends users to", Promises::taken_away),
    ("nothing is taken down that users are sent to while no gateway knows better", Promises::taken_from_all),
    ("epochs never go back", Promises::went_back),
    ("no gateway serves what is not committed", Promises::uncommitted),
    ("every gateway with a lease has prepared what is committed", Promises::unprepared),
    ("users are moved all at once, where that is asked for", Promises::some_users),
    ("a rollout that has failed leaves nobody on its revision", Promises::left_behind),
    ("no more regions are worked on at once than are allowed", Promises::too_many),
    ("a wave begins when all before it are settled", Promises::too_early),
    ("no region begins before those that come first are verified", Promises::not_first),
];

impl Promises {
    pub(super) fn new(world: &World<'_>) -> Self {
        let control = &world.control;
        let epoch = |(region, place): (&RegionName, &Place)| (region.clone(), place.gateway.taken.epoch());
        Self {
            rollout: control.rollout.number,
            phases: control.records.iter().map(|record| record.phase).collect(),
            assignments: control.assignments.clone(),
            gateways: world.places.iter().map(epoch).collect(),
            committed: control.committed.as_ref().map(|state| state.epoch),
        }
    }

    /// Looks at the world after a step.
    pub(super) fn broken(&mut self, world: &World<'_>) -> Option<Broken> {
        let broken = PROMISES.iter().find_map(|(promise, check)| {
            let detail = check(self, world)?;
            Some(Broken { at: world.elapsed(), promise, detail })
        });
        *self = Self::new(world);
        broken
    }

    /// Nothing more happens: is that where it may stay?
    pub(super) fn does_not_end(&self, world: &World<'_>) -> Option<Broken> {
        let rollout = &world.control.rollout;
        let in_standby = rollout.state == RolloutState::Soaking
            && rollout.in_last_stage()
            && !matches!(rollout.soak, Soak::Pending | Soak::Running);
        let ended = rollout.state.is_final() || rollout.course.paused.is_some() || in_standby;
        let detail = || format!("the rollout stays in {:?}, stage {}", rollout.state, rollout.course.stage);
        (!ended).then(|| Broken { at: world.elapsed(), promise: "every rollout ends", detail: detail() })
    }

    pub(super) fn no_rest(&self, world: &World<'_>) -> Broken {
        let detail = "it changes its plan again and again at one time".to_owned();
        Broken { at: world.elapsed(), promise: "the planner comes to rest", detail }
    }

    fn nowhere(&self, world: &World<'_>) -> Option<String> {
        let state = world.control.committed.as_ref().filter(|state| state.regions.is_empty())?;
        Some(format!("revision {} is routed to no region at epoch {}", state.revision, state.epoch))
    }

    fn crowded(&self, world: &World<'_>) -> Option<String> {
        let assignments = world.control.assignments.iter().filter(|_| world.control.rollout.is_in_place());
        let (region, _) = { assignments }.find(|(_, assignment)| assignment.len() > 1)?;
        Some(format!("{region} is assigned two"))
    }

    fn unverified(&self, world: &World<'_>) -> Option<String> {
        // What a region gave up in place, nobody could keep for a gateway that was cut off meanwhile.
        let in_place = world.scenario.strategy.switch == Switch::InPlace;
        let places = world.places.values().filter(|_| !in_place);
        let routes = places.filter_map(|place| place.gateway.taken.committed.as_ref());
        routes.chain(&world.control.committed).flat_map(|route| route.served()).find_map(|state| {
            let unverified = |region: &&RegionName| {
                !world.places.get(*region).is_some_and(|place| place.agent.verified.contains(&state.revision))
            };
            let region = state.regions.iter().find(unverified)?;
            Some(format!("revision {} is routed to {region} at epoch {}", state.revision, state.epoch))
        })
    }

    fn taken_away(&self, world: &World<'_>) -> Option<String> {
        self.gone_and_served(world, |gateway| world.is_leased(gateway))
    }

    /// Who is behind learns from others, or its users ask them.
    fn taken_from_all(&self, world: &World<'_>) -> Option<String> {
        let epoch = |place: &Place| place.gateway.taken.epoch();
        let newest = world.places.values().map(epoch).max()?;
        self.gone_and_served(world, |gateway| epoch(gateway) == newest)
    }

    /// What one of these gateways sends users to, and is there no more.
    fn gone_and_served(&self, world: &World<'_>, of: impl Fn(&Place) -> bool) -> Option<String> {
        self.assignments.iter().find_map(|(region, assignment)| {
            let now = world.control.assignment(region);
            let gone = assignment
                .iter()
                .filter(|(slot, before)| now.get(slot).is_none_or(|assigned| assigned.revision != before.revision));
            gone.into_iter().find_map(|(slot, before)| {
                let sends = |state: &RouteState| {
                    (state.live, state.revision) == (*slot, before.revision) && state.regions.contains(region)
                };
                let (gateway, _) = world.places.iter().find(|(name, place)| {
                    let route = place.gateway.taken.committed.as_ref().filter(|_| !world.is_down(name));
                    of(place) && route.is_some_and(|route| route.served().any(sends))
                })?;
                Some(format!("revision {} leaves {region}, and {gateway} still sends users there", before.revision))
            })
        })
    }

    fn went_back(&self, world: &World<'_>) -> Option<String> {
        let committed = world.control.committed.as_ref().map(|state| state.epoch);
        if committed < self.committed || committed.is_some_and(|epoch| epoch > world.control.epoch) {
            return Some(format!("control goes from {:?} to {committed:?}", self.committed));
        }
        world.places.iter().find_map(|(region, place)| {
            let (before, now) = (self.gateways.get(region).copied().flatten(), place.gateway.taken.epoch());
            (now < before).then(|| format!("{region} goes from {before:?} to {now:?}"))
        })
    }

    fn uncommitted(&self, world: &World<'_>) -> Option<String> {
        let newest = world.control.committed.as_ref();
        world.places.iter().find_map(|(region, place)| {
            let own = place.gateway.taken.committed.as_ref()?;
            let of_control = newest.is_some_and(|newest| own.epoch < newest.epoch || own == newest);
            (!of_control).then(|| format!("{region} serves epoch {}", own.epoch))
        })
    }

    /// Those who go back, and regions that join, need no preparation.
    fn unprepared(&self, world: &World<'_>) -> Option<String> {
        let rollout = &world.control.rollout;
        let epoch = world.control.committed.as_ref()?.epoch;
        let commits = rollout.kind == RolloutKind::Deploy && rollout.state == RolloutState::Committing;
        if !commits || Some(epoch) == self.committed {
            return None;
        }
        world.places.iter().filter(|(_, place)| world.is_leased(place)).find_map(|(region, place)| {
            let taken = &place.gateway.taken;
            let ready = taken.prepared.max(taken.epoch()) >= Some(epoch);
            (!ready).then(|| format!("{region} has not prepared epoch {epoch}"))
        })
    }

    fn some_users(&self, world: &World<'_>) -> Option<String> {
        let all_at_once = world.scenario.strategy.switch == Switch::Fleet || !world.scenario.replaces;
        let candidate = world.control.committed.as_ref().filter(|_| all_at_once)?.candidate.as_ref()?;
        Some(format!("only some users get revision {}", candidate.state.revision))
    }

    fn left_behind(&self, world: &World<'_>) -> Option<String> {
        let control = &world.control;
        let failed = control.rollout.state == RolloutState::Failed;
        // In place, it serves until what served before is up again.
        let current = &control.rollout;
        let has_gone_back = current.kind == RolloutKind::Rollback && current.has_served();
        let is_left = |left: &&Rollout| has_gone_back && left.number != current.number;
        let left = control.left.as_ref().map(|(rollout, _)| rollout).filter(is_left);
        let failed = failed && !(control.rollout.is_in_place() && control.rollout.has_served());
        let revisions = left.into_iter().chain(failed.then_some(&control.rollout)).map(|rollout| rollout.revision);
        let served = |revision: &RevisionNumber| {
            let routes = control.committed.as_deref().into_iter().chain(&control.prepared);
            routes.flat_map(RouteState::served).any(|state| state.revision == *revision)
        };
        let revision = { revisions }.find(served)?;
        Some(format!("revision {revision} is still routed"))
    }

    fn too_many(&self, world: &World<'_>) -> Option<String> {
        let rollout = &world.control.rollout;
        let Strategy { max_parallel, waves, .. } = &rollout.strategy;
        let working = |phase: RegionPhase| {
            matches!(
                phase,
                RegionPhase::Deploying
                    | RegionPhase::ConfiguringMonitoring
                    | RegionPhase::Verifying
                    | RegionPhase::Retrying
            )
        };
        let count = world.control.records.iter().filter(|record| working(record.phase)).count();
        let too_many = rollout.state == RolloutState::Regions && waves.is_empty() && count > max_parallel.limit();
        too_many.then(|| format!("{count} regions are worked on"))
    }

    fn too_early(&self, world: &World<'_>) -> Option<String> {
        let rollout = &world.control.rollout;
        let settled =
            |phase: &RegionPhase| matches!(phase, RegionPhase::Verified | RegionPhase::Failed | RegionPhase::Deferred);
        let begun = self.begun(world).last()?;
        let before = rollout.waves().into_iter().filter(|end| *end <= begun).max().unwrap_or(0);
        let open = self.phases[..before].iter().position(|phase| !settled(phase));
        let unsettled = open.map(|open| format!("and {} is not settled", rollout.regions[open]));
        let unsoaked = (begun >= rollout.stage().regions).then(|| "before its stage".to_owned());
        let why = unsettled.or(unsoaked)?;
        Some(format!("{} begins {why}", rollout.regions[begun]))
    }

    fn not_first(&self, world: &World<'_>) -> Option<String> {
        let rollout = &world.control.rollout;
        let first = rollout.strategy.first.len();
        // A person may go on without one.
        let promoted = matches!(rollout.course.decided, Some(Decided { what: Decision::Promote, .. }));
        let begun = self.begun(world).last().filter(|begun| *begun >= first && !promoted)?;
        let missing = self.phases[..first].iter().position(|phase| *phase != RegionPhase::Verified)?;
        Some(format!("{} begins, and {} is not verified", rollout.regions[begun], rollout.regions[missing]))
    }

    /// The regions that have begun since the last look, as places in the order of the rollout.
    fn begun<'a>(&'a self, world: &'a World<'_>) -> impl Iterator<Item = usize> + 'a {
        let control = &world.control;
        let same = control.rollout.number == self.rollout && control.rollout.state == RolloutState::Regions;
        let phases = self.phases.iter().zip(&control.records).take_while(move |_| same).enumerate();
        let begun = phases
            .filter(|(_, (before, record))| **before == RegionPhase::Pending && record.phase != RegionPhase::Pending);
        begun.map(|(index, _)| index)
    }
}
