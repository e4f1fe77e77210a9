//! The simulated world: regions, faults and time, as control observes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Moment, Scenario,
    control::Control,
    faults::Fault,
    region::{Agent, Conduct, Gateway, Held, Taken, later},
};
use crate::{
    Epoch, RegionName, Slot, Timestamp,
    duration::Span,
    monitor::verdict::Verdict,
    rollout::{
        RolloutKind,
        plan::{GatewayObservation, LEASE, Observed, Reach, RegionObservation, Room, SILENCE_LIMIT},
    },
    route::RouteState,
};

/// When every simulation begins.
pub(super) const BEGINNING: Timestamp = Timestamp::UNIX_EPOCH;

/// A gateway that takes up a route so much after it was committed is told of.
const LATE: Duration = Duration::from_secs(3);

pub(super) struct World<'a> {
    pub scenario: &'a Scenario,
    pub now: Timestamp,
    pub control: Control,
    pub places: BTreeMap<RegionName, Place>,
    /// Since when control has listened.
    listening_since: Timestamp,
    /// Which faults hold now, in their order.
    holding: Vec<bool>,
    /// So many decisions of people have been told.
    told: usize,
    /// When the last of them was; it is planned on after that, as what was written is read.
    pub told_at: Option<Timestamp>,
    pub timeline: Vec<Moment>,
}

/// A region as it is, and as control has heard of it.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub agent: Agent,
    pub gateway: Gateway,
    /// Since when control has heard nothing of it.
    silent_since: Option<Timestamp>,
    /// What it said last before that; control forgets it when it starts anew.
    last_words: Option<LastWords>,
}

#[derive(Debug)]
struct LastWords {
    slots: BTreeMap<Slot, Held>,
    taken: Taken,
}

impl Place {
    fn held(&self, slot: Slot) -> Option<&Held> {
        match (self.silent_since, &self.last_words) {
            (None, _) => self.agent.slot(slot),
            (Some(_), words) => words.as_ref()?.slots.get(&slot),
        }
    }

