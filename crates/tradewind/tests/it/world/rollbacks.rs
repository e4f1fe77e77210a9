//! Users who are moved back by a person: at once where the old version is warm, and nobody notices.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tradewind_testkit::{Ailment, Answer, Faulty, Load, Signal, World, signal};

use super::{INFER, SOON, digits, example, json, ok, options, refused, serving};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
/// So many answers in a row prove who serves.
const MANY: usize = 50;

/// A world that got version 2 after version 1, and users of it.
async fn with_two_versions() -> Result<(World, Load)> {
    let world = serving(options(&REGIONS)).await?;
    ok(&world, &format!("deploy --max-parallel all {}", example("v2"))).await?;
    let body = std::fs::read_to_string(digits().join("request.json"))?;
    let load = Load::start(&world.gateways()?, 2, Duration::from_millis(10), INFER, &body)?;
    Ok((world, load))
}

async fn served(load: &Load, revision: &str) -> Result<()> {
    let is_right = |answer: &Answer| answer.revision.as_deref() == Some(revision);
    load.settles(&format!("users get revision {revision}"), SOON, MANY, is_right).await
}

#[tokio::test]
async fn a_rollback_moves_all_users_in_one_epoch_and_none_notices() -> Result<()> {
    let (world, load) = with_two_versions().await?;
    served(&load, "2").await?;
    let told = ok(&world, "rollback digits").await?.stdout;
    assert!(told.starts_with("users of digits get revision 1 (version 1, slot blue) after "), "{told}");
    assert!(told.contains("epoch 3 acknowledged by 2 of 2 gateways"), "{told}");
    assert!(told.contains("revision 2 is remembered as bad"), "{told}");
    served(&load, "1").await?;
    let status = json(&world, "status digits").await?;
    for region in REGIONS {
        let (deployed, verified) = (&status["deployment_status"][region], &status["verification_status"][region]);
        assert_eq!((deployed, verified), (&"success".into(), &"success".into()), "{status}");
    }
    let second = refused(&world, "rollback digits", 5).await?;
    assert!(second.contains("no revision of digits before 1 has served users and is not bad"), "{second}");
    let again = refused(&world, "deploy digits:2", 5).await?;
    assert!(again.contains("this is revision 2 of digits again") && again.contains("--allow-bad"), "{again}");
    let history = ok(&world, "history digits").await?.stdout;
    assert!(history.lines().any(|line| line.trim_start().starts_with("2 ") && line.contains("bad")), "{history}");

    let differs = ok(&world, "diff digits 2").await?.stdout;
    assert_eq!(differs, "digits, revision 2 -> 1\n  version 2 -> 1\n");
    let unknown = refused(&world, "diff digits 7", 3).await?;
    assert!(unknown.contains("digits has no revision 7") && unknown.contains("tradewind history digits"), "{unknown}");

    let switched = json(&world, "rollback digits --to 2 --allow-bad").await?;
    assert_eq!((&switched["revision"], &switched["epoch"], &switched["warm"]), (&2.into(), &4.into(), &true.into()));
    served(&load, "2").await?;
    let back = ok(&world, "switch digits --to blue").await?.stdout;
    assert!(back.contains("epoch 5 acknowledged by 2 of 2 gateways"), "{back}");
    served(&load, "1").await?;
    let same = ok(&world, "switch digits --to blue").await?.stdout;
    assert_eq!(same, "users of digits get revision 1 (version 1) already\n");
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures().first());
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_stands_still_is_named_and_catches_up() -> Result<()> {
    let (world, load) = with_two_versions().await?;
    let gateway = world.processes("gateway", Some("europe-west1"))?;
    let gateway = gateway.first().context("a gateway")?;
    signal(gateway.pid, Signal::STOP)?;
    let output = world.cli(["rollback", "digits"]).await?;
    signal(gateway.pid, Signal::CONT)?;
    assert_eq!(output.code, Some(6), "{output:?}");
    assert!(output.stderr.contains(&format!("the gateway {} in europe-west1 has not", gateway.address)), "{output:?}");
    served(&load, "1").await?;
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures().first());
    Ok(())
}

#[tokio::test]
async fn a_version_that_fails_once_it_has_users_is_rolled_back_everywhere_by_itself() -> Result<()> {
    let (good, bad) = (Faulty::new()?, Faulty::new()?);
    let world = World::start(options(&REGIONS)).await?;
    let lines = "regions = [\"us-east1\", \"europe-west1\"]\n[strategy]\nmax_parallel = \"all\"\n";
    ok(&world, &format!("deploy -f {}", good.deployment(lines)?.display())).await?;
    let load = Load::start(&world.gateways()?, 2, Duration::from_millis(20), Faulty::PATH, "{}")?;
    served(&load, "1").await?;
    let file = bad.deployment(lines)?;
    let mut waits = world.command(["deploy".as_ref(), "--wait".as_ref(), "-f".as_ref(), file.as_os_str()])?;
    let waits = waits.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    served(&load, "2").await?;
    let before = load.so_far();
    assert!(before.failures().is_empty(), "{:?}", before.failures().first());

    let fell = Instant::now();
    bad.falls(Ailment::Fails)?;
    served(&load, "1").await?;
    let back = Instant::now();
    let told = waits.wait_with_output().await?;
    let words = String::from_utf8(told.stderr)?;
    assert_eq!(told.status.code(), Some(1), "{words}");
    assert!(
        words.starts_with("error: faulty 2 was rolled back: ") && words.contains("faulty 1 serves in 2 regions"),
        "{words}"
    );
    let shown = json(&world, "rollout show faulty 2").await?;
    assert_eq!((&shown["state"], &shown["soak"]), (&"failed".into(), &"failed".into()), "{shown}");
    let why = shown["failure"]["failure"]["message"].as_str().context("a message")?;
    assert!(why.contains("requests failed in") && why.ends_with("after users were moved"), "{why}");
    let status = json(&world, "status faulty").await?;
    assert_eq!((&status["revision"], &status["epoch"]), (&1.into(), &3.into()), "{status}");
    let waited = world.cli(["rollout", "show", "faulty"]).await?.stdout;
    assert!(waited.contains("revision 1, rollout 3"), "{waited}");
    let again = refused(&world, "deploy faulty:2", 5).await?;
    assert!(again.contains("from which the monitors rolled back"), "{again}");
    let report = load.stop().await;
    let late = report.since(back);
    assert!(late.failures().is_empty(), "after {:?}: {:?}", back - fell, late.failures().first());
    Ok(())
}
