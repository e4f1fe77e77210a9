//! Answers that come bit by bit.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, response::Response, routing::any};
use futures_util::StreamExt;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{DEADLINE, EU, US, World, header, region, state},
};

/// A replica whose only answer is what a test says bit by bit.
fn telling(id: &str) -> (Replica, mpsc::UnboundedSender<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let answer = async move || {
        let told = UnboundedReceiverStream::new(told.lock().unwrap().take().unwrap());
        let body = Body::from_stream(told.map(Ok::<_, Infallible>));
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    };
    (Replica::serving(id, Router::new().route("/v2/models/digits/infer", any(answer))), tell)
}

async fn next(answer: &mut reqwest::Response) -> Option<String> {
    let piece = timeout(DEADLINE, answer.chunk()).await.expect("not held back").unwrap();
    piece.map(|piece| String::from_utf8(piece.to_vec()).unwrap())
}

async fn check(from: &'static str) {
    let (old, tell) = telling("old");
    let new = Replica::start("new", Slot::Green, 2, Duration::ZERO);
    let world = World::start(&[(EU, &[&old]), (US, &[])]).await;
    tell.send("data: 1\n\n").unwrap();
    let mut answer = world.infer(from).send().await.unwrap();
    assert_eq!(header(&answer, "content-type"), "text/event-stream");
    assert_eq!(next(&mut answer).await.unwrap(), "data: 1\n\n", "before there is more");

    world.agents[EU].tell(&[&old, &new]);
    world.control.change(|snapshot| {
        snapshot.routes[0].committed = Some(state(2, Slot::Green, vec![region(EU)]));
    });
    for name in [US, EU] {
        world.control.committed(name, 2).await;
    }
    assert_eq!(world.served_by(from).await, EU);
    world.agents[EU].tell(&[&new]);
    assert_eq!(world.served_by(from).await, EU);
    for piece in ["data: 2\n\n", "data: 3\n\n"] {
        tell.send(piece).unwrap();
        assert_eq!(next(&mut answer).await.unwrap(), piece, "the old one still talks");
    }
    drop(tell);
    assert_eq!(next(&mut answer).await, None);
    assert!(new.served() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_passed_on_as_it_comes_and_survives_a_switch() {
    check(EU).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_is_a_stream_from_another_region() {
    check(US).await;
}