    fn taken(&self) -> Option<&Taken> {
        match (self.silent_since, &self.last_words) {
            (None, _) => Some(&self.gateway.taken),
            (Some(_), words) => words.as_ref().map(|words| &words.taken),
        }
    }
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let control = Control::new(scenario, BEGINNING);
        let place = |region: &RegionName| {
            let mut place = Place::default();
            if let Some((slot, revision)) = control.serving() {
                place.agent = Agent::serving(slot, revision, BEGINNING);
                place.gateway.taken = control.offer();
            }
            (region.clone(), place)
        };
        Self {
            places: scenario.regions.iter().map(place).collect(),
            holding: vec![false; scenario.faults.len()],
            scenario,
            now: BEGINNING,
            control,
            listening_since: Timestamp::MIN,
            told: 0,
            told_at: None,
            timeline: Vec::new(),
        }
    }

    pub(super) fn elapsed(&self) -> Span {
        since(BEGINNING, self.now)
    }

    pub(super) fn say(&mut self, region: Option<&RegionName>, text: impl Into<String>) {
        self.timeline.push(Moment { at: self.elapsed(), region: region.cloned(), text: text.into() });
    }

    /// Lets everything happen that is due now, but for what control does; whether anything is other than before.
    pub(super) fn happen(&mut self) -> bool {
        let mut changed = self.faults_happen();
        changed |= self.regions_act();
        changed | self.people_speak()
    }

    /// When something happens next by itself.
    pub(super) fn next_event(&self) -> Option<Timestamp> {
        let periods = self.scenario.faults.iter().filter_map(Fault::during);
        let faults = periods.flat_map(|during| [Some(during.from), during.until]).flatten();
        let people = self.scenario.decisions[self.told..].iter().map(|told| told.at);
        let proofs = self.scenario.faults.iter().filter_map(|fault| self.proof(fault));
        let times = faults.chain(people).map(|at| later(BEGINNING, at.duration())).chain(proofs);
        let up = self.places.iter().filter(|(region, _)| !self.is_down(region));
        let works = up.flat_map(|(_, place)| [place.agent.next_event(), place.gateway.next_event()]).flatten();
        times.filter(|at| *at > self.now).chain(works).min()
    }

    fn faults_happen(&mut self) -> bool {
        let mut changed = false;
        for (index, fault) in self.scenario.faults.iter().enumerate() {
            let Some(during) = fault.during() else { continue };
            let holds = during.covers(self.elapsed());
            if holds != self.holding[index] {
                self.holding[index] = holds;
                changed = true;
                self.turn(fault, holds);
            }
        }
        if changed {
            let heard: BTreeMap<RegionName, bool> =
                self.places.keys().map(|region| (region.clone(), self.hears(region))).collect();
            for (region, place) in &mut self.places {
                match (heard[region], place.silent_since) {
                    (false, None) => {
                        place.silent_since = Some(self.now);
                        let words = LastWords { slots: place.agent.slots(), taken: place.gateway.taken.clone() };
                        place.last_words = Some(words);
                    }
                    (true, Some(_)) => (place.silent_since, place.last_words) = (None, None),
                    _ => {}
                }
            }
        }
        changed
    }

    /// A fault begins to hold, or is over.
    fn turn(&mut self, fault: &Fault, holds: bool) {
        let told = |begins, ends| if holds { begins } else { ends };
        match fault {
            Fault::RegionDown { region, .. } => {
                if let Some(place) = self.places.get_mut(region) {
                    place.agent.stop();
                    place.gateway.stop();
                }
                self.say(Some(region), told("goes down", "is back"));
            }
            Fault::GatewayDeaf { region, .. } => {
                if let Some(place) = self.places.get_mut(region) {
                    place.gateway.stop();
                }
                self.say(
                    Some(region),
                    told("its gateway takes up nothing any more", "its gateway takes up routes again"),
                );
            }
            Fault::Cut { region, .. } => {
                self.say(Some(region), told("is cut off from control", "is heard by control again"));
            }
            Fault::ControlDown { .. } => {
                self.say(None, told("control is down: nothing is planned", "control is back"));
                if !holds {
                    self.listening_since = self.now;
                    self.places.values_mut().for_each(|place| place.last_words = None);
                }
            }
            Fault::Slow { .. } | Fault::Fails { .. } | Fault::Wrong { .. } | Fault::Bad { .. } | Fault::Unclear => {}
        }
    }

    fn holds(&self, fault: impl Fn(&Fault) -> bool) -> bool {
        self.scenario.faults.iter().zip(&self.holding).any(|(one, holds)| *holds && fault(one))
    }

    pub(super) fn is_down(&self, region: &RegionName) -> bool {
        self.holds(|fault| matches!(fault, Fault::RegionDown { region: down, .. } if down == region))
    }

    pub(super) fn is_deaf(&self, region: &RegionName) -> bool {
        self.holds(|fault| matches!(fault, Fault::GatewayDeaf { region: deaf, .. } if deaf == region))
    }

    pub(super) fn control_is_down(&self) -> bool {
        self.holds(|fault| matches!(fault, Fault::ControlDown { .. }))
    }

    /// Whether control and a region hear each other.
    fn hears(&self, region: &RegionName) -> bool {
        let cut = self.holds(|fault| matches!(fault, Fault::Cut { region: cut, .. } if cut == region));
        !cut && !self.control_is_down() && !self.is_down(region)
    }

    fn conduct(&self, region: &RegionName) -> Conduct {
        let mut conduct = Conduct { factor: 1, failing: 0, wrong: false };
        for fault in &self.scenario.faults {
            match fault {
                Fault::Slow { region: slow, factor } if slow == region => {
                    conduct.factor = conduct.factor.saturating_mul(*factor);
                }
                Fault::Fails { region: failing, attempts } if failing == region => {
                    conduct.failing = conduct.failing.max(attempts.unwrap_or(u32::MAX));
                }
                Fault::Wrong { region: wrong } => conduct.wrong |= wrong == region,
                _ => {}
            }
        }
        conduct
    }

    fn regions_act(&mut self) -> bool {
        let (now, durations) = (self.now, self.scenario.durations);
        let (offer, known) = (self.control.offer(), self.newest_of_peers());
        let mut changed = false;
        for region in &self.scenario.regions {
            if self.is_down(region) {
                continue;
            }
            let (conduct, heard, deaf) = (self.conduct(region), self.hears(region), self.is_deaf(region));
            let Some(Place { agent, gateway, .. }) = self.places.get_mut(region) else { continue };
            if heard {
                agent.assigned.clone_from(self.control.assignment(region));
            }
            changed |= agent.act(conduct, &durations, now);
            let before = gateway.taken.epoch();
            changed |= gateway.take_up(now);
            if !deaf {
                let from_peers = || Taken { committed: known.clone(), prepared: gateway.taken.prepared };
                let offered = if heard { offer.clone() } else { from_peers() };
                gateway.consider(offered, durations.take_up.duration().saturating_mul(conduct.factor), now);
            }
            let epoch = gateway.taken.epoch();
            if let Some(epoch) = epoch.filter(|_| epoch != before && now > later(self.control.committed_at, LATE)) {
                self.say(Some(region), format!("its gateway takes up epoch {epoch}"));
            }
        }
        changed
    }

    /// What gateways that are there can learn from each other.
    fn newest_of_peers(&self) -> Option<Arc<RouteState>> {
        let up = self.places.iter().filter(|(region, _)| !self.is_down(region));
        let committed = up.filter_map(|(_, place)| place.gateway.taken.committed.as_ref());
        committed.max_by_key(|state| state.epoch).cloned()
    }

    fn people_speak(&mut self) -> bool {
        let before = self.told;
        while let Some(told) = self.scenario.decisions.get(self.told).filter(|told| told.at <= self.elapsed()) {
            self.told += 1;
            self.told_at = Some(self.now);
            self.decide(told.what);
        }
        self.told != before
    }

    /// When monitors have their proof against what a region serves, if it is going to be served there.
    fn proof(&self, fault: &Fault) -> Option<Timestamp> {
        let Fault::Bad { region, after } = fault else { return None };
        Some(later(*self.control.served_since.get(region)?, after.duration()))
    }

    /// Whether COMMIT waits for a region's gateways.
    pub(super) fn is_leased(&self, place: &Place) -> bool {
        let heard_at = place.last_words.as_ref().and(place.silent_since).unwrap_or(self.listening_since);
        place.silent_since.is_none() || since(heard_at.max(self.listening_since), self.now).duration() <= LEASE
    }

    pub(super) fn gateways_at(&self, epoch: Epoch) -> GatewayObservation {
        let mut observation = GatewayObservation::default();
        for place in self.places.values() {
            let count = |counts: bool| if counts { self.scenario.gateways_per_region } else { 0 };
            let (leased, taken) = (self.is_leased(place), place.taken());
            let committed = taken.is_some_and(|taken| taken.epoch() >= Some(epoch));
            let prepared = committed || taken.is_some_and(|taken| taken.prepared >= Some(epoch));
            observation.known += count(true);
            observation.taken_up += count(committed);
            observation.gateways += count(leased);
            observation.committed += count(leased && committed);
            observation.prepared += count(leased && prepared);
        }
        observation
    }
}

