//! Users who name an epoch that they have seen, and that this gateway has not heard of: they must not go back.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tradewind_core::Epoch;

use super::origin::Origin;
use crate::{peer::Peer, reply::Reply, worker::Worker, world::World};

/// A gateway that is behind has so long to learn from others.
const PATIENCE: Duration = Duration::from_secs(1);

/// A world that knows what the user has seen: this one, or a newer one that comes in time. Nobody may have heard of the
/// epoch: then it means nothing. That is asked anew each time, since it says nothing of later. As long as another gateway
/// that may have heard of it cannot be asked, the user is told to come back.
pub(super) async fn catch_up(
    worker: &Worker,
    world: Arc<World>,
    model: &str,
    origin: &Origin,
) -> Result<Arc<World>, Reply> {
    let Origin::User { seen: Some(seen), .. } = *origin else { return Ok(world) };
    if has_heard(&world, model, seen) {
        return Ok(world);
    }
    let told = Box::pin(ask_around(worker, world, model, seen)).await;
    told.ok_or_else(|| Reply::unavailable(format!("this gateway has not heard of epoch {seen} of model `{model}` yet")))
}

/// Of a model that is not routed there is nothing to hear.
fn has_heard(world: &World, model: &str, seen: Epoch) -> bool {
    let Some(known) = world.models.get(model) else { return true };
    known.committed.as_ref().is_some_and(|routed| routed.epoch() >= seen)
}

/// Asks all others, and waits until somebody has told of the epoch or all have said that they know no more than this
/// gateway does.
async fn ask_around(worker: &Worker, mut world: Arc<World>, model: &str, seen: Epoch) -> Option<Arc<World>> {
    let mut acknowledged = worker.gateway.acknowledged.subscribe();
    let mut answers = worker.gateway.questions.answers();
    let question = worker.gateway.questions.ask()?;
    world.peers().for_each(|peer| peer.target.want_probe());
    let told = async {
        loop {
            world = worker.world().unwrap_or(world);
            let own = world.snapshot.revision;
            let knows_no_more = |peer: &Arc<Peer>| peer.has_answered(question.number) && peer.config_revision() <= own;
            if has_heard(&world, model, seen) || world.peers().all(knows_no_more) {
                return world;
            }
            tokio::select! {
                _ = acknowledged.changed() => {}
                _ = answers.changed() => {}
            }
        }
    };
    timeout(PATIENCE, told).await.ok()
}
