//! Replicas and regions that die under load, and come back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tradewind_testkit::{Load, World, eventually_ok};

use super::{INFER, SOON, event, options, pid, request, serving, status, successor};

const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_killed_replica_is_replaced_and_nobody_notices() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    let load = Load::start(&world.gateways()?, 3, PAUSE, INFER, &request()?)?;
    served(&load, "us-east1", "us-east1", Instant::now()).await?;
    let old = pid(&world, "replica", Some("us-east1"))?;
    world.kill("replica", Some("us-east1"))?;
    successor(&world, "replica", Some("us-east1"), old).await?;
    event(&world, "replica_exited", Some("us-east1")).await?;
    event(&world, "replica_replaced", Some("us-east1")).await?;
    only_served(&load, "us-east1", "us-east1").await?;
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    Ok(())
}

#[tokio::test]
async fn users_of_a_dead_region_go_to_the_next_and_come_back() -> Result<()> {
    let regions = ["us-east1", "us-west1", "europe-west1"];
    // Without distances, which region is the nearest to the third would be left to chance.
    let options = options(&regions).arg("--simulate-wan").arg("--restart").arg("never");
    let world = World::start(options).await?;
    let line = format!("deploy --max-parallel all --regions us-east1,europe-west1 {}", super::example("v1"));
    super::ok(&world, &line).await?;
    let load = Load::start(&world.gateways()?, 2, PAUSE, INFER, &request()?)?;
    served(&load, "us-west1", "us-east1", Instant::now()).await?;
    served(&load, "us-east1", "us-east1", Instant::now()).await?;

    let felled = world.fell("us-east1", &["agent"]).await?;
    for region in ["us-east1", "us-west1"] {
        only_served(&load, region, "europe-west1").await?;
    }
    event(&world, "region_unhealthy", Some("us-east1")).await?;
    eventually_ok("status says where the users of the dead region go", SOON, || async {
        let health = status(&world).await?["health"]["us-east1"].clone();
        ensure!(health["healthy"] == false && health["users_go_to"] == "europe-west1", "{health}");
        Ok(())
    })
    .await?;

    let _back: Vec<_> = felled.fallen.iter().map(tradewind_testkit::Fallen::start_again).collect::<Result<_>>()?;
    event(&world, "region_healthy", Some("us-east1")).await?;
    for region in ["us-east1", "us-west1"] {
        only_served(&load, region, "us-east1").await?;
    }
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    Ok(())
}

/// Waits until users of a region are answered by `server`, now and then at least.
async fn served(load: &Load, region: &str, server: &str, since: Instant) -> Result<()> {
    eventually_ok(&format!("users of {region} reach {server}"), SOON, || async {
        let tally = load.since(since).of(region).tally();
        ensure!(tally.by_region.contains_key(server), "{tally:?}");
        Ok(())
    })
    .await
}

/// Waits until users of a region have been answered by `server` alone, 50 times in a row.
async fn only_served(load: &Load, region: &str, server: &str) -> Result<()> {
    eventually_ok(&format!("users of {region} are answered by {server} alone"), SOON, || async {
        let report = load.so_far().of(region);
        let last = &report.answers[report.answers.len().saturating_sub(50)..];
        let others: Vec<_> = last.iter().filter(|answer| answer.region.as_deref() != Some(server)).collect();
        ensure!(last.len() == 50 && others.is_empty(), "{} of {}: {:?}", others.len(), last.len(), others.last());
        Ok(())
    })
    .await
}
