//! The protocol by which users get another revision: one store, one leader at a time, gateways that hear of it late or not
//! at all, agents that fill slots. Every step that somebody may take is an [`Event`]; time is nothing but their order.

mod promises;

use stateright::{Model, Property};

/// More of them find nothing new: what is shown of two holds for each pair.
const GATEWAYS: usize = 2;

/// A revision that users get, or are about to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Entry {
    pub(super) epoch: u8,
    pub(super) revision: u8,
}

type Slots = [Option<u8>; 2];

/// What is written down, and outlives everybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Store {
    newest_epoch: u8,
    newest_revision: u8,
    pub(super) committed: Entry,
    prepared: Option<Entry>,
    /// What each slot should hold.
    slots: Slots,
    /// All that was ever committed, in this order.
    pub(super) history: Vec<Entry>,
}

/// What the leader has heard of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Heard {
    /// A switch waits for it.
    leased: bool,
    /// Of this leader's own time.
    reported: bool,
    committed: u8,
    prepared: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Gateway {
    /// Control reaches it, and it reaches control.
    linked: bool,
    /// It was cut off, and has not been heard of since.
    missing: bool,
    /// What control had sent before arrived after it was cut off.
    late: bool,
    /// What its users get. It is on its disk.
    pub(super) committed: Entry,
    /// What it could serve at once.
    prepared: u8,
    /// What control sent and has not arrived yet.
    inbox: Option<(Entry, Option<Entry>)>,
    heard: Heard,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) store: Store,
    /// What agents run.
    pub(super) running: Slots,
    /// The leader has led for less than a lease.
    is_new: bool,
    pub(super) gateways: [Gateway; GATEWAYS],
    /// The newest epoch that a user has seen who says so with every request.
    user: u8,
    left: Left,
    /// What must not happen did.
    pub(super) broken: Option<Broken>,
}

/// How often things still happen, so that there is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) deploys: u8,
    pub(super) rollbacks: u8,
    pub(super) aborts: u8,
    pub(super) leaders: u8,
    pub(super) cuts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// A gateway that was there all the time had not prepared what was committed.
    CommittedUnprepared,
    /// A gateway took an epoch older than its own, or a user who knew of a newer one got an older one.
    WentBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// Somebody deploys a revision into the slot that is not live.
    Deploy,
    /// Agents have done what a slot should hold.
    Fill(usize),
    Prepare,
    Commit,
    Abort,
    Rollback,
    /// The slot that is not live any more is given up.
    Retire,
    Send(usize),
    Arrive(usize),
    Report(usize),
    /// A gateway was silent for the time of a lease.
    Expire(usize),
    Cut(usize),
    Mend(usize),
    /// Another control plane takes over.
    Lead,
    /// It has led for the time of a lease.
    Settle,
    /// A gateway hears of a newer epoch from another one.
    Learn(usize),
    /// The user asks a gateway.
    Ask(usize),
}

/// What keeps the promises. Without any one of them, one is broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// COMMIT waits until every gateway with a lease has prepared.
    pub(super) waits_for_leases: bool,
    /// A new leader takes every known gateway for leased.
    pub(super) new_leader_waits: bool,
    /// Gateways take no epoch older than their own.
    pub(super) refuses_older: bool,
    /// A slot that was live is kept until whoever has a lease has taken up what came after it.
    pub(super) keeps_until_heard: bool,
    /// Replicas stop only when no gateway sends them anything.
    pub(super) drains: bool,
    /// A gateway does not answer a user who knows of a newer epoch than its own.
    pub(super) heeds_users: bool,
    /// Gateways learn newer epochs from each other.
    pub(super) learns: bool,
}

impl Rules {
    pub(super) const ALL: Self = Self {
        waits_for_leases: true,
        new_leader_waits: true,
        refuses_older: true,
        keeps_until_heard: true,
        drains: true,
        heeds_users: true,
        learns: true,
    };
}

#[derive(Debug, Clone)]
pub(super) struct Protocol {
    pub(super) rules: Rules,
    pub(super) left: Left,
}

impl State {
    fn new(left: Left) -> Self {
        let first = Entry { epoch: 1, revision: 1 };
        let heard = Heard { leased: true, reported: true, committed: 1, prepared: 0 };
        let gateway =
            Gateway { linked: true, missing: false, late: false, committed: first, prepared: 0, inbox: None, heard };
        let store = Store {
            newest_epoch: 1,
            newest_revision: 1,
            committed: first,
            prepared: None,
            slots: [Some(1), None],
            history: vec![first],
        };
        let (running, is_new) = (store.slots, false);
        Self { store, running, is_new, gateways: [gateway; GATEWAYS], user: 1, left, broken: None }
    }

