//! How a rollout ends before everybody has its revision: those who have it are taken back.

use std::sync::Arc;

use tradewind_api::{Code, Problem};
use tradewind_core::{
    Epoch, ModelName, Timestamp,
    assignment::Failure,
    deployment::{Bad, Deployment},
    event::{EventKind, Severity},
    rollout::{Action, Rollout, RolloutFailure, plan::Change},
    route::{Route, RouteState},
};
use tradewind_store::{Op, Txn};

use super::{CONFLICT_RETRIES, Existing, Loaded, conflict, event, moves, not_deployed};
use crate::{
    hub::Hub,
    keys,
    repository::{Kept, Repository, put},
};

/// A rollout with what it has made of the deployment and its route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub deployment: &'a Kept<Deployment>,
    pub rollout: &'a Kept<Rollout>,
    pub route: Option<&'a Kept<Route>>,
}

/// Ends the rollout that is under way; everybody gets what served before. While its revision soaks, that is a rollback.
pub async fn abort(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    by: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Loaded::Whole(existing) = Existing::load(repository, model).await? else { continue };
        let existing = existing.ok_or_else(|| not_deployed(model))?;
        let rollout = &existing.rollout.value;
        if rollout.state.is_final() {
            return Err(Problem::new(Code::Refused, format!("no rollout of {model} is under way"))
                .hint(format!("see `tradewind rollout show {model}`; to go back, `tradewind rollback {model}`")));
        }
        if rollout.has_served() {
            return moves::abort(repository, hub, model, rollout.from, by, now).await;
        }
        let failure = Failure { message: "aborted".to_owned(), causes: Vec::new(), hint: None, retryable: false };
        let failure = RolloutFailure { region: None, action: Action::SelectRegions, failure };
        let txn = end(existing.standing(), &Change::Fail { failure }, None, now);
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(());
        }
    }
    Err(conflict(model))
}

impl Existing {
    pub(super) fn standing(&self) -> Standing<'_> {
        Standing { deployment: &self.deployment, rollout: &self.rollout, route: self.route.as_ref() }
    }
}

/// The transaction that ends a rollout before everybody has its revision: the candidate's slot is given up, which happens
/// when every gateway knows, and nobody is to get it or to prepare for it.
pub(crate) fn end(standing: Standing<'_>, change: &Change, bad: Option<Bad>, now: Timestamp) -> Txn {
    let Standing { deployment: kept, rollout: under_way, route } = standing;
    let (mut deployment, mut rollout) = (kept.value.clone(), under_way.value.clone());
    change.apply_fleet(&mut rollout, Epoch::default(), now);
    deployment.slots[rollout.slot] = None;
    if let Some(bad) = bad {
        deployment.mark_bad(rollout.revision, bad);
    }
    let (txn, taken_back) = take_back(Txn::new(), route, &mut deployment);
    rollout.course.taken_back = taken_back;
    txn.when(kept.unchanged())
        .when(under_way.unchanged())
        .then(put(&kept.key, &deployment))
        .then(put(&under_way.key, &rollout))
        .then(event(now, &rollout.model, EventKind::RolloutFailed, Severity::Error, how_it_ended(&rollout)))
}

fn how_it_ended(rollout: &Rollout) -> String {
    let revision = rollout.revision;
    let Some(RolloutFailure { region, failure, .. }) = &rollout.failure else {
        return format!("revision {revision} ended");
    };
    let back = match rollout.course.taken_back {
        Some(epoch) => format!("; its users are taken back at epoch {epoch}"),
        None => String::new(),
    };
    match region {
        Some(region) => format!("revision {revision} failed in {region}: {}{back}", failure.message),
        None => format!("revision {revision} ended: {}{back}", failure.message),
    }
}

/// Takes a candidate out of the route, whether some users get it or gateways only prepare for it. The epoch from which on
/// nobody gets it, where somebody did.
pub(crate) fn take_back(txn: Txn, route: Option<&Kept<Route>>, deployment: &mut Deployment) -> (Txn, Option<Epoch>) {
    let Some(kept) = route else { return (txn, None) };
    let Route { model, committed, prepared, pins } = &kept.value;
    let has_users = committed.as_ref().is_some_and(|state| state.candidate.is_some());
    if prepared.is_none() && !has_users {
        return (txn.when(kept.unchanged()), None);
    }
    let epoch = has_users.then(|| deployment.latest_epoch.next());
    deployment.latest_epoch = epoch.unwrap_or(deployment.latest_epoch);
    let written = match committed {
        Some(state) => {
            let state = epoch.map_or_else(|| state.clone(), |epoch| RouteState::without_candidate(state, epoch));
            let (model, pins) = (model.clone(), Arc::clone(pins));
            put(&kept.key, &Route { model, committed: Some(state), prepared: None, pins })
        }
        None => Op::delete(keys::route(model)),
    };
    (txn.when(kept.unchanged()).then(written), epoch)
}
