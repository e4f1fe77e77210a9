//! What holds whatever happens, and what can happen.

use stateright::{Model, Property};

use super::{Broken, EVENTS, Gateway, Left, Protocol, State, USERS};

pub(super) fn all(model: &Protocol) -> Vec<Property<Protocol>> {
    let mut all = always();
    all.extend(sometimes(model));
    all
}

fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(
            "gateways serve what was committed, and at no time what was only prepared",
            |_, state: &State| {
                state.gateways.iter().all(|gateway| state.store.history.contains(&gateway.held.committed))
            },
        ),
        Property::always("epochs grow", |_, state: &State| {
            state.store.history.is_sorted_by(|one, next| one.epoch < next.epoch)
        }),
        Property::always("at one epoch a user gets one revision from every gateway", |_, state: &State| {
            let [one, other] = &state.gateways;
            one.held.committed.epoch != other.held.committed.epoch
                || (0..USERS).all(|user| one.gives(user) == other.gives(user))
        }),
        Property::always("whoever asks gets what is there and verified", |_, state: &State| {
            state.gateways.iter().all(|gateway| {
                let is_newer = |peer: &Gateway| peer.held.committed.epoch > gateway.held.committed.epoch;
                let here = |user| state.runs(gateway.gives(user));
                let elsewhere = |user| state.gateways.iter().any(|peer| is_newer(peer) && state.runs(peer.gives(user)));
                (0..USERS).all(|user| here(user) || elsewhere(user))
            })
        }),
        Property::always("who is cut off serves on as it did", |_, state: &State| {
            state.gateways.iter().all(|gateway| gateway.linked || gateway.late || state.is_whole(gateway))
        }),
        Property::always("whoever is there has prepared before", |_, state: &State| {
            state.broken != Some(Broken::CommittedUnprepared)
        }),
        Property::always("nobody goes back", |model: &Protocol, state: &State| {
            let is_older = |gateway: &Gateway| {
                let goes_back = |seen| model.answers(gateway, seen) && gateway.held.committed.epoch < seen.epoch;
                state.users.into_iter().any(goes_back)
            };
            state.broken != Some(Broken::WentBack) && !state.gateways.iter().any(is_older)
        }),
        Property::always("who is moved stays moved, unless all are taken back", |_, state: &State| {
            state.broken != Some(Broken::MovedBack)
        }),
        Property::always("it ends with one revision everywhere", |model: &Protocol, state: &State| {
            state.is_settled() || model.goes_on(state)
        }),
    ]
}

/// What can happen, as far as it may.
fn sometimes(model: &Protocol) -> Vec<Property<Protocol>> {
    let Left { rollbacks, aborts, .. } = model.left;
    let all = [
        (
            true,
            Property::sometimes("a rollout is done", |_, state: &State| {
                state.is_settled() && state.store.edition.committed.live > 1 && state.store.idle().is_none()
            }),
        ),
        (
            true,
            Property::sometimes("who is cut off learns from another", |_, state: &State| {
                let is_ahead = |gateway: &Gateway| gateway.held.committed.epoch > gateway.heard.committed;
                state.gateways.iter().any(|gateway| !gateway.linked && is_ahead(gateway))
            }),
        ),
        (
            rollbacks > 0,
            Property::sometimes("a rollback is done", |model: &Protocol, state: &State| {
                let is_back = state.left.rollbacks < model.left.rollbacks && state.store.edition.committed.live == 1;
                is_back && state.is_settled()
            }),
        ),
        (
            aborts > 0,
            Property::sometimes("what follows an abort is done", |model: &Protocol, state: &State| {
                state.left.aborts < model.left.aborts && state.is_settled()
            }),
        ),
        (
            model.stages > 0,
            Property::sometimes("one user has the candidate, and the other has not", |_, state: &State| {
                let [one, other] = state.users;
                one.epoch == other.epoch && one.revision != other.revision
            }),
        ),
        (
            model.stages > 0 && aborts > 0,
            Property::sometimes("who had the candidate is taken back", |_, state: &State| {
                let was_moved = state.store.history.iter().any(|route| route.candidate.is_some());
                was_moved && state.is_settled() && state.users.iter().all(|seen| seen.revision == 1)
            }),
        ),
    ];
    all.into_iter().filter(|(is_possible, _)| *is_possible).map(|(_, property)| property).collect()
}

impl State {
    fn runs(&self, revision: u8) -> bool {
        self.running.contains(&Some(revision))
    }

    /// All that users get here is there.
    pub(super) fn is_whole(&self, gateway: &Gateway) -> bool {
        (0..USERS).all(|user| self.runs(gateway.gives(user)))
    }
}

impl Protocol {
    /// Whether anything else can happen.
    fn goes_on(&self, state: &State) -> bool {
        EVENTS.into_iter().any(|event| self.next_state(state, event).is_some())
    }
}
