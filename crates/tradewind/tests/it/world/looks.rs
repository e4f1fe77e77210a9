//! What programs read: the documents of status, rollout, events, history, and the logs.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ask, example, json, ok, options, refused, serving};

#[tokio::test]
async fn programs_find_what_they_were_promised() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    ok(&world, &format!("deploy --max-parallel all --soak 1s {}", example("v2"))).await?;
    ask(&world, "us-east1").await?;

    let status = json(&world, "status digits").await?;
    assert_eq!(status["schema_version"], 1);
    assert_eq!(status["regions"], json!(["us-east1", "europe-west1"]));
    let success = json!({"us-east1": "success", "europe-west1": "success"});
    assert_eq!((&status["deployment_status"], &status["verification_status"]), (&success, &success));
    assert_eq!((&status["routing_configured"], &status["monitoring_active"]), (&json!(true), &json!(true)));
    assert_eq!(status["rollout"]["revision"], 2);
    assert!(status["rollout"]["state"].is_string() && status["rollout"]["soak"].is_string(), "{status}");
    assert_eq!((&status["revision"], &status["version"], &status["epoch"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(status["live_slot"], "green");
    let one = json!({"ready": 1, "desired": 1});
    let (green, replicas) = (&status["slots"]["green"], json!({"us-east1": one, "europe-west1": one}));
    assert_eq!((&green["revision"], &green["state"], &green["replicas"]), (&json!(2), &json!("live"), &replicas));
    assert_eq!(green["scaling"]["us-east1"]["reason"], "fixed by the revision");
    assert_eq!(status["slots"]["blue"]["revision"], 1);
    assert_eq!(status["slots"]["blue"]["state"], "standby", "the old version is kept warm");
    assert_eq!(json(&world, "status").await?["models"][0]["model"], "digits");

    let rollout = json(&world, "rollout show digits").await?;
    let steps = rollout["steps"].as_array().context("steps")?;
    for (number, step) in (1..).zip(steps) {
        let keys: Vec<&String> = step.as_object().context("a step")?.keys().collect();
        for key in ["step", "action", "region", "result", "next", "started_at", "finished_at", "attempts", "detail"] {
            assert!(keys.iter().any(|known| *known == key), "{key} is not in {step}");
        }
        assert_eq!(step["step"], number);
    }
    let actions: Vec<String> = steps.iter().map(|step| format!("{} {}", step["action"], step["region"])).collect();
    assert_eq!(actions.first().map(String::as_str), Some("\"select_regions\" null"));
    assert!(actions.contains(&"\"verify\" \"europe-west1\"".to_owned()), "{actions:?}");
    assert!(steps.iter().take(9).all(|step| step["result"] == "success"), "{rollout}");
    let list = json(&world, "rollout list digits").await?;
    assert_eq!(list["rollouts"].as_array().map(Vec::len), Some(2), "{list}");

    let history = json(&world, "history digits").await?;
    let revisions: Vec<Value> = history["revisions"]
        .as_array()
        .context("revisions")?
        .iter()
        .map(|revision| json!([revision["revision"], revision["version"], revision["live"]]))
        .collect();
    assert_eq!(revisions, [json!([2, 2, true]), json!([1, 1, false])]);
    assert_eq!(history["revisions"][0]["changes"], json!(["version 1 -> 2"]));
    Ok(())
}

#[tokio::test]
async fn what_happened_and_what_was_said_can_be_read() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    let events = json(&world, "events --model digits").await?;
    let events = events["events"].as_array().context("events")?;
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    let expected = ["model_pushed", "rollout_started", "replica_started", "route_committed", "monitoring_armed"];
    let places: Vec<Option<usize>> = expected.iter().map(|kind| kinds.iter().position(|known| known == kind)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{kinds:?}");
    for event in events {
        event["at"].as_str().context("a time")?.parse::<jiff::Timestamp>()?;
        assert!(event["severity"].is_string() && event["message"].is_string(), "{event}");
        assert_eq!(event["model"], "digits");
    }
    assert!(events.windows(2).all(|pair| pair[0]["sequence"].as_u64() < pair[1]["sequence"].as_u64()));
    let of_region = json(&world, "events --region europe-west1 --limit 2").await?;
    let of_region = of_region["events"].as_array().context("events")?;
    assert!(of_region.len() == 2 && of_region.iter().all(|event| event["region"] == "europe-west1"), "{of_region:?}");

    let log = ok(&world, "logs digits --region us-east1").await?.stdout;
    assert!(log.lines().any(|line| line.contains("ready") && line.contains("digits")), "{log}");
    assert_eq!(ok(&world, "logs digits --region us-east1 --lines 1").await?.stdout.lines().count(), 1);
    refused(&world, "logs digits --region us-east9", 3).await?;
    refused(&world, "logs letters --region us-east1", 3).await?;

    let data = format!("@{}", example("request.json"));
    let answer = world.cli(["infer", "digits", "-d", &data, "--from", "europe-west1"]).await?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.json()?["outputs"][0]["data"], json!([7]));
    assert!(answer.stderr.contains("answered by europe-west1"), "{}", answer.stderr);
    Ok(())
}

#[tokio::test]
async fn where_requests_go_is_explained_by_the_gateway_that_sends_them() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    ask(&world, "us-east1").await?;
    let explain = "route explain digits --from us-east1";
    let gateway = world.gateway("us-east1")?.replace("http://", "");
    let here = json(&world, explain).await?;
    assert_eq!((&here["schema_version"], &here["goes_to"]), (&json!(1), &json!("us-east1")), "{here}");
    assert_eq!((&here["gateway"], &here["epoch"], &here["revision"]), (&json!(gateway), &json!(1), &json!(1)));
    let order: Vec<&Value> = here["regions"].as_array().context("regions")?.iter().map(|r| &r["region"]).collect();
    assert_eq!(order, [&json!("us-east1"), &json!("europe-west1")], "nearest first");
    assert!(here["regions"][1]["round_trip_us"].as_u64().is_some_and(|micros| micros > 0), "{here}");
    let replica = world.processes("replica", Some("us-east1"))?.remove(0);
    assert_eq!(here["replicas"][0]["address"], replica.address.as_str());
    let table = ok(&world, explain).await?.stdout;
    assert!(table.starts_with("digits from us-east1: us-east1, blue (revision 1, epoch 1)\n"), "{table}");
    assert!(table.contains("goes here") && table.contains(&format!("as the gateway {gateway} of us-east1")), "{table}");

    ok(&world, "deploy --max-parallel all --prune --regions europe-west1 digits:1").await?;
    let there = json(&world, explain).await?;
    assert_eq!(there["goes_to"], "europe-west1", "{there}");
    assert_eq!(ask(&world, "us-east1").await?.region, "europe-west1", "as it was explained");
    let table = ok(&world, explain).await?.stdout;
    let first = table.lines().find(|line| line.trim_start().starts_with("us-east1")).context("its line")?;
    assert!(first.contains("passed over"), "{table}");
    refused(&world, "route explain nobody --from us-east1", 3).await?;
    Ok(())
}
