//! Regions that give up what they run, for a revision that they have no room for beside it.

use tradewind_core::{
    RegionName, Timestamp,
    event::{EventKind, Severity},
    rollout::{RegionRecord, Rollout},
    route::{Route, RouteState},
};
use tradewind_store::Txn;

use super::{
    worker::{BATCH, write_route},
    working::Working,
};
use crate::{
    admission, keys,
    repository::{Repository, Result, put},
};

/// Nobody is sent to these regions for what is live, at a new epoch. Should the rollout end early, what is live comes back
/// there: the records of the rollout that brought it say from now on that it is deferred. Of many regions the first few give
/// way, and the planner asks again for the others.
pub(super) async fn give_way(
    repository: &Repository,
    working: &Working,
    regions: &[RegionName],
    now: Timestamp,
) -> Result<Txn> {
    let (rollout, deployment) = (&working.rollout.value, &working.deployment.value);
    let regions = &regions[..regions.len().min(BATCH)];
    let mut txn = match working.served().filter(|state| state.regions.iter().any(|region| regions.contains(region))) {
        Some(state) => reroute(working, state, regions, now),
        None => Txn::new(),
    };
    txn = txn.when(working.deployment.unchanged()).when(working.rollout.unchanged());
    for record in regions.iter().filter_map(|region| working.record(region)) {
        let mut record = record.clone();
        record.make_room(rollout, now);
        txn = txn.then(put(keys::record(&rollout.model, rollout.records(), &record.region), &record));
    }
    let Some(number) = deployment.live_rollout else { return Ok(txn) };
    let live = repository.get::<Rollout>(keys::rollout(&rollout.model, number)).await?;
    let records = live.map_or(number, |kept| kept.value.records());
    for region in regions {
        let kept = repository.get::<RegionRecord>(keys::record(&rollout.model, records, region)).await?;
        if let Some(mut kept) = kept {
            let unchanged = kept.unchanged();
            kept.value.give_way();
            txn = txn.when(unchanged).then(put(&kept.key, &kept.value));
        }
    }
    Ok(txn)
}

/// What is live without these regions, at the next epoch.
fn reroute(working: &Working, state: &RouteState, regions: &[RegionName], now: Timestamp) -> Txn {
    let rollout = &working.rollout.value;
    let mut deployment = working.deployment.value.clone();
    deployment.latest_epoch = working.epoch().next();
    let epoch = deployment.latest_epoch;
    let route = Route {
        model: rollout.model.clone(),
        committed: Some(state.without_regions(regions, epoch)),
        prepared: None,
        pins: working.pins(),
    };
    let names = regions.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    let makes = if regions.len() == 1 { "makes" } else { "make" };
    let message = format!(
        "{names} {makes} room for revision {} at epoch {epoch}: users there are served elsewhere",
        rollout.revision
    );
    write_route(working, &route).then(put(&working.deployment.key, &deployment)).then(admission::event(
        now,
        &rollout.model,
        EventKind::RouteCommitted,
        Severity::Info,
        message,
    ))
}
