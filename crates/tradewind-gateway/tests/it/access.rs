//! The access log, and traces.

use std::{path::Path, time::Duration};

use serde_json::Value;
use tradewind_core::Slot;
use tradewind_gateway::{AccessLogOptions, Destination};

use crate::{
    process::listener,
    replica::Replica,
    world::{EU, Gateway, US, World, until},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Starts the gateway of the US anew, with a log of that part of its requests.
async fn with_log(world: &mut World, sample: f64, path: &Path) {
    world.gateways.get_mut(US).unwrap().stop().await;
    let directory = world.directory.path().join(US);
    let log = AccessLogOptions { destination: Destination::File(path.to_owned()), sample };
    let gateway =
        Gateway::with(US, listener(), world.control.url(), directory, |options| options.access_log = Some(log));
    world.gateways.insert(US, gateway);
    world.ready(US).await;
}

/// The lines, when there are so many.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until(async || read().len() >= count).await;
    let lines = read();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_line_wherever_it_is_answered() {
    let replica = |id| Replica::start(id, Slot::Blue, 1, Duration::from_millis(2));
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let path = world.directory.path().join("access.log");
    with_log(&mut world, 1.0, &path).await;

    let infer = || world.infer(US).header("x-request-id", "abc").header("x-tradewind-user", "ada");
    let answer = infer().header("traceparent", PARENT).header("tracestate", "a=1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let length = answer.bytes().await.unwrap().len();
    let seen = us.last_headers.lock().unwrap().clone();
    assert_eq!((&seen["traceparent"], &seen["tracestate"]), (&PARENT.parse().unwrap(), &"a=1".parse().unwrap()));
    let mut line = lines(&path, 1).await.remove(0);
    let duration = line["duration_us"].take().as_u64().unwrap();
    assert!(duration >= 2000, "{duration}");
    let (time, user) = (line["time"].take(), line["user"].take());
    assert!(time.as_str().unwrap().ends_with('Z'));
    assert_eq!(user.as_str().unwrap().len(), 16);
    let expected = serde_json::json!({
        "time": null, "request_id": "abc", "trace_id": TRACE, "model": "digits", "method": "POST",
        "path": "/v2/models/digits/infer", "status": 200, "outcome": "ok", "region": US, "slot": "blue", "revision": 1,
        "replica": "us", "bytes_in": 2, "bytes_out": length, "duration_us": null, "retries": 0, "spilled": false,
        "user": null,
    });
    assert_eq!(line, expected);

    us.kill();
    infer().send().await.unwrap().bytes().await.unwrap();
    let line = lines(&path, 2).await.remove(1);
    assert_eq!((&line["region"], &line["replica"], &line["user"]), (&EU.into(), &Value::Null, &user));
    assert!(line["retries"].as_u64().unwrap() <= 1);
    // A trace was begun, and the other region knows it.
    let seen = eu.last_headers.lock().unwrap()["traceparent"].to_str().unwrap().to_owned();
    assert_eq!(seen[3..35], line["trace_id"]);

    world.http.get(world.gateways[US].url("/v2/models/none/ready")).send().await.unwrap();
    let line = lines(&path, 3).await.remove(2);
    assert_eq!(
        (&line["status"], &line["outcome"], &line["model"]),
        (&404.into(), &"client_error".into(), &Value::Null)
    );

    // As logrotate does.
    let rotated = path.with_extension("1");
    std::fs::rename(&path, &rotated).unwrap();
    let count = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    until(async || {
        infer().send().await.unwrap();
        count(&path) > 0
    })
    .await;
    world.gateways.get_mut(US).unwrap().stop().await;
    assert!(count(&rotated) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_logged_whatever_the_sample() {
    let us = Replica::start("us", Slot::Blue, 1, Duration::from_millis(2));
    let mut world = World::start(&[(US, &[&us])]).await;
    let path = world.directory.path().join("access.log");
    with_log(&mut world, 0.0, &path).await;
    assert_eq!(world.served_by(US).await, US);
    assert!(!us.last_headers.lock().unwrap().contains_key("traceparent"), "who is not logged is not marked");
    us.kill();
    until(async || world.infer(US).send().await.unwrap().status() == 503).await;
    world.gateways.get_mut(US).unwrap().stop().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["status"], &last["outcome"], &last["trace_id"]),
        (&503.into(), &"unavailable".into(), &Value::Null)
    );
    assert!(!text.contains("\"ok\""));
}
