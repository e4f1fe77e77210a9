//! A region is taken for lost on purpose under load, drained, and let back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Child;
use tradewind_testkit::{Load, Options, World, eventually_ok};

use super::{INFER, SOON, event, example, json, ok, options, pid, refused, request, status, successor};

const PAUSE: Duration = Duration::from_millis(5);
const US: &str = "us-east1";

/// Digits in two regions, whose replicas may have so many requests in flight.
async fn limited(options: Options) -> Result<World> {
    let world = World::start(options).await?;
    let line = format!("deploy --concurrency 16 --max-parallel all --regions us-east1,europe-west1 {}", example("v1"));
    ok(&world, &line).await?;
    eventually_ok("both regions tell their load", SOON, || async {
        for region in json(&world, "regions list").await?["regions"].as_array().context("regions")? {
            ensure!(region["failover"]["models"][0]["targets"][0]["utilisation_then"].is_number(), "{region}");
        }
        Ok(())
    })
    .await?;
    Ok(world)
}

fn drill(world: &World) -> Result<Child> {
    let line = ["drill", "region-down", US, "--for", "8s", "--yes", "-o", "json"];
    let mut command = world.command(line)?;
    Ok(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?)
}

/// Users of us-east1 are answered there, or are not, for so many answers in a row.
async fn answered_at_home(load: &Load, home: bool) -> Result<()> {
    eventually_ok(&format!("users of us-east1 are answered at home: {home}"), SOON, || async {
        let report = load.so_far().of(US);
        let last = &report.answers[report.answers.len().saturating_sub(50)..];
        let others = last.iter().filter(|answer| (answer.region.as_deref() == Some(US)) != home).count();
        ensure!(last.len() == 50 && others == 0, "{others} of {} others", last.len());
        Ok(())
    })
    .await
}

async fn under_way(world: &World, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually_ok("the drill comes so far", SOON, || async {
        let drill = json(world, "drill show latest").await?;
        ensure!(wanted(&drill), "{drill}");
        Ok(drill)
    })
    .await
}

#[tokio::test]
async fn a_drill_moves_users_loses_nobody_and_is_measured() -> Result<()> {
    let world = limited(options(&[US, "europe-west1"])).await?;
    let load = Load::start(&world.gateways()?, 2, PAUSE, INFER, &request()?)?;
    answered_at_home(&load, true).await?;
    let asked = refused(&world, "drill region-down us-east1 --for 8s", 2).await?;
    assert!(asked.contains("europe-west1 (fits:") && asked.contains("--yes"), "{asked}");
    let running = drill(&world)?;
    answered_at_home(&load, false).await?;
    let shown = ok(&world, "status").await?.stdout;
    assert!(shown.contains("taken for lost for"), "{shown}");
    refused(&world, "drill region-down europe-west1 --for 8s --yes", 5).await?;
    let output = running.wait_with_output().await?;
    let record: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    assert_eq!((output.status.code(), &record["state"]), (Some(0), &Value::from("done")), "{record}");
    answered_at_home(&load, true).await?;

    let (estimate, measured) = (&record["estimate"], &record["measured"]);
    assert_eq!((&estimate["failed"], &measured["counted"]["failed"]), (&Value::from(0), &Value::from(0)), "{record}");
    assert_eq!(measured["counted"]["failed_of_others"], 0);
    assert!(measured["counted"]["requests"].as_u64() > Some(100), "{measured}");
    for time in ["moved_ms", "returned_ms"] {
        let (most, took) = (estimate[time].as_u64().context(time)?, measured[time].as_u64().context(time)?);
        // On a machine that others use too.
        assert!(took <= 10 * most, "{time}: {took} of at most {most}");
    }
    let full = measured["targets"][0]["utilisation"].as_f64().context("the target's limit")?;
    assert!((0.0..0.9).contains(&full), "{measured}");
    event(&world, "drill_started", Some(US)).await?;
    event(&world, "traffic_moved", Some(US)).await?;
    event(&world, "drill_ended", Some(US)).await?;
    assert!(ok(&world, "drill show 1").await?.stdout.contains("at europe-west1"));
    assert!(ok(&world, "drill list").await?.stdout.contains("us-east1"));
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    Ok(())
}

#[tokio::test]
async fn a_drill_ends_in_time_when_control_is_killed_in_the_middle() -> Result<()> {
    let world = limited(options(&[US, "europe-west1"])).await?;
    let load = Load::start(&world.gateways()?, 2, PAUSE, INFER, &request()?)?;
    answered_at_home(&load, true).await?;
    let begun = Instant::now();
    let running = drill(&world)?;
    answered_at_home(&load, false).await?;
    under_way(&world, |drill| drill["measured"]["moved_ms"].is_number()).await?;
    let old = pid(&world, "control", None)?;
    world.kill("control", None)?;
    successor(&world, "control", None, old).await?;
    answered_at_home(&load, true).await?;
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    let record = under_way(&world, |drill| drill["state"] == "done").await?;
    assert_eq!(record["interrupted"], true);
    assert!(record["measured"]["moved_ms"].is_number(), "{record}");
    let output = running.wait_with_output().await?;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    Ok(())
}

#[tokio::test]
async fn ctrl_c_lets_the_region_back_at_once() -> Result<()> {
    let world = limited(options(&[US, "europe-west1"])).await?;
    let line = ["drill", "region-down", US, "--for", "10m", "--yes"];
    let mut command = world.command(line)?;
    let running = command.stderr(std::process::Stdio::piped()).spawn()?;
    under_way(&world, |drill| drill["measured"]["moved_ms"].is_number()).await?;
    let pid = i32::try_from(running.id().context("it runs")?)?;
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).context("a pid")?, rustix::process::Signal::INT)?;
    let output = running.wait_with_output().await?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("ended before its time") && said.contains("us-east1 is let back"), "{said}");
    super::answered_by(&world, US, US).await?;
    let record = under_way(&world, |drill| drill["state"] == "done").await?;
    assert_eq!(record["ended"]["reason"], "stopped");
    Ok(())
}

#[tokio::test]
async fn a_region_is_drained_where_its_users_fit_and_undrained() -> Result<()> {
    let world = limited(options(&[US, "europe-west1"])).await?;
    let load = Load::start(&world.gateways()?, 2, PAUSE, INFER, &request()?)?;
    answered_at_home(&load, true).await?;
    let planned = ok(&world, "regions drain us-east1 --dry-run").await?.stdout;
    assert!(planned.contains("europe-west1 (fits:") && planned.contains("nothing was changed"), "{planned}");
    answered_at_home(&load, true).await?;
    let drained = ok(&world, "regions drain us-east1").await?.stdout;
    assert!(drained.contains("nothing is in flight there after"), "{drained}");
    answered_at_home(&load, false).await?;
    assert_eq!(status(&world).await?["health"][US]["users_go_to"], "europe-west1");
    let refused = refused(&world, "regions drain europe-west1", 5).await?;
    assert!(refused.contains("no other region may serve them"), "{refused}");
    ok(&world, "regions undrain us-east1").await?;
    answered_at_home(&load, true).await?;
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    Ok(())
}
