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
    /// Gateways have not taken up yet that nobody gets what is to go.
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
    if !stale.is_empty() && !deployment.value.removing && !have_gateways_moved_on(repository, hub, model).await? {
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

/// Whether gateways have taken up what is committed, as far as that takes to empty a slot.
async fn have_gateways_moved_on(repository: &Repository, hub: &Hub, model: &ModelName) -> Result<bool> {
    let route = repository.get::<Route>(keys::route(model)).await?;
    let Some(committed) = route.and_then(|kept| kept.value.committed) else { return Ok(true) };
    let now = Timestamp::now();
    let gateways = hub.look(now).gateways_at(model, committed.epoch, now);
    Ok(gateways.have_moved_on())
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use tempfile::TempDir;
    use tokio_util::sync::CancellationToken;
    use tradewind_api::gateway::{Committed, GatewayReport};
    use tradewind_core::{
        Digest, Epoch, Generation, RegionName, RevisionNumber, RolloutNumber, Slot, VersionNumber,
        assignment::SlotAssignment,
        deployment::{HealthPolicy, SlotRevisions},
        route::RouteState,
    };
    use tradewind_store::{SqliteOptions, SqliteStore};

    use super::*;
    use crate::{reconcile::leader, view::fixtures};

    const REGION: &str = "us-east1";

    fn model() -> ModelName {
        "digits".parse().unwrap()
    }

    fn region() -> RegionName {
        REGION.parse().unwrap()
    }

    /// Blue took over at epoch 2, and green is given up.
    async fn given_up() -> (TempDir, Repository) {
        let region = Region { name: region(), location: None, drained: false };
        let revision = |number| SlotAssignment {
            revision: RevisionNumber(number),
            version: VersionNumber(1),
            digest: Digest::from_bytes([1; 32]),
            scale: Default::default(),
            health: HealthPolicy::default(),
            monitors: Default::default(),
            attempt: 1,
            monitored: true,
            verify: Some(1),
            armed: true,
            alone: false,
            trace: None,
        };
        let assignment = Assignment {
            region: region.name.clone(),
            model: model(),
            generation: Generation(1),
            slots: [(Slot::Green, revision(1)), (Slot::Blue, revision(2))].into(),
            by_hand: None,
        };
        let deployment = Deployment {
            model: model(),
            live: Some(RevisionNumber(2)),
            latest_revision: RevisionNumber(2),
            latest_rollout: RolloutNumber(2),
            live_rollout: Some(RolloutNumber(2)),
            latest_epoch: Epoch(2),
            slots: SlotRevisions { blue: Some(RevisionNumber(2)), green: None },
            bad: BTreeMap::new(),
            removing: false,
        };
        let committed = RouteState {
            epoch: Epoch(2),
            live: Slot::Blue,
            revision: RevisionNumber(2),
            version: VersionNumber(1),
            regions: vec![region.name.clone()],
            health: HealthPolicy::default(),
            region_health: Default::default(),
            stay_in: Default::default(),
            candidate: None,
        };
        let route = Route { model: model(), committed: Some(committed), prepared: None, pins: Default::default() };
        let txn = Txn::new()
            .then(put(keys::region(&region.name), &region))
            .then(put(keys::assignment(&region.name, &route.model), &assignment))
            .then(put(keys::deployment(&route.model), &deployment))
            .then(put(keys::route(&route.model), &route));
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
        let repository = Repository::new(Arc::new(store), None);
        repository.commit(txn).await.unwrap().unwrap();
        (directory, repository)
    }

    #[tokio::test]
    async fn a_slot_is_kept_until_a_gateway_is_heard_to_have_moved_on_also_where_none_has_a_lease() {
        let (_directory, repository) = given_up().await;
        let deployment = repository.get::<Deployment>(keys::deployment(&model())).await.unwrap().unwrap();
        let leadership = leader::acquire(repository.store(), &CancellationToken::new()).await.unwrap();
        // Somebody has listened for longer than a lease, and has heard nothing for as long.
        let begun = Timestamp::now() - Duration::from_secs(20);
        let hub = Hub::new(begun);
        (1..=20).for_each(|second| drop(hub.look(begun + Duration::from_secs(second))));
        let swept = async || sweep(&repository, &hub, &leadership.term(), &deployment).await.unwrap();
        let heard = |epoch| {
            let committed = [(model(), Committed { epoch: Epoch(epoch), at: begun })].into();
            hub.report_gateway(GatewayReport { committed, ..fixtures::gateway(REGION) }, begun);
        };
        hub.know_gateway(region(), fixtures::gateway(REGION).address);
        assert!(matches!(swept().await, Swept::StillServed), "it has never been heard of");
        heard(1);
        assert!(matches!(swept().await, Swept::StillServed), "it has not moved on");
        heard(2);
        assert!(matches!(swept().await, Swept::Clean), "it has, and tells others");
        let left = repository.get::<Assignment>(keys::assignment(&region(), &model())).await.unwrap();
        assert_eq!(left.unwrap().value.slots.into_keys().collect::<Vec<_>>(), [Slot::Blue]);
    }

    #[tokio::test]
    async fn a_world_without_gateways_waits_for_none() {
        let (_directory, repository) = given_up().await;
        let hub = Hub::new(Timestamp::now());
        let have_moved_on = async || have_gateways_moved_on(&repository, &hub, &model()).await.unwrap();
        assert!(have_moved_on().await);
        hub.know_gateway(region(), fixtures::gateway(REGION).address);
        assert!(!have_moved_on().await);
        hub.forget_gateway(&fixtures::gateway(REGION).address);
        assert!(have_moved_on().await);
    }
}
