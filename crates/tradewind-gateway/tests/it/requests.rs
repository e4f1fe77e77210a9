//! One request at a time: where it goes, what is refused, and what crosses the gateway.

use std::{sync::atomic::Ordering, time::Duration};

use reqwest::StatusCode;
use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{ASIA, EU, MESH, US, World, header, until},
};

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_served_by_the_nearest_region() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu]), (ASIA, &[])]).await;
    let response = world.infer(US).header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(header(&response, "x-tradewind-region"), US);
    assert_eq!(header(&response, "x-tradewind-slot"), "blue");
    assert_eq!(header(&response, "x-tradewind-revision"), "1");
    assert_eq!(header(&response, "x-tradewind-epoch"), "1");
    assert_eq!(header(&response, "x-request-id"), "mine-1");
    assert_eq!(world.served_by(EU).await, EU);
    // Asia has no replica. On loopback all are equally near, so either may serve it.
    let from_asia = world.served_by(ASIA).await;
    assert!([US, EU].contains(&from_asia.as_str()), "{from_asia}");
    // A user of another region is served as if it had entered there, and one of nowhere as one of here.
    let from = async |client: &str| {
        let request = world.infer(ASIA).header("x-tradewind-client-region", client);
        header(&request.send().await.unwrap(), "x-tradewind-region")
    };
    assert_eq!(from(EU).await, EU);
    assert_eq!(from(US).await, US);
    // Which of the two is nearer may change meanwhile on a busy machine.
    let from_atlantis = from("atlantis").await;
    assert!([from_asia, world.served_by(ASIA).await].contains(&from_atlantis), "{from_atlantis}");

    let report = world
        .control
        .reported(ASIA, |report| {
            report.traffic.iter().map(|traffic| traffic.requests).sum::<u64>() == 5
                && report.traffic.iter().any(|traffic| traffic.p50_us > 0)
        })
        .await;
    assert!(report.traffic.iter().all(|traffic| traffic.errors == 0 && traffic.region.as_str() != ASIA));
    let metrics = world.get(ASIA, "/metrics").await.text().await.unwrap();
    let line =
        "tradewind_gateway_requests_total{model=\"digits\",region=\"europe-west1\",slot=\"blue\",outcome=\"ok\"}";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_users_is_refused() {
    let us = replica("us");
    let world = World::start(&[(US, &[&us])]).await;
    for (path, status) in [
        ("/v2/repository/models/digits/load", StatusCode::FORBIDDEN),
        ("/v2/models/nosuch/infer", StatusCode::NOT_FOUND),
        ("/v2/models/digits/versions/9/infer", StatusCode::NOT_FOUND),
        ("/v2/models/digits%2Finfer", StatusCode::BAD_REQUEST),
        ("/elsewhere", StatusCode::NOT_FOUND),
    ] {
        let response = world.http.post(world.gateways[US].url(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(&response, "x-request-id").len(), 32, "{path}");
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert!(body["error"].is_string(), "{path}: {body}");
        assert!(!body.to_string().contains("127.0.0.1"), "{path}: {body}");
    }
    assert_eq!(us.served.load(Ordering::SeqCst), 0);
    for path in ["/v2", "/v2/health/live", "/v2/health/ready", "/healthz", "/readyz", "/metrics", "/v2/models/digits"] {
        assert_eq!(world.get(US, path).await.status(), 200, "{path}");
    }
    for (path, key) in [("/v2/health/live", "live"), ("/v2/health/ready", "ready")] {
        let body = world.get(US, path).await.bytes().await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), serde_json::json!({ key: true }));
    }
    assert_eq!(world.get(US, "/v2/models/digits/versions/1/ready").await.status(), 200);
    assert_eq!(world.get(US, "/v1/peer").await.status(), 401);
    let peer = world.http.get(world.gateways[US].url("/v1/peer")).bearer_auth(MESH).send().await.unwrap();
    assert_eq!(peer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_headers_do_not_cross() {
    let eu = replica("eu");
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    // With the right token it would be served here or not at all; with a forged one it is a user's request.
    let forged = world.infer(US).header("x-tradewind-peer", "forged").header("x-tradewind-epoch", "99");
    let response = forged.header("x-tradewind-user", "ada").send().await.unwrap();
    assert_eq!((response.status(), header(&response, "x-tradewind-region").as_str()), (StatusCode::OK, EU));
    let seen = eu.last_headers.lock().unwrap().clone();
    assert_eq!(seen.get("x-tradewind-peer"), None);
    assert_eq!(seen.get("x-tradewind-epoch"), None);
    assert_eq!(seen["x-tradewind-user"], "ada");

    let passed_on = world.infer(US).header("x-tradewind-peer", MESH).send().await.unwrap();
    assert_eq!(passed_on.status(), StatusCode::SERVICE_UNAVAILABLE, "a request is passed on once");
    assert!(passed_on.headers().contains_key("x-tradewind-unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_all_sizes_arrive_and_the_largest_are_refused() {
    let eu = replica("eu");
    let world = World::start(&[(US, &[]), (EU, &[&eu])]).await;
    for size in [0, 1, 64 << 10, (64 << 10) + 1, 3 << 20] {
        let response = world.infer(US).body(vec![b'x'; size]).send().await.unwrap();
        assert_eq!(response.status(), 200, "{size}");
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(body["size"], size);
    }
    let chunks = futures_util::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10])));
    let response = world.infer(US).body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(body["size"], 40 * (64 << 10), "without a length");

    let length = (64 << 20) + 1;
    let too_large = world.infer(EU).header("content-length", length).body(vec![b'x'; length]);
    // The answer may come before the body was taken, which some clients see as a broken connection.
    if let Ok(response) = too_large.send().await {
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(eu.served.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_on_the_same_port() {
    let us = replica("us");
    let world = World::start(&[(US, &[&us])]).await;
    let stream = tokio::net::TcpStream::connect(world.gateways[US].address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let uri = world.gateways[US].url("/v2/models/digits/infer");
    let request = http::Request::post(uri).body(axum::body::Body::from("{}")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-tradewind-region"]), (200, &US.parse().unwrap()));
    driver.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_replica_the_answer_says_what_is_missing() {
    let us = replica("us");
    let world = World::start(&[(US, &[&us])]).await;
    us.kill();
    // A request that is sent as it dies is lost with it, which is another answer.
    until(async || world.get(US, "/readyz").await.status() == StatusCode::SERVICE_UNAVAILABLE).await;
    let response = world.infer(US).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&response, "retry-after"), "1");
    let body = response.text().await.unwrap();
    assert!(body.contains("digits") && body.contains("us-east1 has no ready replica"), "{body}");
    let readyz = world.get(US, "/readyz").await;
    assert_eq!(readyz.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(readyz.text().await.unwrap().contains("us-east1 has no ready replica"));
}
