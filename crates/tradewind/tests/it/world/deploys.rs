//! Deploying: in order, side by side, from a file, one at a time, and under load.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tradewind_testkit::{Load, World, eventually_ok};

use super::{INFER, SOON, answered_by, ask, example, json, ok, options, refused, request, serving, start, status};

const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_deploy_goes_region_by_region() -> Result<()> {
    let world = start(&["us-east1", "europe-west1"]).await?;
    let line = format!("deploy --regions us-east1,europe-west1 {}", example("v1"));
    let dry = ok(&world, &format!("{line} --dry-run")).await?;
    assert!(dry.stdout.contains("nothing was deployed"), "{}", dry.stdout);
    refused(&world, "status digits", 3).await?;

    let deployed = ok(&world, &line).await?.stdout;
    let said: Vec<&str> =
        ["us-east1 ", "us-east1 ", "europe-west1 ", "europe-west1 ", "routing ", "monitoring "].into();
    let lines: Vec<&str> =
        deployed.lines().map(str::trim).filter(|line| said.iter().any(|word| line.starts_with(word))).collect();
    assert_eq!(lines.len(), said.len(), "{deployed}");
    assert!(lines.iter().zip(&said).all(|(line, word)| line.starts_with(word)), "{deployed}");
    assert!(lines[1].contains("20/20 golden cases"), "{deployed}");
    assert!(deployed.contains("digits 1 serves in 2 regions"), "{deployed}");
    assert!(!deployed.contains('\u{1b}'), "plain lines without a terminal: {deployed:?}");
    assert!(!overlap(&world).await?, "one region after the other");
    assert_eq!(status(&world).await?["monitoring_active"], true, "the verb ends once monitoring is active");

    let again = ok(&world, "deploy digits:1").await?.stdout;
    assert!(again.contains("revision 1  blue"), "{again}");
    assert_eq!(json(&world, "history digits").await?["revisions"].as_array().map(Vec::len), Some(1));

    ok(&world, &format!("models push {}", example("v2"))).await?;
    let done = json(&world, "deploy --max-parallel all digits").await?;
    assert_eq!((&done["schema_version"], &done["revision"]), (&json!(1), &json!(2)));
    assert!(overlap(&world).await?, "both regions at once");

    let said = refused(&world, "deploy --regions us-east1 digits:1", 5).await?;
    assert!(said.contains("europe-west1") && said.contains("--prune"), "{said}");
    assert_eq!(status(&world).await?["revision"], 2);
    ok(&world, "deploy --regions us-east1 --prune digits:1").await?;
    assert_eq!(status(&world).await?["regions"], json!(["us-east1"]));
    answered_by(&world, "europe-west1", "us-east1").await?;
    Ok(())
}

/// Whether the second region's deploy began before the first was verified.
async fn overlap(world: &World) -> Result<bool> {
    let rollout = json(world, "rollout show digits").await?;
    let steps = rollout["steps"].as_array().context("steps")?;
    let time = |action: &str, region: &str, key: &str| -> Result<String> {
        let step = steps.iter().find(|step| step["action"] == action && step["region"] == region).context("a step")?;
        Ok(step[key].as_str().with_context(|| format!("{key} of {step}"))?.to_owned())
    };
    let verified = time("verify", "us-east1", "finished_at")?.parse::<jiff::Timestamp>()?;
    Ok(time("deploy", "europe-west1", "started_at")?.parse::<jiff::Timestamp>()? < verified)
}

#[tokio::test]
async fn a_version_that_fails_its_cases_is_refused() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    let before = ask(&world, "us-east1").await?;
    let output = world.cli(["deploy", "--retries", "1", &example("v3-broken")]).await?;
    assert_eq!(output.code, Some(1), "{output:?}");
    let said = format!("{}{}", output.stdout, output.stderr);
    for words in [
        "error: digits 2 was not deployed: verification failed in us-east1",
        "golden cases 3/20",
        "(attempt 2 of 2)",
        "Nothing was routed. digits 1 serves in 2 regions, as before.",
        "hint: see every check with `tradewind rollout show digits`",
    ] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
    let status = status(&world).await?;
    assert_eq!((&status["revision"], &status["epoch"]), (&json!(1), &json!(1)), "{status}");
    assert_eq!(status["verification_status"]["us-east1"], "failed");
    assert_eq!(status["deployment_status"]["europe-west1"], "pending", "the second region was never begun");
    assert_eq!(status["routing_configured"], false, "of the rollout that failed");
    let everyone = json!({"number": 1, "of": 1, "users": "everyone"});
    assert_eq!(
        status["rollout"],
        json!({
            "revision": 2, "state": "failed", "stage": everyone, "paused": null, "soak": "skipped", "soak_until": null
        })
    );
    let table = ok(&world, "status digits").await?.stdout;
    let sentence = "users get digits 1, as before; revision 2 failed and changed nothing for them: ";
    assert!(table.contains(sentence) && !table.contains("not configured"), "{table}");
    for region in ["us-east1", "europe-west1"] {
        let reply = ask(&world, region).await?;
        assert_eq!((reply.region.as_str(), reply.revision.as_str()), (region, "1"));
        assert_eq!(reply.document["outputs"], before.document["outputs"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_rollout_under_way_wants_to_be_replaced() -> Result<()> {
    let world = serving(options(&["us-east1"])).await?;
    ok(&world, &format!("models push {}", example("v2"))).await?;
    let directory = TempDir::new()?;
    let file = directory.path().join("deployment.toml");
    // Fails, and tries again for long enough to be found at it.
    let text = format!(
        "model = \"{}\"\nregions = [\"us-east1\"]\n[strategy]\nretries = 10\nsoak = \"1s\"\n",
        example("v3-broken")
    );
    std::fs::write(&file, text)?;
    let detached = ok(&world, &format!("deploy --detach -f {}", file.display())).await?;
    assert!(detached.stdout.contains("tradewind status"), "{}", detached.stdout);
    let rollout = status(&world).await?["rollout"].clone();
    assert_eq!((&rollout["revision"], &rollout["state"]), (&json!(2), &json!("regions")), "{rollout}");

    let said = refused(&world, "deploy digits:2", 5).await?;
    assert!(said.contains("--replace"), "{said}");
    ok(&world, "deploy --replace digits:2").await?;
    assert_eq!(ask(&world, "us-east1").await?.revision, "3");
    let history = json(&world, "history digits").await?;
    let states: Vec<&Value> = history["revisions"].as_array().context("a list")?.iter().map(|r| &r["state"]).collect();
    assert_eq!(states[1], "superseded", "{history}");
    Ok(())
}

#[tokio::test]
async fn a_new_version_loses_no_request_and_nobody_goes_back() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"])).await?;
    let load = Load::start(&world.gateways()?, 3, PAUSE, INFER, &request()?)?;
    for version in ["v2", "v1"] {
        ok(&world, &format!("deploy {}", example(version))).await?;
        let answered = load.answered();
        eventually_ok("users are answered after the deploy", SOON, || async {
            ensure!(load.answered() > answered + 100, "{} more", load.answered() - answered);
            Ok(())
        })
        .await?;
    }
    let report = load.stop().await;
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
    for answer in &report.answers {
        let revision: u64 = answer.revision.as_ref().context("a revision")?.parse()?;
        let seen = newest.entry(answer.user).or_insert(revision);
        assert!(revision >= *seen, "user {} had revision {seen}, then {revision}", answer.user);
        *seen = revision;
    }
    assert_eq!(newest.len(), 6);
    assert!(newest.values().all(|revision| *revision == 3), "{newest:?}");
    Ok(())
}