/// The time from one to another, zero if the other is before.
pub(super) fn since(from: Timestamp, to: Timestamp) -> Span {
    Span::from_millis(u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0))
}

impl Observed for World<'_> {
    fn region(&self, region: &RegionName) -> RegionObservation<'_> {
        let Some(place) = self.places.get(region) else {
            return RegionObservation { reach: Reach::Unknown, slot: None, progress_at: None };
        };
        let silent = place.silent_since.map(|at| since(at, self.now).duration()).unwrap_or_default();
        let known = place.silent_since.is_none() || place.last_words.is_some();
        let reach = match known {
            true if silent <= SILENCE_LIMIT => Reach::Reachable,
            _ if since(self.listening_since, self.now).duration() <= SILENCE_LIMIT => Reach::Unknown,
            _ => Reach::Unreachable { silent_secs: known.then_some(silent.as_secs()) },
        };
        let held = place.held(self.control.rollout.slot);
        let heard_at = place.silent_since.unwrap_or(self.now);
        RegionObservation {
            reach,
            slot: held.map(|held| &held.status),
            progress_at: held.map(|held| held.progress_at(heard_at)),
        }
    }

    fn gateways(&self) -> GatewayObservation {
        self.gateways_at(self.control.epoch)
    }

    fn room(&self, _: &RegionName) -> Room {
        // Nothing is said of how many users there are.
        Room { in_flight: 0.0, limit: None, missing: 0 }
    }

    fn live(&self) -> Vec<(RegionName, Room)> {
        let regions = self.control.committed.iter().flat_map(|state| &state.regions);
        regions.map(|region| (region.clone(), self.room(region))).collect()
    }

    fn everybody_knows(&self) -> bool {
        let known = self.control.committed.as_ref().map(|state| self.gateways_at(state.epoch));
        known.is_none_or(|gateways| gateways.have_moved_on())
    }

    fn verdict(&self, region: &RegionName) -> Verdict {
        let of_region = |fault: &&Fault| matches!(fault, Fault::Bad { region: bad, .. } if bad == region);
        let bad = self.scenario.faults.iter().filter(of_region).filter_map(|fault| self.proof(fault)).min();
        let unclear = self.scenario.faults.contains(&Fault::Unclear);
        match bad {
            Some(at) if at <= self.now && self.control.rollout.kind == RolloutKind::Deploy => {
                Verdict::Failed { reason: "12 of 400 requests failed".to_owned() }
            }
            _ if unclear => Verdict::Inconclusive { reason: "only 3 answers to judge by".to_owned() },
            _ => Verdict::Healthy,
        }
    }
}
