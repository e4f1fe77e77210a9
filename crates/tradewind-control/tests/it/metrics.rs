//! What control shows, and where it says that the others show theirs.

use std::collections::BTreeMap;

use tradewind_api::{
    client::http_client,
    deploy::DeployRequest,
    metrics::{TARGETS_PATH, TargetGroup, definition},
};

use crate::{
    control::{Control, DEADLINE, model, region, reqwest_get},
    members::{agent, gateway},
};

/// All series of control, by name and labels.
async fn scrape(control: &Control) -> BTreeMap<String, f64> {
    let response = reqwest_get(&format!("{}/metrics", control.url)).await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(definition(name.split('{').next().unwrap()).is_some(), "{line}");
        assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    series
}

/// Waits until all of these have these values.
async fn shows(control: &Control, expected: &[(&str, f64)]) {
    let all = async {
        loop {
            let series = scrape(control).await;
            if expected.iter().all(|(name, value)| series.get(*name) == Some(value)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(DEADLINE, all).await.is_err() {
        panic!("not {expected:?}: {:?}", scrape(control).await);
    }
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let control = Control::start().await;
    control.admin.models().await.unwrap();
    reqwest_get(&format!("{}/v1/nothing/of/that/name", control.url)).await;
    let series = scrape(&control).await;
    let of = |name: &str| series.get(name).copied();
    let listed = "method=\"GET\",route=\"/v1/models\"";
    assert_eq!(of(&format!("tradewind_control_requests_total{{{listed},status=\"200\"}}")), Some(1.0));
    assert_eq!(of(&format!("tradewind_control_request_duration_seconds_count{{{listed}}}")), Some(1.0));
    let unknown = "tradewind_control_requests_total{method=\"GET\",route=\"none\",status=\"404\"}";
    assert_eq!(of(unknown), Some(1.0));
    assert!(
        of("tradewind_control_store_bytes") > Some(0.0) && of("tradewind_control_disk_available_bytes") > Some(0.0)
    );
    assert!(control.admin.ready().await);
    control.stop().await;
}

#[tokio::test]
async fn the_world_is_shown_as_control_sees_it() {
    let control = Control::start().await;
    let us = [agent(&control, "us-east1", None), gateway(&control, "us-east1")];
    let eu = [agent(&control, "europe-west1", None), gateway(&control, "europe-west1")];
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let regions = Some(vec![region("us-east1"), region("europe-west1")]);
    control.admin.deploy(&model("digits"), &DeployRequest { regions, ..DeployRequest::default() }).await.unwrap();
    shows(
        &control,
        &[
            ("tradewind_control_region_healthy{region=\"us-east1\"}", 1.0),
            ("tradewind_control_region_healthy{region=\"europe-west1\"}", 1.0),
            ("tradewind_control_model_healthy{model=\"digits\",region=\"europe-west1\"}", 1.0),
            ("tradewind_control_model_served{model=\"digits\",region=\"us-east1\"}", 1.0),
            ("tradewind_control_model_revision{model=\"digits\"}", 1.0),
            ("tradewind_control_gateways_stale{region=\"us-east1\"}", 0.0),
            ("tradewind_control_rollouts{state=\"soaking\"}", 1.0),
            ("tradewind_control_models", 1.0),
            ("tradewind_control_events_recorded_total{kind=\"route_committed\",severity=\"info\"}", 1.0),
        ],
    )
    .await;
    drop(eu);
    shows(
        &control,
        &[
            ("tradewind_control_region_healthy{region=\"us-east1\"}", 1.0),
            ("tradewind_control_region_healthy{region=\"europe-west1\"}", 0.0),
            ("tradewind_control_model_served{model=\"digits\",region=\"europe-west1\"}", 1.0),
            ("tradewind_control_agents", 1.0),
        ],
    )
    .await;
    drop(us);
    control.stop().await;
}

#[tokio::test]
async fn prometheus_is_told_where_everything_is() {
    let control = Control::start().await;
    let _us = [agent(&control, "us-east1", None), gateway(&control, "us-east1")];
    shows(&control, &[("tradewind_control_agents", 1.0), ("tradewind_control_gateways", 1.0)]).await;
    let request = http_client().build().unwrap().get(format!("{}{TARGETS_PATH}", control.url));
    let response = request.bearer_auth(control.token("monitoring")).send().await.unwrap();
    let groups: Vec<TargetGroup> = response.json().await.unwrap();
    let own = control.url.strip_prefix("http://").unwrap();
    let expected = [
        TargetGroup::new("control", None, vec![own.to_owned()]),
        TargetGroup::new("agent", Some("us-east1"), vec!["127.0.0.1:9".to_owned()]),
        TargetGroup::new("gateway", Some("us-east1"), vec!["us-east1:7410".to_owned()]),
    ];
    assert_eq!(groups, expected);
    control.stop().await;
}
