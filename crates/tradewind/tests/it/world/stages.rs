//! Rollouts that move users in stages, under users who come through all gateways and remember what they have seen.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use tradewind_testkit::{Answer, Load, Report, Signal, World, signal};

use super::{INFER, SOON, example, json, ok, options, refused, request, serving};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];
const USERS: usize = 40;

async fn with_users(world: &World) -> Result<Load> {
    let region = "us-east1".parse()?;
    Load::roaming(&region, &world.gateways()?, USERS, Duration::from_millis(20), INFER, &request()?)
}

/// Nobody failed, nobody went back, and nobody got two revisions in turn; nor one that they should not.
fn check(report: &Report, allowed: &[&str]) -> Result<()> {
    ensure!(report.failures().is_empty(), "{:?}", report.failures().first());
    ensure!(report.went_back().is_empty(), "{:?}", report.went_back().first());
    let mut last: BTreeMap<usize, u64> = BTreeMap::new();
    for answer in &report.answers {
        let revision: u64 = answer.revision.as_deref().context("a revision")?.parse()?;
        let before = last.insert(answer.user, revision);
        ensure!(before.is_none_or(|before| before <= revision), "{answer:?} after {before:?}");
        ensure!(allowed.contains(&revision.to_string().as_str()), "{answer:?}");
    }
    Ok(())
}

/// How many of the users get that revision, when all have asked and been answered anew.
async fn who_gets(load: &Load, revision: &str) -> Result<usize> {
    let since = std::time::Instant::now();
    let newest = tradewind_testkit::eventually("all users are answered", SOON, || async {
        let mut newest: BTreeMap<usize, Answer> = BTreeMap::new();
        let asked_anew = |answer: &Answer| answer.at.checked_sub(answer.took).is_some_and(|asked| asked >= since);
        let answers = load.since(since).answers.into_iter().filter(asked_anew);
        newest.extend(answers.map(|answer| (answer.user, answer)));
        (newest.len() == USERS).then_some(newest)
    });
    Ok(newest.await?.values().filter(|answer| answer.revision.as_deref() == Some(revision)).count())
}

