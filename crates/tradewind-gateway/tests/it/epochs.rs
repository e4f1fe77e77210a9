//! Gateways that control does not reach, and users who have seen what they have not heard of.

use std::time::Duration;

use tradewind_api::gateway::GatewaySnapshot;
use tradewind_core::{Epoch, Slot, route::RouteState};

use crate::{
    process::listener,
    replica::Replica,
    world::{Control, EU, Gateway, US, World, header, region, state, until},
};

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::ZERO)
}

/// The epoch of the answer to a user who says to have seen one.
async fn epoch_of(world: &World, seen: Option<u64>) -> (u16, String) {
    let request = world.infer(US);
    let request = match seen {
        Some(seen) => request.header("x-tradewind-epoch", seen),
        None => request,
    };
    let response = request.send().await.unwrap();
    (response.status().as_u16(), header(&response, "x-tradewind-epoch"))
}

/// A gateway of europe-west1 that another control plane has told of epoch 2, and which is the one that us-east1 knows.
async fn ahead(world: &World) -> (Control, Gateway) {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    world.control.change(|snapshot| {
        snapshot.regions.iter_mut().find(|members| members.name == region(EU)).unwrap().gateways = vec![address];
    });
    let known = world.control.snapshot.borrow().clone();
    let mut next = GatewaySnapshot { revision: known.revision + 1000, ..known };
    let committed = RouteState { epoch: Epoch(2), ..state(1, Slot::Blue, vec![region(US), region(EU)]) };
    next.routes[0].committed = Some(committed);
    let control = Control::start(next);
    let directory = world.directory.path().join("ahead");
    let gateway = Gateway::start(EU, listener, control.url(), directory);
    control.committed(EU, 2).await;
    (control, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_control_does_not_tell_is_learned_from_a_peer() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let _ahead = ahead(&world).await;
    until(async || epoch_of(&world, None).await == (200, "2".to_owned())).await;
    // What control says is older now, and refused: nobody goes back.
    world.control.change(|_| {});
    world.control.reported(US, |report| report.refused.is_some()).await;
    assert_eq!(epoch_of(&world, None).await, (200, "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_has_seen_a_newer_epoch_never_gets_an_older_one() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let _ahead = ahead(&world).await;
    assert_eq!(epoch_of(&world, Some(2)).await, (200, "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_has_heard_of_means_nothing_unless_somebody_cannot_be_asked() {
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    assert_eq!(epoch_of(&world, Some(1)).await, (200, "1".to_owned()));
    assert_eq!(epoch_of(&world, Some(99)).await, (200, "1".to_owned()));
    world.gateways.get_mut(EU).unwrap().kill();
    world.control.reported(US, |report| report.peers.iter().all(|peer| !peer.healthy)).await;
    assert_eq!(epoch_of(&world, Some(100)).await.0, 503);
    assert_eq!(epoch_of(&world, Some(99)).await, (200, "1".to_owned()), "it was asked for before");
    assert_eq!(epoch_of(&world, None).await, (200, "1".to_owned()));
}
