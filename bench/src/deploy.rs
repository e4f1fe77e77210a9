//! What a rollout costs the control plane, and how that grows with the regions.

mod plot;
pub(crate) mod sample;
mod statistics;
mod table;

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use self::{sample::Sample, statistics::Summary};
use crate::findings;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fleets to deploy to
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    regions: Vec<usize>,
    /// How many regions are worked on at once: numbers, or `all`
    #[arg(long, value_delimiter = ',', default_values_t = ["1".to_owned(), "10".to_owned(), "all".to_owned()])]
    max_parallel: Vec<String>,
    /// Samples of each; the median is told, with the least and the greatest
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where to put the table (between its markers) and, beside it, the plot
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

/// All samples of one way to deploy to one fleet.
#[derive(Debug)]
struct Row {
    regions: usize,
    max_parallel: String,
    summary: Summary,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.runs > 0, "there is nothing to tell of no runs");
    let mut rows = Vec::new();
    for max_parallel in &options.max_parallel {
        for &regions in &options.regions {
            let samples: Vec<Sample> = (0..options.runs).map(|_| take(regions, max_parallel)).collect::<Result<_>>()?;
            let row = Row { regions, max_parallel: max_parallel.clone(), summary: Summary::of(&samples) };
            if rows.is_empty() {
                println!("{}", table::header());
            }
            println!("{}", table::line(&row));
            rows.push(row);
        }
    }
    match &options.docs {
        Some(docs) => {
            let lines: Vec<String> = rows.iter().map(table::line).collect();
            let text = format!("{}\n{}", table::header(), lines.join("\n"));
            findings::write(docs, "deploy", &text, Some(&plot::svg(&rows)))
        }
        None => Ok(()),
    }
}

/// Takes a sample in a process of its own.
fn take(regions: usize, max_parallel: &str) -> Result<Sample> {
    let mut command = Command::new(env::current_exe().context("finding this program")?);
    command.args(["deploy-sample", "--regions", &regions.to_string(), "--max-parallel", max_parallel]);
    let output = command.stderr(Stdio::inherit()).output().context("starting a sample")?;
    ensure!(output.status.success(), "the sample of {regions} regions, {max_parallel} at once, failed");
    serde_json::from_slice(&output.stdout).context("reading a sample")
}
