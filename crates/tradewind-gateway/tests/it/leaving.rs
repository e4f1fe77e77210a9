//! Users who leave before they are answered.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, response::Response, routing::any};
use futures_util::StreamExt;

use crate::{
    replica::Replica,
    world::{EU, US, World, until},
};

/// What goes on in a replica.
#[derive(Debug, Clone, Default)]
struct Work {
    begun: Arc<AtomicU64>,
    given_up: Arc<AtomicU64>,
}

impl Work {
    fn begin(&self) -> Begun {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Begun(self.clone())
    }

    fn counts(&self) -> (u64, u64) {
        (self.begun.load(Ordering::SeqCst), self.given_up.load(Ordering::SeqCst))
    }
}

/// Work that never ends by itself.
#[derive(Debug)]
struct Begun(Work);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

/// Cancelled requests of a gateway that were answered, or would have been, by the region in Europe.
async fn cancelled(world: &World, name: &str, region: &str) -> u64 {
    let labels = format!("model=\"digits\",region=\"{region}\",slot=\"blue\",outcome=\"cancelled\"");
    world.metric(name, &format!("tradewind_gateway_requests_total{{{labels}}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_learns_that_nobody_waits_any_more() {
    let work = Work::default();
    let never = work.clone();
    let answer = async move || {
        let _begun = never.begin();
        std::future::pending::<()>().await;
    };
    let eu = Replica::serving("eu", Router::new().route("/v2/models/digits/infer", any(answer)));
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    for (times, name) in [(1, EU), (2, US)] {
        let user = tokio::spawn(world.infer(name).send());
        until(async || work.counts() == (times, times - 1)).await;
        user.abort();
        until(async || work.counts() == (times, times)).await;
        until(async || world.metric(name, "tradewind_gateway_requests_in_flight").await == 0).await;
        assert_eq!(cancelled(&world, name, name).await, 1, "{name}");
    }
    assert_eq!(world.metric(US, "tradewind_gateway_retries_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_reader_leaves() {
    let work = Work::default();
    let never = work.clone();
    let answer = async move || {
        let begun = never.begin();
        let first = futures_util::stream::iter([Ok::<_, Infallible>("data: 1\n\n")]);
        let rest = futures_util::stream::once(async move {
            let _begun = begun;
            std::future::pending().await
        });
        Response::new(Body::from_stream(first.chain(rest)))
    };
    let eu = Replica::serving("eu", Router::new().route("/v2/models/digits/infer", any(answer)));
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    for (times, name) in [(1, EU), (2, US)] {
        let mut answer = world.infer(name).send().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "data: 1\n\n");
        assert_eq!(work.counts(), (times, times - 1));
        drop(answer);
        until(async || work.counts() == (times, times)).await;
        until(async || cancelled(&world, name, EU).await == 1).await;
    }
}
