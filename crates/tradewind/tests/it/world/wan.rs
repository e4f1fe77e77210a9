//! `--simulate-wan`: the far is far, and the near is near.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tradewind_core::{catalogue, locality};
use tradewind_testkit::{World, eventually_ok};

use super::{SOON, answered_by, ask, example, json, ok, options};

#[tokio::test]
async fn users_go_to_the_nearest_region_and_feel_the_distance() -> Result<()> {
    let world = World::start(options(&["us-east1", "us-west1", "asia-northeast1"]).arg("--simulate-wan")).await?;
    ok(&world, &format!("deploy --regions us-east1 {}", example("v1"))).await?;
    let far = estimate("asia-northeast1", "us-east1")?;
    for _ in 0..3 {
        let reply = ask(&world, "asia-northeast1").await?;
        assert_eq!(reply.region, "us-east1");
        assert!(reply.took >= far, "{:?}, and the light alone takes {far:?}", reply.took);
    }

    ok(&world, "deploy --regions us-east1,us-west1 digits").await?;
    let reply = answered_by(&world, "asia-northeast1", "us-west1").await?;
    assert!(reply.took >= estimate("asia-northeast1", "us-west1")?, "{:?}", reply.took);
    assert_eq!(answered_by(&world, "us-west1", "us-west1").await?.revision, reply.revision);

    let measured = eventually_ok("both round trips are measured", SOON, || async {
        let region = json(&world, "regions show asia-northeast1").await?;
        let trip = |to: &str| region["round_trips_us"][to].as_u64().with_context(|| format!("not to {to}: {region}"));
        let (west, east) = (trip("us-west1")?, trip("us-east1")?);
        ensure!(west < east, "{west} us to the west, {east} us to the east");
        Ok((west, east))
    });
    let (west, east) = measured.await?;
    assert!(Duration::from_micros(west) >= estimate("asia-northeast1", "us-west1")?);
    assert!(Duration::from_micros(east) >= far);
    Ok(())
}

fn estimate(from: &str, to: &str) -> Result<Duration> {
    let place = |name: &str| catalogue::location(name).with_context(|| format!("{name} is not in the catalogue"));
    Ok(locality::estimated_round_trip(place(from)?, place(to)?))
}
