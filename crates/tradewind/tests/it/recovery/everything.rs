//! A power cut: every process is gone at once.

use anyhow::{Context, Result, ensure};
use tradewind_core::{Epoch, RevisionNumber};
use tradewind_testkit::{Part, eventually_ok};

use super::{DEADLINE, DIGITS, REGIONS, roles, serves};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_world_that_lost_every_process_serves_again_by_itself() -> Result<()> {
    let mut roles = roles()?;
    roles.start_all().await?;
    roles.cli_ok(["deploy", "--regions", &REGIONS.join(","), &format!("{DIGITS}/v1")]).await?;
    serves(&roles, "digits", 1, 1).await?;

    roles.kill_everything().await?;
    for region in REGIONS {
        assert!(roles.replicas(region).is_empty());
    }

    // Control is the last to come back, and nobody waits for it.
    let members: Vec<Part> = roles.parts().into_iter().filter(|part| *part != Part::Control).collect();
    for part in &members {
        roles.start(part).await?;
    }
    serves(&roles, "digits", 1, 1).await?;
    for region in REGIONS {
        assert_eq!(roles.replicas(region).len(), 1, "one replica and no more");
    }

    roles.start(&Part::Control).await?;
    eventually_ok("control finds every region healthy", DEADLINE, || async {
        let status = roles.status("digits").await?;
        ensure!(status.health.values().all(|health| health.healthy), "{:?}", status.health);
        ensure!(status.health.len() == REGIONS.len(), "{:?}", status.health);
        Ok(())
    })
    .await?;
    let status = roles.status("digits").await?;
    assert_eq!((status.revision, status.epoch), (Some(RevisionNumber(1)), Some(Epoch(1))));
    let rollouts = roles.cli_ok(["rollout", "list", "digits", "-o", "json"]).await?.json()?;
    assert_eq!(rollouts["rollouts"].as_array().context("a list")?.len(), 1, "nothing was rolled out again");
    serves(&roles, "digits", 1, 1).await
}
