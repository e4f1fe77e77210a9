//! What holds whatever happens, and what can happen.

use stateright::{Model, Property};

use super::{Broken, Entry, Gateway, Protocol, State};

pub(super) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(
            "gateways serve what was committed, and at no time what was only prepared",
            |_, state: &State| state.gateways.iter().all(|gateway| state.store.history.contains(&gateway.committed)),
        ),
        Property::always("epochs grow, and each stands for one revision", |_, state: &State| {
            state.store.history.is_sorted_by(|one, next| one.epoch < next.epoch)
        }),
        Property::always("there is somebody to answer", |_, state: &State| {
            let runs = |entry: Entry| state.running.contains(&Some(entry.revision));
            state.gateways.iter().all(|gateway| {
                let newer = |peer: &Gateway| peer.committed.epoch > gateway.committed.epoch && runs(peer.committed);
                runs(gateway.committed) || state.gateways.iter().any(newer)
            })
        }),
        Property::always("who is cut off serves on as it did", |_, state: &State| {
            let runs = |gateway: &Gateway| state.running.contains(&Some(gateway.committed.revision));
            state.gateways.iter().all(|gateway| gateway.linked || gateway.late || runs(gateway))
        }),
        Property::always("whoever is there has prepared before", |_, state: &State| {
            state.broken != Some(Broken::CommittedUnprepared)
        }),
        Property::always("nobody goes back", |_, state: &State| state.broken != Some(Broken::WentBack)),
        Property::always("it ends with one revision everywhere", |model: &Protocol, state: &State| {
            !model.next_states(state).is_empty() || state.is_settled()
        }),
        Property::sometimes("a rollout is done", |_, state: &State| {
            state.is_settled() && state.store.committed.revision > 1 && state.idle().is_none()
        }),
        Property::sometimes("a rollback is done", |_, state: &State| {
            state.is_settled() && state.store.history.len() > 2 && state.store.committed.revision == 1
        }),
        Property::sometimes("what follows an abort is done", |model: &Protocol, state: &State| {
            state.left.aborts < model.left.aborts && state.is_settled() && state.store.committed.revision > 1
        }),
        Property::sometimes("who is cut off learns from another", |_, state: &State| {
            state.gateways.iter().any(|gateway| !gateway.linked && gateway.committed.epoch > gateway.heard.committed)
        }),
    ]
}
