//! What the agent answers to others.

use reqwest::StatusCode;
use tradewind_api::agent::{ENDPOINTS_PATH, LOGS_PATH};

use crate::{
    fake_control::TOKEN,
    world::{MESH_TOKEN, World, good},
};

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_and_logs_are_for_holders_of_the_mesh_token() {
    let world = World::start().await;
    let logs = format!("{LOGS_PATH}?model=digits");
    for path in [ENDPOINTS_PATH, LOGS_PATH, &logs] {
        for token in [None, Some(""), Some("tw1.mesh.tesu"), Some("tw1.mesh.tes"), Some(TOKEN)] {
            let response = world.get(path, token).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} with {token:?}");
        }
    }
    for path in [ENDPOINTS_PATH, &logs] {
        assert_eq!(world.get(path, Some(MESH_TOKEN)).await.status(), StatusCode::OK, "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(world.get(path, None).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(world.get("/v1/other", Some(MESH_TOKEN)).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_those_of_the_replicas_that_are_held() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    world.assign(world.slot(1, digest, 1));
    world.ready().await;
    let get = async |query: &str| {
        let response = world.get(&format!("{LOGS_PATH}?model=digits{query}"), Some(MESH_TOKEN)).await;
        response.text().await.unwrap()
    };
    let id = &world.records()[0].id;
    let text = get("").await;
    assert!(text.contains(&format!("1 blue/0 | loading {id}\n")), "{text}");
    assert_eq!(get("&lines=1&revision=1").await, "1 blue/0 | serving\n");
    assert_eq!(get("&revision=9").await, "");

    let follow = format!("{LOGS_PATH}?model=digits&follow=true&lines=0");
    let mut stream = world.get(&follow, Some(MESH_TOKEN)).await;
    let log = world.data_dir().join("logs/digits/1.blue.0.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    std::io::Write::write_all(&mut file, b"something new\n").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"1 blue/0 | something new\n") {
        let next = tokio::time::timeout(crate::world::DEADLINE, stream.chunk()).await.expect("it is followed");
        seen.extend_from_slice(&next.unwrap().expect("the stream goes on"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_a_monitored_slot_are_counted() {
    let mut world = World::start().await;
    let digest = world.push(1, &good(), &[]);
    world.assign(world.slot(1, digest, 1));
    world.change(|slot| slot.monitored = true);
    world.ready().await;
    let name = "tradewind_agent_probes_succeeded_total{region=\"us-east1\",model=\"digits\",slot=\"blue\"} ";
    let ready = "tradewind_agent_replicas_ready{region=\"us-east1\",model=\"digits\",slot=\"blue\"} 1";
    loop {
        let metrics = world.get("/metrics", None).await.text().await.unwrap();
        assert!(metrics.contains(ready), "{metrics}");
        let count = metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap());
        if count >= 3_u64 {
            break;
        }
        world.report("a heartbeat", |_| true).await;
    }
}
