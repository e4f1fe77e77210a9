//! What users see while something breaks: from a replica to a whole region, with Tradewind and with HAProxy before the
//! same replicas, at the same moment.
//!
//! Users ask at a fixed rate whether or not answers come. Each round has a new world, so no fault is left from the last.

mod cluster;
mod fault;
mod figures;
mod report;
mod supervised;

pub(crate) use cluster::first_answer;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use self::{
    cluster::{Cluster, Ground},
    fault::Fault,
    figures::{Figures, Taken},
    report::Row,
};
use crate::{
    findings, machine,
    progress::{say, until_interrupted},
    stall,
    users::Asked,
};

/// Users ask for so long before something breaks.
const LEAD: Duration = Duration::from_secs(2);
/// Of each kind of users.
const PER_SECOND: u32 = 100;
const USERS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// Times that each fault happens; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// For how long users are watched after a fault
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Only these faults
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULT", default_values_t = Fault::ALL)]
    only: Vec<Fault>,
    /// Whether it all works, in three minutes: one round each
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Where to put the table, between its markers
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    ensure!(rounds > 0 && options.seconds > 0, "there is nothing to tell of no runs");
    machine::allow_open_files()?;
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let (ground, note) = Ground::find();
    let faults: Vec<Fault> = options.only.iter().copied().filter(|fault| ground.bears(*fault)).collect();
    let rows = runtime.block_on(until_interrupted(measure(options, &program, ground, &faults, rounds)))?;
    let how = if options.only == Fault::ALL && !options.quick { "" } else { ", some of it" };
    let caption = format!(
        "By `cargo xtask bench failover`{how}: {rounds} rounds, {PER_SECOND} requests/s of each kind of users, watched for {} s. \
         {}; {}.",
        options.seconds,
        machine::describe(),
        machine::version("haproxy", "-v")?
    );
    let text = [report::table(&rows)].into_iter().chain(note).chain([caption]).collect::<Vec<_>>().join("\n\n");
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "failover", &text, None),
        None => Ok(()),
    }
}

async fn measure(
    options: &Options,
    program: &Path,
    ground: Ground,
    faults: &[Fault],
    rounds: usize,
) -> Result<Vec<Row>> {
    let window = Duration::from_secs(options.seconds);
    let mut rows = Vec::new();
    for fault in faults {
        let mut of_fault: Vec<Row> = fault.views().iter().map(|view| Row::new(*fault, *view, window)).collect();
        for round in 0..rounds {
            let take = async || match fault {
                Fault::GatewayKill => supervised::take(program, window).await.map(|taken| vec![taken]),
                _ => take(program, ground, *fault, window).await,
            };
            let late = |all: &Vec<Taken>| all.iter().map(|taken| taken.late).max().unwrap_or_default();
            let all = stall::retake(take, late).await.with_context(|| fault.label())?;
            for (row, taken) in of_fault.iter_mut().zip(all) {
                let figures = Figures::of(&taken, fault.takes_away(), window);
                say(&format!("{}, round {}: {}: {figures}", fault.label(), round + 1, row.view.label()));
                taken.tell_failures();
                row.add(figures);
            }
        }
        rows.extend(of_fault);
    }
    Ok(rows)
}

/// One fault in a new world, as each kind of users saw it.
async fn take(program: &Path, ground: Ground, fault: Fault, window: Duration) -> Result<Vec<Taken>> {
    let cluster = Cluster::start(program, ground, fault).await?;
    let mut asking = Vec::new();
    for view in fault.views() {
        asking.push(cluster.users(*view).await?);
    }
    sleep(LEAD).await;
    let at = cluster.strike(fault)?;
    sleep(window).await;
    let mut all = Vec::new();
    for users in asking {
        let Asked { samples, late } = users.stop().await?;
        all.push(Taken { samples, at, late });
    }
    Ok(all)
}
