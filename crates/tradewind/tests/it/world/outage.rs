//! Control is dead: everything else goes on, also across its own restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;
use tradewind_testkit::{Load, Users, eventually_ok};

use super::{INFER, SOON, ask, check_refusal, example, options, pid, refused, request, serving};

const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test]
async fn regions_serve_without_control_across_restarts() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"]).arg("--restart").arg("never")).await?;
    let (east, europe) = (world.gateway("us-east1")?, world.gateway("europe-west1")?);
    let region = world.options.regions[0].clone();
    let both = Users { region, gateways: vec![east.clone(), europe], count: 4 };
    let load = Load::of(&[both], PAUSE, INFER, &request()?)?;
    let replica = pid(&world, "replica", Some("us-east1"))?;
    world.kill("control", None)?;
    eventually_ok("control is gone", SOON, || async {
        ensure!(world.processes("control", None)?.is_empty(), "it is listed");
        Ok(())
    })
    .await?;
    for line in ["status", "deploy --regions us-east1 digits", "models list"] {
        let said = refused(&world, line, 4).await?;
        assert!(said.contains(&format!("no answer from http://127.0.0.1:{}", world.port_base)), "{said}");
    }
    let push = world.cli(["models", "push", &example("v2")]).await?;
    check_refusal("models push", &push, 4)?;

    let agent = world.fell_alone("us-east1", "agent").await?;
    let _agent = agent.start_again()?;
    let gateway = world.fell_alone("us-east1", "gateway").await?;
    // `up` held its socket too, until it noticed.
    eventually_ok("the gateway's port is free", SOON, || async {
        ensure!(TcpStream::connect(east.trim_start_matches("http://")).await.is_err(), "somebody listens");
        Ok(())
    })
    .await?;
    let _gateway = gateway.start_again()?;
    let caller = tradewind_testkit::Caller::new()?;
    let reply = eventually_ok("the region's gateway answers from its own region again", SOON, || async {
        let reply = caller.ask(&format!("{east}{INFER}"), &request()?).await?;
        ensure!(reply.region == "us-east1", "{}", reply.region);
        Ok(reply)
    })
    .await?;
    assert_eq!(reply.revision, "1");
    assert_eq!(ask(&world, "europe-west1").await?.region, "europe-west1");
    assert_eq!(pid(&world, "replica", Some("us-east1"))?, replica, "adopted, not doubled");

    // The adopted replica is supervised: when it dies, another takes its place.
    world.kill("replica", Some("us-east1"))?;
    super::successor(&world, "replica", Some("us-east1"), replica).await?;
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    let through_east = report.answers.iter().rev().find(|answer| answer.entry == 0);
    through_east.context("nobody came back to the gateway that was killed")?;
    Ok(())
}
