//! More requests than a region can take.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{ASIA, EU, MESH, US, World, header, region, until},
};

const SLOW: Duration = Duration::from_millis(1500);

fn replica(id: &str, limit: u32, delay: Duration) -> Replica {
    Replica::start(id, Slot::Blue, 1, delay).limited(limit)
}

/// Asks so many times at once; the regions that answered.
async fn at_once(world: &World, name: &str, count: usize) -> Vec<String> {
    let asked: Vec<_> = (0..count).map(|_| tokio::spawn(world.infer(name).send())).collect();
    let mut regions = Vec::new();
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        regions.push(header(&answer, "x-tradewind-region"));
    }
    regions
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_limits_goes_to_who_has_room() {
    let (us, eu) = (replica("us", 2, SLOW), replica("eu", 20, SLOW));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let regions = at_once(&world, US, 6).await;
    assert_eq!(regions.iter().filter(|region| *region == US).count(), 2, "{regions:?}");
    assert_eq!((us.served(), eu.served()), (2, 4));
    assert_eq!(world.metric(US, "tradewind_gateway_spilled_total").await, 4);
    assert_eq!(world.metric(EU, "tradewind_gateway_peer_requests_total").await, 4);
    // With room again, they are served at home.
    assert_eq!(at_once(&world, US, 2).await, [US, US]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spilled_request_is_taken_where_there_is_room_to_spare_and_never_passed_on() {
    let (eu, asia) = (replica("eu", 2, SLOW), replica("asia", 20, Duration::ZERO));
    let world = World::start(&[(EU, &[&eu]), (ASIA, &[&asia])]).await;
    let spilled = || {
        let request = world.infer(EU).header("x-tradewind-peer", MESH).header("x-tradewind-spill", "1");
        request.header("x-tradewind-epoch", "1").send()
    };
    let own = tokio::spawn(world.infer(EU).send());
    until(async || world.metric(EU, "tradewind_gateway_requests_in_flight").await == 1).await;
    // Of two places one is taken, and a tenth is kept for its own users.
    let declined = spilled().await.unwrap();
    assert_eq!(declined.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&declined, "x-tradewind-unavailable"), "full");
    assert_eq!(own.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!((eu.served(), asia.served()), (1, 0));
    until(async || world.metric(EU, "tradewind_gateway_requests_in_flight").await == 0).await;
    assert_eq!(spilled().await.unwrap().status(), StatusCode::OK);
    assert_eq!((eu.served(), asia.served()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_stay_in_the_regions_that_a_model_is_bound_to() {
    let (us, eu) = (replica("us", 20, Duration::ZERO), replica("eu", 2, Duration::ZERO));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    world.control.change(|snapshot| {
        let state = snapshot.routes[0].committed.as_mut().unwrap();
        state.epoch.0 += 1;
        state.stay_in = [region(EU)].into();
    });
    for name in [US, EU] {
        world.control.committed(name, 2).await;
    }
    assert_eq!((world.served_by(EU).await.as_str(), world.served_by(US).await.as_str()), (EU, US));
    let before = us.served();
    eu.kill();
    for _ in 0..5 {
        // The first may have been on its way to the replica.
        assert!(world.infer(EU).send().await.unwrap().status().is_server_error());
    }
    assert_eq!(us.served(), before, "users of a region that it is bound to stay there");
    assert_eq!(world.served_by(US).await, US);
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_answered_quickly_and_who_waits_waits_within_bounds() {
    let us = replica("us", 1, Duration::from_secs(4));
    let world = World::start(&[(US, &[&us])]).await;
    let began = Instant::now();
    let asked: Vec<_> = (0..300)
        .map(|_| {
            let request = world.infer(US);
            tokio::spawn(async move { (request.send().await.unwrap(), began.elapsed()) })
        })
        .collect();
    let (mut served, mut refused) = (0, Vec::new());
    for answer in asked {
        let (answer, after) = answer.await.unwrap();
        match answer.status() {
            StatusCode::OK => served += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(header(&answer, "retry-after"), "1");
                refused.push(after);
            }
            other => panic!("{other}"),
        }
    }
    refused.sort_unstable();
    assert_eq!((served, refused.len()), (1, 299), "one at a time");
    assert_eq!(world.metric(US, "tradewind_gateway_overload_total").await, 299);
    // All but the 256 who may wait were refused before anybody had waited in vain.
    assert!(3 * refused[42] < 2 * refused[298], "{:?} and {:?}", refused[42], refused[298]);
    assert!(refused[298] < Duration::from_secs(4), "nobody waits longer than a second: {:?}", refused[298]);
}
