//! What a machine gets out of a model, measured on real replicas.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{json, ok, options, refused, serving};

#[tokio::test]
async fn a_model_is_measured_and_the_best_setup_is_applied() -> Result<()> {
    let world = serving(options(&["us-east1"])).await?;
    let directory = tempfile::tempdir()?;
    let svg = directory.path().join("digits.svg");
    let line = format!(
        "tune digits --duration 500ms --clients 1,8 --batch-rows 1,32 --cores 2 --svg {} --apply",
        svg.display()
    );
    let report = json(&world, &line).await?;
    let measured = report["measured"].as_array().context("measurements")?;
    assert_eq!(measured.len(), 3 * 2 * 2, "{report}");
    let is_sound =
        |one: &Value| one["throughput"].as_f64() > Some(0.0) && one["p99_us"].as_u64() >= one["p50_us"].as_u64();
    assert!(measured.iter().all(is_sound), "{report}");
    let best = &report["recommended"]["best"];
    assert!(measured.contains(best) && !report["frontier"].as_array().context("a frontier")?.is_empty(), "{report}");
    assert!(std::fs::read_to_string(svg)?.contains("<title>digits version 1 on 2 cores</title>"));

    let history = ok(&world, "history digits").await?.stdout;
    assert!(report["rollout"] == 2 && history.lines().any(|line| line.trim_start().starts_with("2 ")), "{history}");
    let shown = ok(&world, "tune digits --duration 500ms --clients 1 --batch-rows 1 --cores 1").await?.stdout;
    assert!(shown.contains("answers a second") && shown.contains("--replicas 1 --threads 1"), "{shown}");

    let line = "tune digits --duration 500ms --clients 1 --batch-rows 1 --cores 1 --latency-budget 0ms";
    let slow = world.cli(line.split(' ')).await?;
    assert_eq!(slow.code, Some(1), "{slow:?}");
    assert!(slow.stderr.contains("nothing answers within 0") && slow.stderr.contains("tradewind optimize"), "{slow:?}");
    let unknown = refused(&world, "tune nothing", 3).await?;
    assert!(unknown.contains("nothing"), "{unknown}");
    assert_eq!(world.cli(["tune", "digits", "--clients", "0"]).await?.code, Some(2));
    refused(&world, "tune digits --duration 1ms", 2).await?;
    Ok(())
}
