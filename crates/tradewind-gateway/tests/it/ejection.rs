//! Replicas that answer their probes, and users badly.

use std::time::Duration;

use axum::http::StatusCode;
use tradewind_api::gateway::{EXPLAIN_PATH, Explanation};
use tradewind_core::Slot;

use crate::{
    replica::{Mood, Replica},
    world::{MESH, US, World, until},
};

const FAILS: Mood = Mood::Fails(StatusCode::INTERNAL_SERVER_ERROR);
const EJECTIONS: &str = "tradewind_gateway_ejections_total";

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::ZERO)
}

async fn ask(world: &World, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(world.infer(US).send().await.unwrap().status().as_u16());
    }
    statuses
}

/// How many replicas are left out now.
async fn ejected(world: &World) -> usize {
    let url = world.gateways[US].url(&format!("{EXPLAIN_PATH}?model=digits"));
    let text = world.http.get(url).bearer_auth(MESH).send().await.unwrap().text().await.unwrap();
    let explanation: Explanation = serde_json::from_str(&text).unwrap();
    explanation.replicas.iter().filter(|replica| replica.ejected).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_answers_fail_is_left_out_then_tried_by_one_request_then_taken_back() {
    let (good, bad) = (replica("good"), replica("bad"));
    let world = World::start(&[(US, &[&good, &bad])]).await;
    bad.behave(FAILS);
    until(async || {
        ask(&world, 1).await;
        world.metric(US, EJECTIONS).await == 1
    })
    .await;
    assert_eq!((bad.served(), ejected(&world).await), (5, 1), "five failures in a row");
    let failed = ask(&world, 40).await.into_iter().filter(|status| *status != 200).count();
    // However slow this machine is: a failed trial doubles the time.
    assert!(failed <= 3, "{failed} of 40 reached it");

    bad.behave(Mood::Well);
    let before = bad.served();
    until(async || ask(&world, 1).await == [200] && bad.served() > before + 5).await;
    assert_eq!(ejected(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_fails_leaves_it_out_again() {
    let (good, bad) = (replica("good"), replica("bad"));
    let world = World::start(&[(US, &[&good, &bad])]).await;
    bad.behave(FAILS);
    until(async || {
        ask(&world, 1).await;
        world.metric(US, EJECTIONS).await == 3
    })
    .await;
    assert_eq!(bad.served(), 5 + 2, "five failures, then one for each trial");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_half_of_a_group_is_left_out_and_never_the_only_one() {
    for count in [1, 2, 4, 5] {
        let replicas: Vec<Replica> = (0..count).map(|n| replica(&format!("bad-{n}"))).collect();
        let world = World::start(&[(US, &replicas.iter().collect::<Vec<_>>())]).await;
        replicas.iter().for_each(|replica| replica.behave(FAILS));
        let asked = 20 * count;
        let statuses = ask(&world, asked).await;
        assert!(statuses.iter().all(|status| *status == 500), "answered by replicas: {statuses:?}");
        assert_eq!(replicas.iter().map(Replica::served).sum::<u64>(), asked as u64);
        let left_out = ejected(&world).await;
        assert!(
            left_out <= count / 2 && (count == 1 || world.metric(US, EJECTIONS).await > 0),
            "{left_out} of {count}"
        );
    }
}
