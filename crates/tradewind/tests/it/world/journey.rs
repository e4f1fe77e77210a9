//! What becomes of users on a long way: a canary whose control plane dies at each stage, a drain, an abort, a switch back and forth
//! that one of the gateways sleeps through.

use anyhow::{Context, Result, ensure};
use tradewind_testkit::{Load, Signal, World, signal};

use super::{INFER, SOON, example, json, ok, options, pid, ready, request, serving, successor};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const USERS: usize = 20;

/// Waits until a rollout is so far: its stage or a later one.
async fn reaches(world: &World, revision: u64, stage: u64, state: &str) -> Result<()> {
    tradewind_testkit::eventually_ok(&format!("revision {revision} is {state} in stage {stage}"), SOON, || async {
        let view = json(world, "rollout show digits").await?;
        let number = view["stage"]["number"].as_u64().context("a stage")?;
        let there = number > stage || (number == stage && view["state"] == state);
        ensure!(view["revision"] == revision && there, "{} {} {}", view["revision"], number, view["state"]);
        Ok(())
    })
    .await
}

/// Control dies, and another one takes its place.
async fn kill_control(world: &World) -> Result<()> {
    let old = pid(world, "control", None)?;
    signal(old, Signal::KILL)?;
    successor(world, "control", None, old).await?;
    ready(world, "control", None).await
}

async fn all_get(load: &Load, revision: &str) -> Result<()> {
    let what = format!("users get revision {revision}");
    load.settles(&what, SOON, 5 * USERS, |answer| answer.revision.as_deref() == Some(revision)).await
}

#[tokio::test]
async fn users_notice_nothing_of_a_canary_a_drain_an_abort_and_processes_that_die_or_stand_still() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let pause = std::time::Duration::from_millis(20);
    let load = Load::roaming(&"us-east1".parse()?, &world.gateways()?, USERS, pause, INFER, &request()?)?;
    all_get(&load, "1").await?;

    ok(&world, &format!("deploy --canary 1,10,50,100 --soak 1s --detach {}", example("v2"))).await?;
    reaches(&world, 2, 1, "regions").await?;
    kill_control(&world).await?;
    for stage in 1..=4 {
        reaches(&world, 2, stage, "soaking").await?;
        kill_control(&world).await?;
    }
    all_get(&load, "2").await?;

    ok(&world, "regions drain us-east1 --force").await?;
    load.settles("europe-west1 answers all", SOON, 5 * USERS, |answer| {
        answer.region.as_deref() == Some("europe-west1")
    })
    .await?;
    ok(&world, "regions undrain us-east1").await?;

    ok(&world, &format!("deploy --canary 50 --soak 10m --replicas 2 --replace --detach {}", example("v2"))).await?;
    reaches(&world, 3, 1, "soaking").await?;
    ok(&world, "rollout abort digits").await?;
    kill_control(&world).await?;
    all_get(&load, "2").await?;

    ok(&world, "rollback digits --to 1 --allow-bad").await?;
    all_get(&load, "4").await?;

    let gateway = pid(&world, "gateway", Some("europe-west1"))?;
    signal(gateway, Signal::STOP)?;
    let moved = world.cli(["rollback", "digits", "--to", "2", "--allow-bad"]).await?;
    signal(gateway, Signal::CONT)?;
    assert_eq!(moved.code, Some(6), "{moved:?}");
    all_get(&load, "2").await?;
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures().first());
    assert!(report.went_back().is_empty(), "{:?}", report.went_back().first());
    Ok(())
}
