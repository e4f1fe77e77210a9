//! A gateway that is killed under `tradewind up`, which holds its socket and starts it again.

use std::{path::Path, time::Duration, time::Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;
use tradewind_testkit::{Host, Options, World};

use super::{
    LEAD, PATIENCE, PER_SECOND, USERS,
    cluster::{MODEL, first_answer, settled},
    fault::{BEYOND, NEXT, STRUCK},
    figures::Taken,
};
use crate::{
    repository,
    users::{Asked, Users},
};

pub(super) async fn take(program: &Path, window: Duration) -> Result<Taken> {
    let mut world = World::start(Options::new(program).regions(&[STRUCK, NEXT, BEYOND])).await?;
    let taken = kill_gateway(&world, window).await;
    world.stop().await?;
    taken
}

async fn kill_gateway(world: &World, window: Duration) -> Result<Taken> {
    let bundle = repository::root()?.join(MODEL);
    let bundle = bundle.to_str().context("the repository's path is no text")?;
    let output = world.cli(["deploy", bundle, "--name", "digits", "--regions", &format!("{STRUCK},{NEXT}")]).await?;
    anyhow::ensure!(output.code == Some(0), "{output:?}");
    let gateway = world.processes("gateway", Some(STRUCK))?;
    let address = gateway.first().context("the region has no gateway")?.address.parse()?;
    let question = first_answer(&Host::this(), address).await?;
    settled(&Host::this(), address, &question).await?;
    let users = Users { entries: vec![address], question, count: USERS, per_second: PER_SECOND, patience: PATIENCE };
    let asking = users.start();
    sleep(LEAD).await;
    let at = Instant::now();
    world.kill("gateway", Some(STRUCK))?;
    sleep(window).await;
    let Asked { samples, late } = asking.stop().await?;
    Ok(Taken { samples, at, late })
}