    fn idle_slot(&self) -> usize {
        usize::from(self.store.slots[0] == Some(self.store.committed.revision))
    }

    /// What the slot that is not live should hold.
    fn idle(&self) -> Option<u8> {
        self.store.slots[self.idle_slot()]
    }

    fn was_committed(&self, revision: u8) -> bool {
        self.store.history.iter().any(|entry| entry.revision == revision)
    }

    fn commit(&mut self, entry: Entry) {
        self.store.committed = entry;
        self.store.prepared = None;
        self.store.history.push(entry);
    }

    fn next_epoch(&mut self) -> u8 {
        self.store.newest_epoch += 1;
        self.store.newest_epoch
    }

    /// What was committed may be given up: whoever has a lease has the epoch after it, and somebody has.
    fn is_taken_up(&self) -> bool {
        let has_it = |heard: Heard| heard.committed >= self.store.committed.epoch;
        self.gateways.iter().all(|gateway| !gateway.heard.leased || has_it(gateway.heard))
            && self.gateways.iter().any(|gateway| has_it(gateway.heard))
    }

    /// Whoever has a lease could serve this epoch at once.
    fn all_leased_are_ready(&self, epoch: u8) -> bool {
        let ready = |heard: Heard| heard.prepared >= epoch || heard.committed >= epoch;
        self.gateways.iter().all(|gateway| !gateway.heard.leased || ready(gateway.heard))
    }

    fn snapshot(&self) -> (Entry, Option<Entry>) {
        (self.store.committed, self.store.prepared)
    }

    /// Everybody has what is committed, and nothing is on its way.
    fn is_settled(&self) -> bool {
        let has_it = |gateway: &Gateway| gateway.committed == self.store.committed && gateway.inbox.is_none();
        self.store.prepared.is_none() && self.gateways.iter().all(has_it) && self.running == self.store.slots
    }
}

impl Gateway {
    fn take(&mut self, (committed, prepared): (Entry, Option<Entry>)) {
        self.committed = committed;
        self.prepared = prepared.map_or(0, |entry| entry.epoch);
    }

    fn serves(&self, revision: u8) -> bool {
        self.committed.revision == revision
    }
}

impl Protocol {
    fn may_give_up(&self, state: &State) -> bool {
        !self.rules.keeps_until_heard || state.is_taken_up()
    }

