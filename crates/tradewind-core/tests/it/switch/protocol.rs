//! The protocol by which users get another revision: one store, one leader at a time, gateways that hear of it late or not
//! at all, agents that fill slots. Every step that somebody may take is an [`Event`]; time is nothing but their order, and
//! a pause nothing but a step that is not taken yet.

mod control;
mod gateways;
mod promises;

use std::sync::Arc;

use stateright::{Model, Property};

/// More of them find nothing new: what is shown of two holds for each pair.
const GATEWAYS: usize = 2;

/// One is among the first who get a revision that is rolled out in stages, the other one is not.
const USERS: u8 = 2;

/// What users get from an epoch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Route {
    pub(super) epoch: u8,
    pub(super) live: u8,
    pub(super) candidate: Option<Candidate>,
    /// An abort or a rollback: users who had something newer lose it.
    takes_back: bool,
}

/// What some users get instead, at the same epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Candidate {
    revision: u8,
    /// From 1.
    stage: u8,
    /// Who is in the share.
    user: u8,
}

/// What gateways are told: a newer one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Edition {
    number: u8,
    pub(super) committed: Route,
    prepared: Option<Route>,
}

type Slots = [Option<u8>; 2];

/// What is written down, and outlives everybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Store {
    newest_epoch: u8,
    newest_revision: u8,
    pub(super) edition: Edition,
    /// What each slot should hold.
    slots: Slots,
    /// All that was ever committed, in this order.
    pub(super) history: Arc<Vec<Route>>,
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
    /// What it serves was gone before it was cut off, or arrived after that.
    late: bool,
    /// What it serves, and what it could serve at once. It is on its disk.
    pub(super) held: Edition,
    /// What control sent and has not arrived yet.
    inbox: Option<Edition>,
    heard: Heard,
    /// It takes whatever epoch it has not heard of for one that nobody has heard of.
    incredulous: bool,
    /// It spreads a share over users in another way than others do.
    peculiar: bool,
}

/// The last answer to a user who asks again and again, and says each time which epoch the answer before had. Who has seen
/// more is harder to please: so each asks the gateway that is furthest as soon as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) epoch: u8,
    revision: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) store: Store,
    /// What agents run and have verified.
    pub(super) running: Slots,
    /// The leader has led for less than a lease.
    is_new: bool,
    pub(super) gateways: [Gateway; GATEWAYS],
    pub(super) users: [Seen; USERS as usize],
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
    /// Without any, who is cut off stays so.
    pub(super) mends: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// A gateway that was there all the time had not prepared what was committed.
    CommittedUnprepared,
    /// A gateway took an epoch older than its own.
    WentBack,
    /// A user who had the candidate got what was live before, and nobody had taken it back.
    MovedBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// Somebody deploys a revision into the slot that is not live, and takes over from a rollout that is under way.
    Deploy,
    /// A slot is swept, and agents have done and verified what it should hold.
    Fill(usize),
    /// The next stage is offered, or the last one.
    Prepare,
    Commit,
    /// A rollout ends that not everybody has got.
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
    /// A gateway takes what another one holds.
    Learn(usize),
    /// Somebody names an epoch to a gateway that nobody has heard of.
    Stray(usize),
}

const EVENTS: [Event; 26] = [
    Event::Report(0),
    Event::Report(1),
    Event::Send(0),
    Event::Send(1),
    Event::Arrive(0),
    Event::Arrive(1),
    Event::Learn(0),
    Event::Learn(1),
    Event::Expire(0),
    Event::Expire(1),
    Event::Cut(0),
    Event::Cut(1),
    Event::Mend(0),
    Event::Mend(1),
    Event::Stray(0),
    Event::Stray(1),
    Event::Fill(0),
    Event::Fill(1),
    Event::Deploy,
    Event::Prepare,
    Event::Commit,
    Event::Abort,
    Event::Rollback,
    Event::Retire,
    Event::Lead,
    Event::Settle,
];

