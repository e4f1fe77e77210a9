//! A day of users in three regions, in minutes: replicas that follow them, beside as many as the peak needs.

mod day;
mod fleet;
mod report;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use self::{
    fleet::{Fleet, take},
    report::Row,
};
use crate::{
    findings, machine,
    progress::{say, until_interrupted},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The `tradewind` program
    #[arg(long, value_name = "FILE", default_value = "target/release/tradewind")]
    program: PathBuf,
    /// How long an hour of the day takes
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    hour: u64,
    /// Only these fleets
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FLEET", default_values_t = Fleet::BOTH)]
    only: Vec<Fleet>,
    /// Where to put the table, between its markers
    #[arg(long, value_name = "FILE")]
    docs: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.hour > 0, "an hour takes some time");
    machine::allow_open_files()?;
    let program = options.program.canonicalize().with_context(|| options.program.display().to_string())?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    let quarter = Duration::from_secs(options.hour) / 4;
    let measured = async {
        let mut rows = Vec::new();
        for fleet in options.only.iter().copied() {
            let taken = take(&program, fleet, quarter).await.context(fleet.label())?;
            taken.tell_failures(quarter);
            let row = Row::of(fleet, &taken);
            say(&row.line(None));
            rows.push(row);
        }
        Ok(rows)
    };
    let rows = runtime.block_on(until_interrupted(measured))?;
    let caption = format!(
        "By `cargo xtask bench autoscale`: a day in {} s, with each fleet. {}.",
        options.hour * 24,
        machine::describe()
    );
    let text = [report::table(&rows, quarter), caption].join("\n\n");
    println!("{text}");
    match &options.docs {
        Some(docs) => findings::write(docs, "autoscale", &text, None),
        None => Ok(()),
    }
}
