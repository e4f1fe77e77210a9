//! What is done to a fleet every day, and is no fault: nobody has to be told of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;
use tradewind_testkit::{Faulty, Part, Roles, Signal, signal};

use super::scene::{OTHER, STRUCK, Scene};
use crate::progress::say;

/// Between two of them.
const PAUSE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Work {
    /// Another revision, which takes over in one move.
    Deploy,
    Drain,
    Undrain,
    RestartControl,
    RestartAgent(&'static str),
    RestartGateway(&'static str),
    /// Its agent starts another one.
    LoseReplica,
}

const DAY: [Work; 8] = [
    Work::Deploy,
    Work::Drain,
    Work::Undrain,
    Work::RestartGateway(STRUCK),
    Work::RestartAgent(STRUCK),
    Work::LoseReplica,
    Work::RestartControl,
    Work::RestartGateway(OTHER),
];

/// Goes on, day after day, for so long, and says how much was done.
pub(super) async fn work(scene: &mut Scene, time: Duration) -> Result<usize> {
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < time {
        let work = DAY[done % DAY.len()];
        say(&format!("usual work: {work:?}"));
        carry_out(scene, work, done).await.with_context(|| format!("{work:?}"))?;
        done += 1;
        sleep(PAUSE).await;
    }
    Ok(done)
}

async fn carry_out(scene: &mut Scene, work: Work, done: usize) -> Result<()> {
    let roles = &mut scene.roles;
    match work {
        Work::Deploy => {
            let replicas = if done == 0 { "3" } else { "2" };
            roles.cli_ok(["deploy", Faulty::MODEL, "--replicas", replicas]).await?;
        }
        Work::Drain => drop(roles.cli_ok(["regions", "drain", OTHER]).await?),
        Work::Undrain => drop(roles.cli_ok(["regions", "undrain", OTHER]).await?),
        Work::RestartControl => restart(roles, &Part::Control).await?,
        Work::RestartAgent(region) => restart(roles, &Part::agent(region)).await?,
        Work::RestartGateway(region) => restart(roles, &Part::gateway(region)).await?,
        Work::LoseReplica => {
            let replica = roles.replicas(OTHER).first().context("a replica")?.pid;
            signal(replica, Signal::KILL)?;
        }
    }
    Ok(())
}

async fn restart(roles: &mut Roles, part: &Part) -> Result<()> {
    roles.kill(part).await?;
    roles.start(part).await
}
