//! Takes out of the regions what no deployment wants there any more: slots of failed, superseded and retired revisions,
//! regions that were left, deployments that were undeployed.

use tradewind_core::{
    ModelName, Timestamp, assignment::Assignment, deployment::Deployment, region::Region, route::Route,
};
use tradewind_store::{Op, Txn};

use super::Term;
use crate::{
    hub::Hub,
    keys,
    repository::{Kept, Repository, Result, put},
};

/// Region changes that go into one transaction.
const BATCH: usize = 40;

/// How far a sweep came.
pub(super) enum Swept {
    Clean,
    /// Somebody else wrote in between.
    Conflict,
    /// A gateway has not taken up yet that nobody gets what is to go.
    StillServed,
}

/// Empties slots that hold a revision other than the deployment's, when no gateway sends users there any more.
pub(super) async fn sweep(
    repository: &Repository,
    hub: &Hub,
    term: &Term,
    deployment: &Kept<Deployment>,
) -> Result<Swept> {
    let model = &deployment.value.model;
    let mut stale = Vec::new();
    let mut left = 0;
    for region in repository.list::<Region>(keys::REGIONS).await?.items {
        let key = keys::assignment(&region.value.name, model);
        let Some(kept) = repository.get::<Assignment>(key).await? else { continue };
        let mut wanted = kept.value.clone();
        wanted.slots.retain(|slot, held| deployment.value.slots[*slot] == Some(held.revision));
        left += usize::from(!wanted.slots.is_empty());
        if wanted.slots != kept.value.slots || (wanted.slots.is_empty() && deployment.value.removing) {
            wanted.generation = wanted.generation.next();
            stale.push((kept, wanted));
        }
    }
    if !stale.is_empty() && !deployment.value.removing && !is_known_to_gateways(repository, hub, model).await? {
        return Ok(Swept::StillServed);
    }
    for batch in stale.chunks(BATCH) {
        let mut txn = term.guard(Txn::new().when(deployment.unchanged()));
        for (kept, wanted) in batch {
            let op = if wanted.slots.is_empty() { Op::delete(&kept.key) } else { put(&kept.key, wanted) };
            txn = txn.when(kept.unchanged()).then(op);
        }
        if repository.commit(txn).await?.is_none() {
            return Ok(Swept::Conflict);
        }
    }
    if deployment.value.removing && left == 0 {
        let forgotten = forget(repository, term, deployment, model).await?;
        return Ok(if forgotten { Swept::Clean } else { Swept::Conflict });
    }
    Ok(Swept::Clean)
}

/// Whether every gateway with a lease has taken up what is committed.
async fn is_known_to_gateways(repository: &Repository, hub: &Hub, model: &ModelName) -> Result<bool> {
    let route = repository.get::<Route>(keys::route(model)).await?;
    let Some(committed) = route.and_then(|kept| kept.value.committed) else { return Ok(true) };
    let now = Timestamp::now();
    let gateways = hub.look(now).gateways_at(model, committed.epoch, now);
    Ok(gateways.committed >= gateways.gateways)
}

/// Deletes all records of a deployment whose regions are empty.
async fn forget(
    repository: &Repository,
    term: &Term,
    deployment: &Kept<Deployment>,
    model: &ModelName,
) -> Result<bool> {
    let txn = term
        .guard(Txn::new().when(deployment.unchanged()))
        .then(Op::delete(&deployment.key))
        .then(put(keys::undeployed(model), &deployment.value))
        .then(Op::delete_prefix(keys::revisions(model)))
        .then(Op::delete_prefix(keys::rollouts(model)))
        .then(Op::delete_prefix(keys::all_records(model)));
    tracing::info!(%model, "forgetting an undeployed model");
    Ok(repository.commit(txn).await?.is_some())
}
