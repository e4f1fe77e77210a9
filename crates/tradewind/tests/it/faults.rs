//! What breaks under a region rather than in it: its disk fills up, it misses a revision. Alerts tell of it, and of its end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tradewind_api::monitoring::{AlertQuery, AlertView};
use tradewind_core::alert::{AlertKind, Severity};
use tradewind_testkit::{Disk, Host, Part, Roles, eventually_ok};

const US: &str = "us-east1";
const EUROPE: &str = "europe-west1";
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits");
/// An alert lasts a minute before it fires, and is well for a minute before it is over; the rest is ten times what is expected.
const DEADLINE: Duration = Duration::from_secs(180);

fn world() -> Result<Roles> {
    let host = Host::this();
    Roles::new(env!("CARGO_BIN_EXE_tradewind"), &host, &[(US, &host), (EUROPE, &host)])
}

/// Waits until a region's alert fires, or is over.
async fn told(roles: &Roles, kind: AlertKind, region: &str, is_over: bool) -> Result<AlertView> {
    let client = roles.client()?;
    eventually_ok(&format!("{kind} in {region} is told"), DEADLINE, || async {
        let alerts = client.alerts(&AlertQuery { all: true, limit: None }).await?.alerts;
        let of_region = |told: &&AlertView| told.alert.key.region.as_ref().is_some_and(|it| it.as_str() == region);
        let found = alerts.iter().filter(of_region).find(|told| told.alert.key.kind == kind).cloned();
        let found = found.with_context(|| format!("{alerts:?}"))?;
        ensure!(found.alert.resolved_at.is_some() == is_over, "{found:?}");
        Ok(found)
    })
    .await
}

#[tokio::test]
async fn a_full_disk_is_told_and_so_is_its_end() -> Result<()> {
    let mut roles = world()?;
    let disk = Disk::mount(&roles.data_dir(&Part::agent(US)))?;
    for part in [Part::Control, Part::agent(US)] {
        roles.start(&part).await?;
    }
    disk.fill()?;
    let full = told(&roles, AlertKind::DiskRoom, US, false).await?;
    assert_eq!(
        (full.alert.severity, full.alert.detail.as_str()),
        (Severity::Critical, "the agent's disk: 0.0 GB of 0.3 GB free")
    );
    disk.clear()?;
    let over = told(&roles, AlertKind::DiskRoom, US, true).await?;
    assert_eq!(over.alert.id, full.alert.id);
    Ok(())
}

#[tokio::test]
async fn a_region_that_missed_a_revision_is_told_until_it_has_caught_up() -> Result<()> {
    let mut roles = world()?;
    roles.start_all().await?;
    roles.cli_ok(["deploy", "--regions", &format!("{US},{EUROPE}"), &format!("{DIGITS}/v1")]).await?;
    roles.kill_agent_and_replicas(EUROPE).await?;
    roles.cli_ok(["deploy", "--min-regions", "1", &format!("{DIGITS}/v2")]).await?;
    let behind = told(&roles, AlertKind::VersionDrift, EUROPE, false).await?;
    assert!(behind.alert.detail.contains("has not caught up with revision 2"), "{behind:?}");
    roles.start(&Part::agent(EUROPE)).await?;
    let over = told(&roles, AlertKind::VersionDrift, EUROPE, true).await?;
    assert_eq!(over.alert.id, behind.alert.id);
    Ok(())
}
