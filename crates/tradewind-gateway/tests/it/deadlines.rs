//! How long a sender waits.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{EU, US, World},
};

const SLOW: Duration = Duration::from_secs(20);

fn replica(id: &str, delay: Duration) -> Replica {
    Replica::start(id, Slot::Blue, 1, delay)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_senders_time_is_kept_and_passed_on() {
    let eu = replica("eu", SLOW);
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    // At the replica's own gateway, and through another region's.
    for name in [EU, US] {
        let began = Instant::now();
        let late = world.infer(name).header("x-request-timeout", "300ms").send().await.unwrap();
        assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!((Duration::from_millis(300)..SLOW / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        let told = eu.last_header("x-request-timeout").unwrap();
        let left: u64 = told.strip_suffix("ms").unwrap().parse().unwrap();
        assert!(left > 0 && left < 300, "{told}: what is left of it");
    }
    let malformed = world.infer(US).header("x-request-timeout", "soon").send().await.unwrap();
    assert_eq!(malformed.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn impatient_senders_say_nothing_against_a_replica() {
    let replicas = [replica("one", SLOW), replica("other", SLOW)];
    let world = World::start(&[(US, &[&replicas[0], &replicas[1]])]).await;
    let asked: Vec<_> =
        (0..20).map(|_| tokio::spawn(world.infer(US).header("x-request-timeout", "100ms").send())).collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(world.metric(US, "tradewind_gateway_ejections_total").await, 0);
}
