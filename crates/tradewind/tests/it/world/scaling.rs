//! Replicas that follow demand, each region by itself.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tradewind_testkit::{World, eventually_ok};

use super::{
    SOON, event, json, ok, options, refused,
    servers::{Stream, tokens},
};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const BOUNDS: &str = "--min-replicas 0 --max-replicas 3 --target-in-flight 2 --scale-down-after 2s";

/// A token server in both regions that is ended while nobody asks.
async fn serving() -> Result<World> {
    let world = World::start(options(&REGIONS).arg("--restart").arg("never")).await?;
    let line = format!("deploy --max-parallel all --regions {} {BOUNDS} {}", REGIONS.join(","), tokens().display());
    ok(&world, &line).await?;
    Ok(world)
}

/// Waits until so many replicas run in a region.
async fn runs(world: &World, region: &str, replicas: usize) -> Result<()> {
    eventually_ok(&format!("{replicas} replicas run in {region}"), SOON, || async {
        let found = world.processes("replica", Some(region))?;
        ensure!(found.len() == replicas, "{found:?}");
        Ok(())
    })
    .await
}

/// So many users who listen without end, each of whom has heard something.
async fn listen(world: &World, region: &str, users: usize) -> Result<Vec<Stream>> {
    let listen = async || {
        let mut stream = Stream::open(world, region, 10_000, 50).await?;
        stream.read(1).await?;
        ensure!(stream.tokens() > 0, "nothing came: {}", stream.text());
        Ok::<_, anyhow::Error>(stream)
    };
    try_join_all((0..users).map(|_| listen())).await
}

async fn slot(world: &World) -> Result<Value> {
    Ok(json(world, "status tokens").await?["slots"]["blue"].clone())
}

#[tokio::test]
async fn a_region_follows_its_users_to_zero_and_back_also_without_control_and_across_its_agents_death() -> Result<()> {
    let world = serving().await?;
    for region in REGIONS {
        runs(&world, region, 0).await?;
    }
    let status = json(&world, "status tokens").await?;
    for region in REGIONS {
        assert_eq!(status["health"][region]["healthy"], true, "{status}");
        assert_eq!(status["slots"]["blue"]["scaling"][region]["resting"], true, "{status}");
    }
    let shown = ok(&world, "status tokens").await?.stdout;
    assert!(shown.contains("at rest") && shown.contains("0 replicas (0 to 3), scaled to zero: nobody asks"), "{shown}");

    let streams = listen(&world, "us-east1", 5).await?;
    eventually_ok("three are ready, and why", SOON, || async {
        let slot = slot(&world).await?;
        ensure!(slot["replicas"]["us-east1"] == json!({"ready": 3, "desired": 3}), "{slot}");
        let reason = &slot["scaling"]["us-east1"]["reason"];
        ensure!(reason == "5.0 in flight, 2 for each replica", "{reason}");
        Ok(())
    })
    .await?;
    assert_eq!(slot(&world).await?["replicas"]["europe-west1"], json!({"ready": 0, "desired": 0}));
    event(&world, "scaled", Some("us-east1")).await?;

    world.kill("control", None)?;
    drop(streams);
    runs(&world, "us-east1", 0).await?;
    let agent = world.fell_alone("us-east1", "agent").await?;
    let agent = agent.start_again()?;
    let mut stream = Stream::open(&world, "us-east1", 3, 10).await.context("the first user after the agent's death")?;
    stream.read(usize::MAX).await?;
    assert_eq!(stream.tokens(), 3);
    drop((stream, agent));
    Ok(())
}

#[tokio::test]
async fn a_person_sets_the_number_beyond_the_bounds_and_gives_it_back() -> Result<()> {
    let world = serving().await?;
    let said = ok(&world, "scale tokens --region us-east1 --replicas 4").await?.stdout;
    assert!(said.contains("tokens has 4 in us-east1 from now on; the revision says 0 to 3"), "{said}");
    runs(&world, "us-east1", 4).await?;
    let scaling = slot(&world).await?["scaling"]["us-east1"].clone();
    assert!(
        scaling["by_hand"] == 4 && scaling["reason"].as_str().is_some_and(|why| why.starts_with("set by hand by "))
    );
    for (line, code, message) in [
        ("scale tokens --region us-east1 --replicas 0", 2, "nobody would serve"),
        ("scale tokens --region us-east1 --replicas 1001", 2, "between 1 and 1000"),
        ("scale tokens --region asia-northeast1 --replicas 2", 3, "does not run in asia-northeast1"),
        ("scale nothing --region us-east1 --replicas 2", 3, "nothing"),
    ] {
        let said = refused(&world, line, code).await?;
        assert!(said.contains(message), "{said}");
    }
    ok(&world, "scale tokens --region us-east1 --auto").await?;
    runs(&world, "us-east1", 0).await?;
    let again = ok(&world, "scale tokens --region us-east1 --auto").await?.stdout;
    assert!(again.starts_with("nothing is set by hand in us-east1"), "{again}");
    Ok(())
}
