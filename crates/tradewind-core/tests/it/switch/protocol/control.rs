//! What control and its agents do, each in one transaction with the store.

use std::sync::Arc;

use super::{Broken, Candidate, Event, Gateway, Heard, Protocol, Route, State, Store, USERS};

impl Store {
    fn idle_slot(&self) -> usize {
        usize::from(self.slots[0] == Some(self.edition.committed.live))
    }

    /// What the slot that is not live should hold.
    pub(super) fn idle(&self) -> Option<u8> {
        self.slots[self.idle_slot()]
    }

    fn was_live(&self, revision: u8) -> bool {
        self.history.iter().any(|route| route.live == revision)
    }

    /// What a rollout is bringing to users, until all of them have it.
    fn under_way(&self) -> Option<u8> {
        self.idle().filter(|revision| !self.was_live(*revision))
    }

    /// What served before, as long as it is there.
    fn standby(&self) -> Option<u8> {
        self.idle().filter(|revision| self.was_live(*revision))
    }

    fn next_epoch(&mut self) -> u8 {
        self.newest_epoch += 1;
        self.newest_epoch
    }

    fn offer(&mut self, prepared: Option<Route>) {
        self.edition.prepared = prepared;
        self.edition.number += 1;
    }

    fn commit(&mut self, route: Route) {
        self.edition.committed = route;
        self.offer(None);
        Arc::make_mut(&mut self.history).push(route);
    }
}

impl State {
    /// Whoever has a lease has taken up what is committed.
    fn is_known(&self) -> bool {
        let committed = self.store.edition.committed.epoch;
        self.gateways.iter().all(|gateway| !gateway.heard.leased || gateway.heard.committed >= committed)
    }

    /// Somebody has, who can tell the others.
    fn is_taken_up(&self) -> bool {
        let committed = self.store.edition.committed.epoch;
        self.gateways.iter().any(|gateway| gateway.heard.committed >= committed)
    }

    /// Whoever has a lease could serve this epoch at once.
    fn all_leased_are_ready(&self, epoch: u8) -> bool {
        let ready = |heard: Heard| heard.prepared >= epoch || heard.committed >= epoch;
        self.gateways.iter().all(|gateway| !gateway.heard.leased || ready(gateway.heard))
    }
}

impl Protocol {
    /// What a slot holds may be taken from users: nobody gets it.
    fn may_empty(&self, state: &State) -> bool {
        let is_taken_up = !self.rules.keeps_without_leases || state.is_taken_up();
        !self.rules.keeps_until_heard || (state.is_known() && is_taken_up)
    }

    /// What is offered next: to one user in each stage but the last.
    fn stage(&self, store: &Store, revision: u8) -> Route {
        let Route { live, candidate, epoch, .. } = store.edition.committed;
        let stage = candidate.map_or(1, |candidate| candidate.stage + 1);
        if stage > self.stages {
            return Route { epoch, live: revision, candidate: None, takes_back: false };
        }
        // Another rollout begins with others.
        let salt = if self.rules.keeps_salt { revision } else { revision + stage };
        let candidate = Some(Candidate { revision, stage, user: salt % USERS });
        Route { epoch, live, candidate, takes_back: false }
    }

    /// Nobody is to get or to prepare for a candidate any more.
    fn take_back(&self, store: &mut Store) {
        let committed = store.edition.committed;
        if committed.candidate.is_some() && self.rules.takes_back {
            let epoch = if self.rules.numbers_aborts { store.next_epoch() } else { committed.epoch };
            store.commit(Route { epoch, candidate: None, takes_back: true, ..committed });
        } else if store.edition.prepared.is_some() {
            store.offer(None);
        }
    }

    pub(super) fn happens_at_control(&self, state: &mut State, event: Event) -> Option<()> {
        let may_empty = self.may_empty(state);
        let slot = state.store.idle_slot();
        let State { store, running, gateways, left, .. } = state;
        match event {
            Event::Deploy => {
                left.deploys = left.deploys.checked_sub(1)?;
                store.newest_revision += 1;
                store.slots[slot] = Some(store.newest_revision);
                self.take_back(store);
            }
            Event::Fill(slot) => {
                let (runs, wanted) = (running[slot], store.slots[slot]);
                let in_use = runs.is_some_and(|revision| gateways.iter().any(|gateway| gateway.serves(revision)));
                if runs == wanted || (runs.is_some() && !may_empty) || (self.rules.drains && in_use) {
                    return None;
                }
                running[slot] = wanted;
            }
            Event::Prepare => {
                let revision = store.under_way()?;
                let is_verified = running[slot] == Some(revision);
                if store.edition.prepared.is_some() || (self.rules.verifies_first && !is_verified) {
                    return None;
                }
                let epoch = store.next_epoch();
                store.offer(Some(Route { epoch, ..self.stage(store, revision) }));
            }
            Event::Commit => {
                let route = store.edition.prepared?;
                if self.rules.waits_for_leases && !state.all_leased_are_ready(route.epoch) {
                    return None;
                }
                let unprepared = |gateway: &Gateway| {
                    !gateway.missing && gateway.prepared().max(gateway.held.committed.epoch) < route.epoch
                };
                if state.gateways.iter().any(unprepared) {
                    state.broken = Some(Broken::CommittedUnprepared);
                }
                state.store.commit(route);
            }
            Event::Abort => {
                store.under_way()?;
                left.aborts = left.aborts.checked_sub(1)?;
                store.slots[slot] = None;
                self.take_back(store);
            }
            Event::Rollback => {
                let live = store.standby().filter(|revision| running[slot] == Some(*revision))?;
                left.rollbacks = left.rollbacks.checked_sub(1)?;
                let epoch = store.next_epoch();
                store.commit(Route { epoch, live, candidate: None, takes_back: true });
            }
            Event::Retire => {
                store.standby().filter(|_| may_empty)?;
                store.slots[slot] = None;
            }
            Event::Lead => {
                left.leaders = left.leaders.checked_sub(1)?;
                state.is_new = true;
                let leased = self.rules.new_leader_waits;
                for gateway in gateways {
                    gateway.heard = Heard { leased, reported: false, committed: 0, prepared: 0 };
                }
            }
            Event::Settle => {
                // Whoever is linked reports more often than a lease ends.
                let unheard = |gateway: &Gateway| gateway.linked && !gateway.heard.reported;
                if !state.is_new || state.gateways.iter().any(unheard) {
                    return None;
                }
                state.is_new = false;
            }
            _ => return None,
        }
        Some(())
    }
}
