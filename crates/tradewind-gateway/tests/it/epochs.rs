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

/// From now on us-east1 knows these gateways of a region.
async fn know(world: &World, name: &str, gateways: Vec<String>) {
    world.control.change(|snapshot| {
        snapshot.regions.iter_mut().find(|members| members.name == region(name)).unwrap().gateways = gateways;
    });
    let revision = world.control.snapshot.borrow().revision;
    world.control.reported(US, |report| report.config.as_ref().is_some_and(|config| config.revision >= revision)).await;
}

/// A gateway of a region that another control plane has told of epoch 2. Beside `others`, it is the one of that region
/// that us-east1 knows.
async fn ahead(world: &World, name: &str, others: Vec<String>) -> (Control, Gateway) {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    know(world, name, others.into_iter().chain([address]).collect()).await;
    let known = world.control.snapshot.borrow().clone();
    let mut next = GatewaySnapshot { revision: known.revision + 1000, ..known };
    let committed = RouteState { epoch: Epoch(2), ..state(1, Slot::Blue, vec![region(US), region(EU)]) };
    next.routes[0].committed = Some(committed);
    let control = Control::start(next);
    let directory = world.directory.path().join("ahead");
    let gateway = Gateway::start(name, listener, control.url(), directory);
    control.committed(name, 2).await;
    (control, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_control_does_not_tell_is_learned_from_a_peer() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let _ahead = ahead(&world, EU, Vec::new()).await;
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
    let _ahead = ahead(&world, EU, Vec::new()).await;
    assert_eq!(epoch_of(&world, Some(2)).await, (200, "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_keeps_cookies_never_gets_an_older_epoch() {
    let us = replica("us");
    let world = World::start(&[(US, &[&us])]).await;
    let start = |world: &World, name: &str, epoch_cookie: bool| {
        let directory = world.directory.path().join(name);
        Gateway::with(US, listener(), world.control.url(), directory, |options| options.epoch_cookie = epoch_cookie)
    };
    let (with, without) = (start(&world, "with", true), start(&world, "without", false));
    let ask = async |gateway: &Gateway, model: &str, cookie: &str| {
        let request = world.http.post(gateway.url(&format!("/v2/models/{model}/infer"))).body("{}");
        let response = request.header("cookie", cookie).send().await.unwrap();
        (response.status().as_u16(), header(&response, "x-tradewind-epoch"), header(&response, "set-cookie"))
    };
    until(async || ask(&with, "digits", "").await.0 == 200 && ask(&without, "digits", "").await.0 == 200).await;

    let answer = |epoch: &str, cookie: &str| (200, epoch.to_owned(), cookie.to_owned());
    let given = "tradewind-epoch=1; Path=/v2/models/digits; HttpOnly; SameSite=Lax";
    assert_eq!(ask(&with, "digits", "theme=dark").await, answer("1", given));
    assert_eq!(ask(&with, "digits", "theme=dark; tradewind-epoch=1").await, answer("1", ""), "it has it already");
    assert_eq!(ask(&with, "digits", "tradewind-epoch=x").await, answer("1", given));
    assert_eq!(ask(&without, "digits", "tradewind-epoch=9").await, answer("1", ""));
    assert_eq!(ask(&with, "unknown", "").await.2, "", "there is no epoch of what is not there");

    // It has seen what this gateway has not heard of.
    let ahead = ahead(&world, US, vec![world.gateways[US].address.to_string()]).await;
    let renewed = given.replace('1', "2");
    assert_eq!(ask(&with, "digits", "tradewind-epoch=2").await, answer("2", ""));
    assert_eq!(ask(&with, "digits", "tradewind-epoch=1").await, answer("2", &renewed));
    drop(ahead);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_of_one_region_learn_from_each_other() {
    let us = replica("us");
    let world = World::start(&[(US, &[&us])]).await;
    let own = world.gateways[US].address.to_string();
    let _ahead = ahead(&world, US, vec![own]).await;
    assert_eq!(epoch_of(&world, Some(2)).await, (200, "2".to_owned()));
    assert_eq!(world.control.reported(US, |_| true).await.peers, [], "nobody is sent from one to the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_has_heard_of_means_nothing_unless_somebody_cannot_be_asked() {
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    assert_eq!(epoch_of(&world, Some(1)).await, (200, "1".to_owned()));
    assert_eq!(epoch_of(&world, Some(99)).await, (200, "1".to_owned()));
    world.gateways.get_mut(EU).unwrap().kill();
    world.control.reported(US, |report| report.peers.iter().all(|peer| !peer.healthy)).await;
    assert_eq!(epoch_of(&world, Some(99)).await.0, 503, "it may have heard of it since it was asked");
    assert_eq!(epoch_of(&world, None).await, (200, "1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_names_an_epoch_that_nobody_has_heard_of_takes_none_from_others() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    for stray in [99, u64::MAX] {
        assert_eq!(epoch_of(&world, Some(stray)).await, (200, "1".to_owned()));
    }
    let _ahead = ahead(&world, EU, Vec::new()).await;
    assert_eq!(epoch_of(&world, Some(2)).await, (200, "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_answered_was_not_asked() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    // Connections to it are made, and nobody reads what they carry: until a probe has run out of time, it passes for well.
    let silent = listener();
    know(&world, EU, vec![silent.local_addr().unwrap().to_string()]).await;
    assert_eq!(epoch_of(&world, Some(99)).await.0, 503);
    assert_eq!(epoch_of(&world, None).await, (200, "1".to_owned()));
}