/// What keeps the promises. Without any one of them, one is broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// What is offered to users is verified.
    pub(super) verifies_first: bool,
    /// COMMIT waits until every gateway with a lease has prepared.
    pub(super) waits_for_leases: bool,
    /// A new leader takes every known gateway for leased.
    pub(super) new_leader_waits: bool,
    /// Gateways take no edition older than their own.
    pub(super) refuses_older: bool,
    /// A slot is emptied or filled anew only when whoever has a lease has taken up that nobody gets what it holds.
    pub(super) keeps_until_heard: bool,
    /// That takes somebody who has taken it up, also where nobody has a lease.
    pub(super) keeps_without_leases: bool,
    /// Replicas stop only when no gateway sends them anything.
    pub(super) drains: bool,
    /// A gateway does not answer a user who knows of a newer epoch than its own, as long as somebody may have heard of it.
    pub(super) heeds_users: bool,
    /// That nobody has heard of an epoch says nothing of later: others are asked again.
    pub(super) asks_again: bool,
    /// Gateways learn newer editions from each other.
    pub(super) learns: bool,
    /// Who ends a rollout takes its candidate out of the route.
    pub(super) takes_back: bool,
    /// That is a new epoch.
    pub(super) numbers_aborts: bool,
    /// Who is in a share depends on the user alone, not on the gateway.
    pub(super) spreads_alike: bool,
    /// It stays the same through one rollout.
    pub(super) keeps_salt: bool,
}

impl Rules {
    pub(super) const ALL: Self = Self {
        verifies_first: true,
        waits_for_leases: true,
        new_leader_waits: true,
        refuses_older: true,
        keeps_until_heard: true,
        keeps_without_leases: true,
        drains: true,
        heeds_users: true,
        asks_again: true,
        learns: true,
        takes_back: true,
        numbers_aborts: true,
        spreads_alike: true,
        keeps_salt: true,
    };
}

#[derive(Debug, Clone)]
pub(super) struct Protocol {
    pub(super) rules: Rules,
    /// So many times only some users are moved before all of them are.
    pub(super) stages: u8,
    pub(super) left: Left,
}

impl Route {
    /// Every revision that users get.
    fn served(self) -> impl Iterator<Item = u8> {
        [self.live].into_iter().chain(self.candidate.map(|candidate| candidate.revision))
    }
}

impl Gateway {
    fn serves(&self, revision: u8) -> bool {
        self.held.committed.served().any(|served| served == revision)
    }

    /// What a user gets here.
    pub(super) fn gives(&self, user: u8) -> u8 {
        let Route { live, candidate, .. } = self.held.committed;
        let key = if self.peculiar { USERS - 1 - user } else { user };
        candidate.filter(|candidate| candidate.user == key).map_or(live, |candidate| candidate.revision)
    }

    fn prepared(&self) -> u8 {
        self.held.prepared.map_or(0, |route| route.epoch)
    }
}

impl State {
    fn new(rules: Rules, left: Left) -> Self {
        let first = Route { epoch: 1, live: 1, candidate: None, takes_back: false };
        let edition = Edition { number: 1, committed: first, prepared: None };
        let gateway = |peculiar| Gateway {
            linked: true,
            missing: false,
            late: false,
            held: edition,
            inbox: None,
            heard: Heard { leased: true, reported: true, committed: 1, prepared: 0 },
            incredulous: false,
            peculiar,
        };
        let slots = [Some(1), None];
        Self {
            store: Store { newest_epoch: 1, newest_revision: 1, edition, slots, history: Arc::new(vec![first]) },
            running: slots,
            is_new: false,
            gateways: [gateway(false), gateway(!rules.spreads_alike)],
            users: [Seen { epoch: 1, revision: 1 }; USERS as usize],
            left,
            broken: None,
        }
    }

    /// The same, whichever gateway is called the first.
    pub(super) fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.gateways.sort_unstable();
        sorted
    }

    /// Everybody has what is committed, for all users, and nothing is on its way.
    fn is_settled(&self) -> bool {
        let edition = self.store.edition;
        let has_it = |gateway: &Gateway| gateway.held == edition && gateway.inbox.is_none();
        let is_done = edition.prepared.is_none() && edition.committed.candidate.is_none();
        is_done && self.gateways.iter().all(has_it) && self.running == self.store.slots
    }
}

impl Protocol {
    fn happens(&self, state: &mut State, event: Event) -> Option<()> {
        match event {
            Event::Deploy
            | Event::Fill(_)
            | Event::Prepare
            | Event::Commit
            | Event::Abort
            | Event::Rollback
            | Event::Retire
            | Event::Lead
            | Event::Settle => self.happens_at_control(state, event)?,
            Event::Send(at)
            | Event::Arrive(at)
            | Event::Report(at)
            | Event::Expire(at)
            | Event::Cut(at)
            | Event::Mend(at)
            | Event::Learn(at)
            | Event::Stray(at) => self.happens_at_gateway(state, event, at)?,
        }
        state.users_ask();
        Some(())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.rules, self.left)]
    }

    fn actions(&self, _: &State, events: &mut Vec<Event>) {
        events.extend(EVENTS);
    }

    fn next_state(&self, state: &State, event: Event) -> Option<State> {
        let mut next = state.clone();
        self.happens(&mut next, event)?;
        // What changes nothing did not happen.
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self)
    }
}
