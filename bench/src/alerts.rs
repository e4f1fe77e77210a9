//! How soon the monitors tell of real faults, and whether they keep quiet without one.

mod fault;
mod report;
mod scene;
mod usual;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::time::{interval, timeout};
use tradewind_core::alert::AlertKind;
use tradewind_testkit::Disk;

use self::{
    fault::Fault,
    report::{Quiet, Row},
    scene::{PER_SECOND, Scene},
};
use crate::{
    findings, machine,
    progress::{say, until_interrupted},
};

/// Well above how long any fault goes unnoticed.
const LIMIT: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// Times that each fault happens; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// For how long worlds without a fault are watched, in all
    #[arg(long, value_name = "MINUTES", default_value_t = 20)]
    quiet: u64,
    /// Only these faults
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULT", default_values_t = Fault::ALL)]
    only: Vec<Fault>,
    /// Where to put the table, between its markers
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "there is nothing to tell of no runs");
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let (faults, note) = possible(&options.only);
    let (rows, quiet) = runtime.block_on(until_interrupted(measure(options, &program, &faults)))?;
    let how = if options.only == Fault::ALL { "" } else { ", some of it" };
    let caption = format!(
        "By `cargo xtask bench alerts`{how}: {} rounds, {PER_SECOND} requests/s in each region. {}.",
        options.rounds,
        machine::describe()
    );
    let told = (options.quiet > 0).then(|| quiet.sentence());
    let text = [report::table(&rows)].into_iter().chain(told).chain(note).chain([caption]);
    let text = text.collect::<Vec<_>>().join("\n\n");
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "alerts", &text, None),
        None => Ok(()),
    }
}

/// Those that can be brought about here, and what is left out because of it.
fn possible(faults: &[Fault]) -> (Vec<Fault>, Option<String>) {
    let tried = TempDir::new().context("making a directory").and_then(|place| Disk::mount(place.path()).map(drop));
    let Err(why) = tried else { return (faults.to_vec(), None) };
    let others = faults.iter().copied().filter(|fault| *fault != Fault::Disk).collect();
    (others, Some(format!("No disk is filled here: {why:#}.")))
}

async fn measure(options: &Options, program: &Path, faults: &[Fault]) -> Result<(Vec<Row>, Quiet)> {
    let mut rows: Vec<Row> = Vec::new();
    for fault in faults {
        let mut of_fault: Vec<Row> = fault.alerts().iter().map(|alert| Row::new(*fault, *alert)).collect();
        for round in 0..options.rounds {
            take(program, *fault, round, &mut of_fault).await.with_context(|| fault.label())?;
        }
        rows.extend(of_fault);
    }
    let mut quiet = Quiet::default();
    let time = Duration::from_secs(60 * options.quiet);
    if !time.is_zero() {
        let mut scene = Scene::start(program, false).await?;
        let began = Instant::now();
        quiet.work = usual::work(&mut scene, time).await?;
        quiet.time = began.elapsed();
        quiet.alerts =
            scene.alerts().await?.iter().map(|told| format!("{} ({})", told.alert.key, told.alert.detail)).collect();
    }
    Ok((rows, quiet))
}

/// One fault in a new world, until all that has to be told is told.
async fn take(program: &Path, fault: Fault, round: usize, rows: &mut [Row]) -> Result<()> {
    let mut scene = Scene::start(program, fault == Fault::Disk).await?;
    let before = scene.alerts().await?;
    ensure!(before.is_empty(), "{} fires before anything is wrong", before[0].alert.key);
    let at = scene.strike(fault).await?;
    let mut missing: Vec<&mut Row> = rows.iter_mut().collect();
    let watching = async {
        let mut looks = interval(LOOK);
        while !missing.is_empty() {
            looks.tick().await;
            let told: BTreeSet<AlertKind> = scene.alerts().await?.iter().map(|told| told.alert.key.kind).collect();
            let took = at.elapsed();
            for row in missing.extract_if(.., |row| told.contains(&row.alert)) {
                say(&format!("{}, round {}: {} after {took:.1?}", fault.label(), round + 1, row.alert));
                row.add(took, &told);
            }
        }
        Ok(())
    };
    timeout(LIMIT, watching).await.context("nothing tells of it")?
}
