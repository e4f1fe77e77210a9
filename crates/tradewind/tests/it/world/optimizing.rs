//! Leaner versions of a real model, made by ONNX Runtime's own tools in an environment that the command prepares.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tradewind_testkit::{Output, World};

use super::{digits, example, ok, options, refused, serving};

/// The environment is made once, and kept between runs.
const CACHE: &str = env!("CARGO_TARGET_TMPDIR");

async fn optimize(world: &World, line: &str) -> Result<Output> {
    let mut command = world.command(format!("optimize {line} --duration 500ms -o json").split_whitespace())?;
    let output = command.env("XDG_CACHE_HOME", CACHE).output().await?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok(Output { code: output.status.code(), stdout, stderr })
}

/// Copies a bundle, and has its golden cases expect the label alone. Returns them.
fn with_labels_only(from: &Path, to: &Path) -> Result<Vec<Value>> {
    std::fs::create_dir_all(to.join("cases"))?;
    for file in ["tradewind.toml", "model.onnx"] {
        std::fs::copy(from.join(file), to.join(file))?;
    }
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(from.join("cases"))? {
        let entry = entry?;
        let mut case: Value = serde_json::from_slice(&std::fs::read(entry.path())?)?;
        case["expect"]["outputs"].as_array_mut().context("outputs")?.retain(|output| output["name"] == "label");
        std::fs::write(to.join("cases").join(entry.file_name()), case.to_string())?;
        cases.push(case);
    }
    Ok(cases)
}

#[tokio::test]
async fn a_leaner_version_is_kept_if_it_answers_as_well() -> Result<()> {
    let world = serving(options(&["us-east1"])).await?;
    ok(&world, &format!("models push {}", example("v2"))).await?;

    let graph = optimize(&world, "digits:2 --graph").await?;
    let report: Value = serde_json::from_str(&graph.stdout).with_context(|| format!("{graph:?}"))?;
    assert_eq!((&report["published"], &report["refused"], &report["int8"]), (&json!(3), &json!([]), &Value::Null));
    assert_eq!(report["after"]["golden_cases_held"], 20, "{report}");
    assert!(
        report["before"]["operators"].is_null() && report["operators"]["before"]["Cast"].as_u64() > Some(0),
        "{report}"
    );

    let rounded = optimize(&world, "digits:2 --int8").await?;
    assert_eq!(rounded.code, Some(1), "{rounded:?}");
    assert!(rounded.stderr.contains("is not kept") && rounded.stderr.contains("expect the label alone"), "{rounded:?}");
    let report: Value = serde_json::from_str(&rounded.stdout)?;
    assert!(report["published"].is_null() && report["int8"] == "static", "{report}");

    let bundle = tempfile::tempdir()?;
    let cases = with_labels_only(&digits().join("v2"), bundle.path())?;
    ok(&world, &format!("models push {} --name labels", bundle.path().display())).await?;
    let evaluation = bundle.path().join("evaluation.jsonl");
    std::fs::write(&evaluation, cases.iter().map(|case| format!("{case}\n")).collect::<String>())?;
    let line = format!("labels --graph --int8 --evaluate {} --max-accuracy-loss 0.05", evaluation.display());
    let tried = optimize(&world, &format!("{line} --dry-run")).await?;
    let kept = optimize(&world, &line).await?;
    let (tried, kept): (Value, Value) = (serde_json::from_str(&tried.stdout)?, serde_json::from_str(&kept.stdout)?);
    assert_eq!((&tried["refused"], &tried["published"], &kept["published"]), (&json!([]), &Value::Null, &json!(2)));
    let bytes = |which: &str| kept[which]["bytes"].as_u64();
    assert!(bytes("after") < bytes("before").map(|bytes| bytes / 2), "{kept}");
    assert_eq!(kept["before"]["accuracy"], 1.0);

    let old = optimize(&world, "digits:1 --int8").await?;
    assert!(old.code == Some(1) && old.stderr.contains("operator set 9"), "{old:?}");
    assert!(refused(&world, "optimize nothing --graph", 3).await?.contains("nothing"));
    assert_eq!(world.cli(["optimize", "digits"]).await?.code, Some(2));
    Ok(())
}