    fn happens(&self, state: &mut State, event: Event) -> Option<()> {
        match event {
            Event::Deploy => {
                let given_up = state.idle();
                let brought_up = given_up.is_some_and(|revision| !state.was_committed(revision));
                if state.store.prepared.is_some() || brought_up || (given_up.is_some() && !self.may_give_up(state)) {
                    return None;
                }
                state.left.deploys = state.left.deploys.checked_sub(1)?;
                state.store.newest_revision += 1;
                state.store.slots[state.idle_slot()] = Some(state.store.newest_revision);
            }
            Event::Fill(slot) => {
                let (runs, wanted) = (state.running[slot], state.store.slots[slot]);
                let in_use = runs.is_some_and(|revision| state.gateways.iter().any(|gateway| gateway.serves(revision)));
                if runs == wanted || (self.rules.drains && in_use) {
                    return None;
                }
                state.running[slot] = wanted;
            }
            Event::Prepare => {
                let slot = state.idle_slot();
                let revision = state.idle().filter(|revision| !state.was_committed(*revision))?;
                if state.store.prepared.is_some() || state.running[slot] != Some(revision) {
                    return None;
                }
                state.store.prepared = Some(Entry { epoch: state.next_epoch(), revision });
            }
            Event::Commit => {
                let entry = state.store.prepared?;
                if self.rules.waits_for_leases && !state.all_leased_are_ready(entry.epoch) {
                    return None;
                }
                let unprepared = |gateway: &Gateway| {
                    !gateway.missing && gateway.prepared < entry.epoch && gateway.committed.epoch < entry.epoch
                };
                if state.gateways.iter().any(unprepared) {
                    state.broken = Some(Broken::CommittedUnprepared);
                }
                state.commit(entry);
            }
            Event::Abort => {
                let slot = state.idle_slot();
                state.idle().filter(|revision| !state.was_committed(*revision))?;
                state.left.aborts = state.left.aborts.checked_sub(1)?;
                state.store.prepared = None;
                state.store.slots[slot] = None;
            }
            Event::Rollback => {
                let slot = state.idle_slot();
                let revision = state.idle().filter(|revision| state.was_committed(*revision))?;
                if state.running[slot] != Some(revision) {
                    return None;
                }
                state.left.rollbacks = state.left.rollbacks.checked_sub(1)?;
                let epoch = state.next_epoch();
                state.commit(Entry { epoch, revision });
            }
            Event::Retire => {
                let slot = state.idle_slot();
                state.idle().filter(|revision| state.was_committed(*revision))?;
                if !self.may_give_up(state) {
                    return None;
                }
                state.store.slots[slot] = None;
            }
            Event::Lead => {
                state.left.leaders = state.left.leaders.checked_sub(1)?;
                state.is_new = true;
                let leased = self.rules.new_leader_waits;
                for gateway in &mut state.gateways {
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
            Event::Send(_)
            | Event::Arrive(_)
            | Event::Report(_)
            | Event::Expire(_)
            | Event::Cut(_)
            | Event::Mend(_)
            | Event::Learn(_)
            | Event::Ask(_) => self.happens_at_gateway(state, event)?,
        }
        Some(())
    }

    fn happens_at_gateway(&self, state: &mut State, event: Event) -> Option<()> {
        let (snapshot, is_new) = (state.snapshot(), state.is_new);
        match event {
            Event::Send(at) => {
                let gateway = &mut state.gateways[at];
                let has_it =
                    (gateway.committed, gateway.prepared) == (snapshot.0, snapshot.1.map_or(0, |entry| entry.epoch));
                if !gateway.linked || gateway.inbox.is_some() || has_it {
                    return None;
                }
                gateway.inbox = Some(snapshot);
            }
            Event::Arrive(at) => {
                let gateway = &mut state.gateways[at];
                let newest = gateway.committed.epoch;
                let sent = gateway.inbox.take()?;
                let is_older = sent.0.epoch < gateway.committed.epoch;
                if !(is_older && self.rules.refuses_older) {
                    gateway.take(sent);
                    gateway.late = !gateway.linked;
                }
                if gateway.committed.epoch < newest {
                    state.broken = Some(Broken::WentBack);
                }
            }
            Event::Report(at) => {
                let gateway = &mut state.gateways[at];
                let (committed, prepared) = (gateway.committed.epoch, gateway.prepared);
                if !gateway.linked {
                    return None;
                }
                gateway.missing = false;
                gateway.heard = Heard { leased: true, reported: true, committed, prepared };
            }
            Event::Expire(at) => {
                let gateway = &mut state.gateways[at];
                if gateway.linked || is_new || !gateway.heard.leased {
                    return None;
                }
                gateway.heard.leased = false;
            }
            Event::Cut(at) => {
                let gateway = &mut state.gateways[at];
                if !gateway.linked {
                    return None;
                }
                (gateway.linked, gateway.missing) = (false, true);
                state.left.cuts = state.left.cuts.checked_sub(1)?;
            }
            Event::Mend(at) => {
                let gateway = &mut state.gateways[at];
                if gateway.linked {
                    return None;
                }
                (gateway.linked, gateway.late) = (true, false);
                // What was on its way when the link was cut is lost.
                gateway.inbox = None;
            }
            Event::Learn(at) => {
                let newest = state.gateways.iter().map(|gateway| gateway.committed).max()?;
                let gateway = &mut state.gateways[at];
                if !self.rules.learns || newest.epoch <= gateway.committed.epoch {
                    return None;
                }
                gateway.committed = newest;
                gateway.prepared = 0;
            }
            Event::Ask(at) => {
                let epoch = state.gateways[at].committed.epoch;
                if epoch == state.user || (self.rules.heeds_users && epoch < state.user) {
                    return None;
                }
                if epoch < state.user {
                    state.broken = Some(Broken::WentBack);
                }
                state.user = epoch;
            }
            _ => return None,
        }
        Some(())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.left)]
    }

    fn actions(&self, _: &State, events: &mut Vec<Event>) {
        use Event::{Abort, Commit, Deploy, Fill, Lead, Prepare, Retire, Rollback, Settle};
        events.extend([Deploy, Fill(0), Fill(1), Prepare, Commit, Abort, Rollback, Retire, Lead, Settle]);
        let at_gateway = [
            Event::Send,
            Event::Arrive,
            Event::Report,
            Event::Expire,
            Event::Cut,
            Event::Mend,
            Event::Learn,
            Event::Ask,
        ];
        events.extend((0..GATEWAYS).flat_map(|at| at_gateway.map(|event| event(at))));
    }

    fn next_state(&self, state: &State, event: Event) -> Option<State> {
        let mut next = state.clone();
        self.happens(&mut next, event)?;
        // What changes nothing did not happen.
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}

impl State {
    /// The same, whichever gateway is called the first.
    pub(super) fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.gateways.sort_unstable();
        sorted
    }
}
