//! One rollout in this process, measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tradewind_api::deploy::DeployRequest;
use tradewind_core::{
    VersionNumber,
    duration::Span,
    rollout::{RolloutState, strategy::MaxParallel},
};
use tradewind_store::Store;
use tradewind_testkit::fleet::Fleet;

use crate::memory::resident_bytes;

/// A rollout that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(600);
const GATEWAYS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    regions: usize,
    /// A number, or `all`
    #[arg(long, value_parser = max_parallel)]
    max_parallel: MaxParallel,
}

fn max_parallel(text: &str) -> Result<MaxParallel, std::num::ParseIntError> {
    if text == "all" { Ok(MaxParallel::All) } else { text.parse().map(MaxParallel::Count) }
}

/// What one rollout cost, from the request to active monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub transactions: f64,
    /// By which the store grew, history included.
    pub stored_bytes: f64,
    /// By which this process grew.
    pub resident_bytes: f64,
    pub cpu_ms: f64,
    pub wall_ms: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let sample = runtime.block_on(measure(options))?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

async fn measure(options: &Options) -> Result<Sample> {
    let fleet = Fleet::start(options.regions, GATEWAYS).await?;
    let control = fleet.control();
    fleet.ready(DEADLINE).await?;
    let before = Reading::take(&fleet).await?;
    let request = DeployRequest {
        version: Some(VersionNumber(1)),
        regions: Some(fleet.regions().to_vec()),
        max_parallel: Some(options.max_parallel),
        soak: Some(Span::from_secs(3600)),
        requested_by: "bench".to_owned(),
        ..DeployRequest::default()
    };
    fleet.deploy(request).await.map_err(|problem| anyhow!("{problem:?}"))?;
    fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await?;
    let after = Reading::take(&fleet).await?;
    control.stop().await;
    fleet.stop().await;
    Ok(after.since(&before))
}

#[derive(Debug)]
struct Reading {
    transactions: u64,
    stored_bytes: u64,
    resident_bytes: u64,
    cpu: Duration,
    at: Instant,
}

impl Reading {
    async fn take(fleet: &Fleet) -> Result<Self> {
        // The clocks first, so that what follows is not in the measure's end.
        let (at, cpu) = (Instant::now(), cpu_time());
        let stats = fleet.store().stats().await?;
        let (transactions, stored_bytes) = (stats.transactions, stats.bytes);
        Ok(Self { transactions, stored_bytes, resident_bytes: resident_bytes(std::process::id())?, cpu, at })
    }

    fn since(&self, before: &Self) -> Sample {
        let grown = |now: u64, then: u64| now as f64 - then as f64;
        Sample {
            transactions: grown(self.transactions, before.transactions),
            stored_bytes: grown(self.stored_bytes, before.stored_bytes),
            resident_bytes: grown(self.resident_bytes, before.resident_bytes),
            cpu_ms: (self.cpu - before.cpu).as_secs_f64() * 1e3,
            wall_ms: (self.at - before.at).as_secs_f64() * 1e3,
        }
    }
}

/// Of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
