//! Regions that were away catch up by themselves; what drifted is repaired.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tradewind_testkit::eventually_ok;

use super::{SOON, answered_by, ask, digits, event, example, ok, options, serving, status};

#[tokio::test]
async fn a_region_that_was_away_is_verified_and_routed_when_it_returns() -> Result<()> {
    let world = serving(options(&["us-east1", "europe-west1"]).arg("--restart").arg("never")).await?;
    let felled = world.fell("europe-west1", &["agent"]).await?;
    event(&world, "region_unhealthy", Some("europe-west1")).await?;
    ok(&world, &format!("deploy --min-regions 1 {}", example("v2"))).await?;
    let away = status(&world).await?;
    assert_eq!(away["deployment_status"], json!({"us-east1": "success", "europe-west1": "deferred"}));
    assert_eq!((&away["revision"], &away["routing_configured"]), (&json!(2), &json!(true)));
    event(&world, "region_deferred", Some("europe-west1")).await?;
    assert_eq!(answered_by(&world, "europe-west1", "us-east1").await?.revision, "2");

    let _back = felled.fallen.first().context("an agent")?.start_again()?;
    event(&world, "region_caught_up", Some("europe-west1")).await?;
    let back = eventually_ok("the region has caught up", SOON, || async {
        let status = status(&world).await?;
        let region = |key: &str| status[key]["europe-west1"].clone();
        ensure!(
            (region("deployment_status"), region("verification_status")) == ("success".into(), "success".into()),
            "{status}"
        );
        Ok(status)
    })
    .await?;
    assert_eq!(answered_by(&world, "europe-west1", "europe-west1").await?.revision, "2");
    assert!(back["epoch"].as_u64() > away["epoch"].as_u64(), "the route has changed: {back}");
    assert_eq!(back["revision"], 2);
    Ok(())
}

#[tokio::test]
async fn an_altered_file_is_found_and_repaired() -> Result<()> {
    let world = serving(options(&["us-east1"])).await?;
    let right = fs::read(digits().join("v1/model.onnx"))?;
    let installed = find(&world.data_dir.join("agents/us-east1/artifacts/bundles"), "model.onnx")?;
    let installed = installed.context("the bundle is installed")?;
    assert_eq!(fs::read(&installed)?, right);
    alter(&installed)?;
    event(&world, "drift_found", Some("us-east1")).await?;
    event(&world, "drift_repaired", Some("us-east1")).await?;
    let repaired = find(&world.data_dir.join("agents/us-east1/artifacts/bundles"), "model.onnx")?;
    assert_eq!(fs::read(repaired.context("the bundle is installed")?)?, right);
    assert_eq!(ask(&world, "us-east1").await?.revision, "1");
    Ok(())
}

/// Flips one byte, against whatever write protection there is.
fn alter(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    Ok(fs::write(path, bytes)?)
}

fn find(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}
