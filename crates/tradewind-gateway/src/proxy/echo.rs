//! Users who name an epoch that they have seen, and that this gateway has not heard of: they must not go back.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tradewind_core::{Epoch, ModelName};

use super::origin::Origin;
use crate::{reply::Reply, worker::Worker, world::World};

/// A gateway that is behind has so long to learn from others.
const PATIENCE: Duration = Duration::from_secs(1);

/// A world that knows what the user has seen: this one, or a newer one that comes in time. Nobody may have heard of the
/// epoch: then it means nothing. As long as another gateway that may have cannot be asked, the user is told to come back.
pub(super) async fn catch_up(
    worker: &Worker,
    world: Arc<World>,
    model: &str,
    origin: &Origin,
) -> Result<Arc<World>, Reply> {
    let Origin::User { seen: Some(seen), .. } = *origin else { return Ok(world) };
    let Some(known) = world.models.get(model) else { return Ok(world) };
    let is_known = known.committed.as_ref().is_some_and(|routed| routed.epoch() >= seen);
    if is_known || known.lane.is_unheard_of(seen) {
        return Ok(world);
    }
    if Box::pin(has_come(worker, &world, model, seen)).await {
        return Ok(worker.world().unwrap_or(world));
    }
    let mut peers = world.regions.values().flat_map(|region| &region.gateways);
    if peers.all(|peer| peer.target.healthy()) {
        known.lane.note_unheard_of(seen);
        return Ok(world);
    }
    Err(Reply::unavailable(format!("this gateway has not heard of epoch {seen} of model `{model}` yet")))
}

/// Has all others asked, and waits for what they know.
async fn has_come(worker: &Worker, world: &World, model: &str, seen: Epoch) -> bool {
    let Ok(model) = model.parse::<ModelName>() else { return false };
    let mut acknowledged = worker.gateway.acknowledged.subscribe();
    worker.gateway.behind.store(true, Ordering::Relaxed);
    world.regions.values().flat_map(|region| &region.gateways).for_each(|peer| peer.target.want_probe());
    let has_it = acknowledged.wait_for(|known| known.committed.get(&model).is_some_and(|known| known.epoch >= seen));
    timeout(PATIENCE, has_it).await.is_ok_and(|has_it| has_it.is_ok())
}
