//! `cargo xtask bench NAME`: builds the benchmarks as they ship, and runs one.

mod batches;
mod needs;
mod peers;
mod serving;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use self::needs::Needs;
use crate::workspace::Workspace;

/// Where the findings stand, relative to the root.
const DOCS: &str = "docs/benchmarks.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which one: `deploy`, `gateway`, `serving`, `failover`, `spike`, `alerts`, `cost`, `switch`,
    /// `autoscale`, `batches`
    name: String,
    /// For the benchmark itself; see `cargo xtask bench NAME --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs a benchmark. Without arguments it measures all of it, and its findings go to the documentation.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut command = workspace.cargo();
    command.args(["run", "--quiet", "--release", "--package", "tradewind-bench", "--", &options.name]);
    if options.arguments.is_empty() {
        command.args(["--docs", DOCS]);
    }
    if let Some(needs) = Needs::of(&options.name) {
        needs.prepare(workspace, &mut command, &options.arguments)?;
    }
    match options.name.as_str() {
        "serving" => serving::prepare(workspace, &mut command, &options.arguments)?,
        "batches" => batches::prepare(workspace, &mut command, &options.arguments)?,
        _ => {}
    }
    let status = command.args(&options.arguments).status().context("starting cargo")?;
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(ExitCode::SUCCESS)
}
