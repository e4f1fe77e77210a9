//! `cargo xtask bench NAME`: builds the benchmarks as they ship, and runs one.

mod gateway;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// Where the findings stand, relative to the root.
const DOCS: &str = "docs/benchmarks.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which one: `deploy`, `gateway`
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
    if options.name == gateway::NAME {
        gateway::prepare(workspace, &mut command, &options.arguments)?;
    }
    let status = command.args(&options.arguments).status().context("starting cargo")?;
    ensure!(status.success(), "the benchmark ended with {status}");
    Ok(ExitCode::SUCCESS)
}
