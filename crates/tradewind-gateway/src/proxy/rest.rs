//! Users of a model that was scaled to zero: they wait here while its first replica starts.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tradewind_core::locality;

use super::{
    ask::Asked,
    origin::{Found, Origin, find},
};
use crate::{worker::Worker, world::World};

/// As long as an agent waits for a replica that starts.
const START_LIMIT: Duration = Duration::from_secs(600);

/// Whether it is the own region that is to answer, and it has to start a replica first. What comes for want of room
/// elsewhere wakes nobody.
pub(super) fn is_asleep(world: &World, found: Found<'_>, origin: &Origin) -> bool {
    let Found { name, serving, .. } = found;
    if !serving.resting {
        return false;
    }
    let own = &world.own;
    match origin {
        Origin::Peer { spilled, .. } => !spilled && world.condition(name, serving, own).eligible(),
        Origin::User { region, .. } => {
            let from = region.as_ref().unwrap_or(own);
            let order = world.order_from(from).unwrap_or(&world.order);
            locality::users_go_to(order, |region| world.condition_for(from, name, serving, region)) == Some(own)
        }
    }
}

/// Waits until there is a replica, or none is to be waited for any more. `None` when too many wait already.
pub(super) async fn wake(
    worker: &Worker,
    world: &Arc<World>,
    found: Found<'_>,
    asked: &mut Asked,
    origin: &Origin,
    user: Option<&[u8]>,
) -> Option<Arc<World>> {
    let _place = found.model.lane.wait_for_start()?;
    let mut world = Arc::clone(world);
    let mut composed = worker.gateway.composed.subscribe();
    worker.gateway.demand.wake();
    let until_awake = async {
        loop {
            composed.mark_unchanged();
            world = worker.world().unwrap_or_else(|| Arc::clone(&world));
            let found = find(&world, asked.named(), origin, user, || worker.random());
            if !found.is_ok_and(|found| is_asleep(&world, found, origin)) || composed.changed().await.is_err() {
                return;
            }
        }
    };
    // Who says how long an answer may take waits no longer; all others' time begins when there is a replica.
    let limit = if asked.deadline.is_the_senders() { asked.deadline.left() } else { START_LIMIT };
    // After that it is told what all are whom nobody can serve.
    let _ = timeout(limit, until_awake).await;
    asked.deadline.begin();
    Some(world)
}
