//! Models that were scaled to zero, and what agents are told of demand.

use std::time::Duration;

use tradewind_api::agent::Endpoint;
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{EU, US, World, header, until},
};

async fn at_rest(world: &World, name: &str) {
    world.agents[name].rest();
    until(async || world.metric(name, "tradewind_gateway_replicas").await == 0).await;
}

/// So many users ask, and wait.
async fn ask(world: &World, name: &str, users: u64) -> Vec<tokio::task::JoinHandle<reqwest::Response>> {
    let ask = |_| {
        tokio::spawn({
            let request = world.infer(name);
            async move { request.send().await.unwrap() }
        })
    };
    let asked = (0..users).map(ask).collect();
    until(async || world.metric(name, "tradewind_gateway_requests_waiting_for_start").await == users).await;
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn users_wait_for_the_first_replica_and_none_is_lost() {
    let replica = Replica::start("us-0", Slot::Blue, 1, Duration::ZERO);
    let world = World::start(&[(US, &[&replica])]).await;
    at_rest(&world, US).await;
    assert_eq!(world.get(US, "/readyz").await.status(), 200, "a region at rest can serve");
    let asked = ask(&world, US, 50).await;
    world.agents[US].asked(|told| told.is_some_and(|told| told.asked && told.in_flight > 49.0)).await;
    world.agents[US].tell(&[&replica]);
    for response in asked {
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), header(&response, "x-tradewind-region")), (200, US.to_owned()));
    }
    world.agents[US].asked(|told| told.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_a_lost_region_go_to_one_at_rest_and_wake_it() {
    let us = Replica::start("us-0", Slot::Blue, 1, Duration::ZERO);
    let eu = Replica::start("eu-0", Slot::Blue, 1, Duration::ZERO);
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    at_rest(&world, EU).await;
    world.agents[US].tell(&[]);
    until(async || world.metric(US, "tradewind_gateway_replicas").await == 0).await;
    until(async || world.get(US, "/readyz").await.status() == 200).await;
    let asked = tokio::spawn(world.infer(US).send());
    world.agents[EU].asked(|told| told.is_some_and(|told| told.asked)).await;
    world.agents[EU].tell(&[&eu]);
    let response = asked.await.unwrap().unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "x-tradewind-region")), (200, EU.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_they_say_or_for_a_replica_that_does_not_come() {
    let replica = Replica::start("us-0", Slot::Blue, 1, Duration::ZERO);
    let world = World::start(&[(US, &[&replica])]).await;
    at_rest(&world, US).await;
    let hasty = world.infer(US).header("x-request-timeout", "300ms").send().await.unwrap();
    assert_eq!(hasty.status(), 503);
    let asked = ask(&world, US, 3).await;
    // It could not be started.
    world.agents[US].tell(&[]);
    for response in asked {
        assert_eq!(response.await.unwrap().status(), 503);
    }
    assert_eq!(world.get(US, "/readyz").await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_what_is_in_flight_and_what_was_too_short_to_be_seen() {
    let replica = Replica::start("us-0", Slot::Blue, 1, Duration::from_millis(20));
    let world = World::start(&[(US, &[&replica])]).await;
    let load = world.load(US, 8);
    world.agents[US].asked(|told| told.is_some_and(|told| told.in_flight > 4.0)).await;
    let answers = load.stop().await;
    assert!(answers.failed.is_empty(), "{:?}", answers.failed);
    world.agents[US].asked(|told| told.is_none()).await;
    world.served_by(US).await;
    world.agents[US].asked(|told| told.is_some_and(|told| told.asked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stay_the_same_when_there_are_to_be_more_or_fewer_of_them() {
    let two = ["us-0", "us-1"].map(|id| Replica::start(id, Slot::Blue, 1, Duration::ZERO));
    let elsewhere = Replica::start("eu-0", Slot::Blue, 1, Duration::ZERO);
    let world = World::start(&[(US, &[&two[0], &two[1]]), (EU, &[&elsewhere])]).await;
    for desired in [1, 2].repeat(10) {
        let endpoint = |replica: &Replica| Endpoint { desired, ..replica.endpoint() };
        world.agents[US].tell_of(two.iter().map(endpoint).collect());
        assert_eq!(world.served_by(US).await, US, "the region was never lost");
    }
    let load = world.load(US, 4);
    world.agents[US].asked(|told| told.is_some_and(|told| told.in_flight > 0.1)).await;
    let answers = load.stop().await;
    assert!(answers.failed.is_empty(), "{:?}", answers.failed);
    assert!(answers.good.iter().all(|(_, region, _)| region == US), "nobody was sent away");
}
