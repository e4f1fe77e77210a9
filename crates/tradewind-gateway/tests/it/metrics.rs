//! What a gateway counts, as Prometheus reads it after traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::http::StatusCode;
use tradewind_core::Slot;

use crate::{
    replica::{Mood, Replica},
    world::{EU, US, World, until},
};

/// All series by name: labels (without those of histograms' buckets) and value.
async fn scrape(world: &World, name: &str) -> BTreeMap<String, Vec<(String, f64)>> {
    let response = world.get(name, "/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    let mut series: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    let mut described = BTreeSet::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# TYPE ") {
            assert!(described.insert(comment.split(' ').next().unwrap()), "twice: {line}");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = head.split_once('{').unwrap_or((head, "}"));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(described.contains(base) || described.contains(name), "not described: {line}");
        let labels = labels.strip_suffix('}').unwrap().to_owned();
        series.entry(name.to_owned()).or_default().push((labels, value.parse().unwrap()));
    }
    series
}

fn labels(region: &str) -> String {
    format!("model=\"digits\",region=\"{region}\",slot=\"blue\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_what_befell_them_are_counted_by_model_region_and_slot() {
    let (good, bad) =
        (Replica::start("good", Slot::Blue, 1, Duration::ZERO), Replica::start("bad", Slot::Blue, 1, Duration::ZERO));
    let (good, bad) = (good.limited(4), bad.limited(4));
    let eu = Replica::start("eu", Slot::Blue, 1, Duration::from_millis(1500)).limited(1);
    let world = World::start(&[(US, &[&good, &bad]), (EU, &[&eu])]).await;
    bad.behave(Mood::Fails(StatusCode::INTERNAL_SERVER_ERROR));
    let mut asked = 0;
    until(async || bad.served() >= 5 || world.infer(US).send().await.is_err()).await;
    asked += good.served() + bad.served();
    let spilled: Vec<_> = (0..3).map(|_| tokio::spawn(world.infer(EU).send())).collect();
    for answer in spilled {
        assert!(answer.await.unwrap().unwrap().status().as_u16() != 502);
    }
    for full in [&good, &bad] {
        full.behave(Mood::Fails(StatusCode::SERVICE_UNAVAILABLE));
    }
    assert_eq!(world.served_by(US).await, EU);

    let series = scrape(&world, US).await;
    let value = |name: &str, labels: &str| {
        let of_name = series.get(&format!("tradewind_gateway_{name}")).unwrap_or_else(|| panic!("no {name}"));
        let found = of_name.iter().find(|(known, _)| known == labels);
        found.unwrap_or_else(|| panic!("{name} has no {labels}: {of_name:?}")).1 as u64
    };
    let outcome =
        |region: &str, outcome: &str| value("requests_total", &format!("{},outcome=\"{outcome}\"", labels(region)));
    assert_eq!((outcome(US, "ok"), outcome(US, "server_error")), (asked - 5, 5));
    assert_eq!(outcome(EU, "ok"), 1);
    assert_eq!(value("request_duration_seconds_count", &labels(US)), asked);
    assert_eq!(value("request_duration_seconds_bucket", &format!("{},le=\"+Inf\"", labels(EU))), 1);
    // A trial that fails counts again.
    assert!(value("ejections_total", &labels(US)) >= 1);
    assert_eq!(value("retries_total", &labels(EU)), 1);
    assert_eq!(value("replicas", &format!("{},state=\"down\"", labels(US))), 0);
    assert_eq!(value("replica_requests_limit", &labels(US)), 8);
    assert_eq!((value("replica_requests_in_flight", &labels(US)), value("requests_in_flight", "")), (0, 0));
    assert_eq!(
        scrape(&world, EU).await["tradewind_gateway_spilled_total"].iter().map(|(_, count)| count).sum::<f64>() as u64,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_say_makes_no_labels() {
    let us = Replica::start("us", Slot::Blue, 1, Duration::ZERO);
    let world = World::start(&[(US, &[&us])]).await;
    world.served_by(US).await;
    let count = async || scrape(&world, US).await.values().map(Vec::len).sum::<usize>();
    let before = count().await;
    for n in 0..20 {
        let path = format!("/v2/models/digits-{n}/infer");
        let request = world.http.post(world.gateways[US].url(&path)).header("x-tradewind-user", format!("user-{n}"));
        assert_eq!(request.header("x-request-id", format!("id-{n}")).send().await.unwrap().status(), 404);
        let known = world.infer(US).header("x-tradewind-client-region", format!("nowhere-{n}")).send().await.unwrap();
        assert_eq!(known.status(), 200);
    }
    assert_eq!(count().await, before);
}