/// Waits until the rollout has come to a stage and soaks there.
async fn soaks(world: &World, stage: u64) -> Result<()> {
    tradewind_testkit::eventually_ok("the stage soaks", SOON, || async {
        let view = json(world, "rollout show digits").await?;
        let there = (view["stage"]["number"].as_u64(), view["state"].as_str());
        ensure!(there == (Some(stage), Some("soaking")), "it is {there:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_canary_takes_users_in_steps_and_gives_them_back_at_once() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let load = with_users(&world).await?;
    let line = format!("deploy --max-parallel all --canary 10,50 --soak 10m --detach {}", example("v2"));
    ok(&world, &line).await?;
    soaks(&world, 1).await?;
    let tenth = who_gets(&load, "2").await?;
    assert!((1..=12).contains(&tenth), "{tenth} of {USERS}");
    let status = ok(&world, "status digits").await?.stdout;
    assert!(status.contains("10 % of users get digits 2, all others 1"), "{status}");
    ok(&world, "rollout promote digits").await?;
    soaks(&world, 2).await?;
    let half = who_gets(&load, "2").await?;
    assert!((10..=30).contains(&half) && half > tenth, "{half} of {USERS}");
    let pinned = ok(&world, "route pin digits --user user-0,user-1 --to candidate").await?.stdout;
    assert_eq!(pinned, "digits: 2 users are pinned to candidate; epoch 4 acknowledged by 2 of 2 gateways\n");
    let listed = ok(&world, "route pins digits").await?.stdout;
    assert!(listed.lines().any(|line| line.contains("user-1") && line.contains("candidate")), "{listed}");
    who_gets(&load, "2").await?;
    let of_pinned = |answer: &Answer| answer.user <= 1 && answer.revision.as_deref() == Some("1");
    let since = std::time::Instant::now();
    who_gets(&load, "2").await?;
    assert!(!load.since(since).answers.iter().any(of_pinned), "who is pinned gets the candidate");
    check(&load.so_far(), &["1", "2"])?;

    let told = ok(&world, "rollback digits").await?.stdout;
    assert!(told.contains("acknowledged by 2 of 2 gateways"), "{told}");
    assert_eq!(who_gets(&load, "1").await?, USERS);
    let report = load.stop().await;
    assert!(report.failures().is_empty() && report.went_back().is_empty(), "{:?}", report.failures().first());
    let again = refused(&world, "deploy digits:2", 5).await?;
    assert!(again.contains("--allow-bad"), "{again}");
    Ok(())
}

#[tokio::test]
async fn waves_wait_for_a_person_when_one_fails_and_everybody_gets_the_fix() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let load = with_users(&world).await?;
    let line = "deploy --switch wave --on-failure pause --retries 0 --soak 0s --standby 1s";
    let output = world.cli(format!("{line} {}", example("v3-broken")).split(' ')).await?;
    assert_eq!(output.code, Some(7), "{output:?}");
    assert!(output.stderr.contains("waits for a person: verification failed in us-east1"), "{output:?}");
    assert!(output.stderr.contains("tradewind rollout abort digits"), "{output:?}");
    let paused = refused(&world, "rollout pause digits", 5).await?;
    assert!(paused.contains("it is paused already"), "{paused}");
    ok(&world, "rollout resume digits").await?;
    let waits = tradewind_testkit::eventually("it asks again", SOON, || async {
        let view = json(&world, "rollout show digits").await.ok()?;
        view["paused"]["reason"].as_str().map(str::to_owned)
    });
    assert!(waits.await?.contains("verification failed"));
    ok(&world, "rollout abort digits").await?;
    assert_eq!(who_gets(&load, "1").await?, USERS);

    ok(&world, &format!("{line} --wait {}", example("v2"))).await?;
    assert_eq!(who_gets(&load, "3").await?, USERS);
    let view = json(&world, "rollout show digits").await?;
    let routes = view["steps"].as_array().context("steps")?.iter().filter(|step| step["action"] == "route");
    let details: Vec<&str> = routes.filter_map(|step| step["detail"].as_str()).collect();
    let expected = [
        "epoch 2 for users of 1 of 2 regions acknowledged by 2 of 2 gateways",
        "epoch 3 for everybody acknowledged by 2 of 2 gateways",
    ];
    assert_eq!(details, expected);
    check(&load.stop().await, &["1", "3"])
}

#[tokio::test]
async fn a_gateway_that_stood_still_gives_nobody_what_is_older_than_they_have_seen() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let load = with_users(&world).await?;
    assert_eq!(who_gets(&load, "1").await?, USERS);
    let gateway = world.processes("gateway", Some("europe-west1"))?.first().context("a gateway")?.pid;
    signal(gateway, Signal::STOP)?;
    let line = format!("deploy --max-parallel all --canary 50 --soak 10m --detach {}", example("v2"));
    ok(&world, &line).await?;
    // The switch waits for its lease and no longer.
    soaks(&world, 1).await?;
    signal(gateway, Signal::CONT)?;
    let routing = tradewind_testkit::eventually("it catches up", SOON, || async {
        let view = json(&world, "rollout show digits").await.ok()?;
        (view["routing"]["acknowledged"] == 2).then_some(())
    });
    routing.await?;
    let half = who_gets(&load, "2").await?;
    assert!((10..=30).contains(&half), "{half} of {USERS}");
    check(&load.stop().await, &["1", "2"])
}

#[tokio::test]
async fn regions_without_room_for_two_revisions_give_way_in_turn_and_nobody_notices() -> Result<()> {
    let world = serving(options(&REGIONS)).await?;
    let load = with_users(&world).await?;
    let line = format!("deploy --switch in-place --soak 1s --wait {}", example("v2"));
    let mut deploy = std::pin::pin!(world.cli(line.split(' ')));
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let mut most = 0;
    let output = loop {
        tokio::select! {
            output = &mut deploy => break output?,
            _ = look.tick() => for region in REGIONS {
                most = most.max(world.processes("replica", Some(region))?.len());
            },
        }
    };
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(most, 1, "there is room for one replica in each region");
    assert_eq!(who_gets(&load, "2").await?, USERS);
    let view = json(&world, "status digits").await?;
    assert_eq!(view["deployment_status"]["europe-west1"], "success", "{view}");
    assert_eq!(view["slots"].as_object().map(serde_json::Map::len), Some(1), "nothing is warm: {view}");

    let told = ok(&world, "rollback digits").await?.stdout;
    assert_eq!(who_gets(&load, "3").await?, USERS, "{told}");
    check(&load.stop().await, &["1", "2", "3"])
}
