//! `cargo xtask check`: everything that can be said of the tree without running it. All steps run, then the failed
//! ones are listed.

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;

use crate::{dependencies, process, reference, tidy, venv::Venv, workspace::Workspace};

/// The pinned programs of this command, from PyPI.
pub(crate) const TOOLS: &str = "xtask/tools.txt";

/// A step fails with the text that is shown.
type Step = fn(&Workspace) -> Result<()>;

const STEPS: &[(&str, Step)] = &[
    ("format", format),
    ("clippy", clippy),
    ("docs", docs),
    ("dependencies", dependencies::check),
    ("spelling", spelling),
    ("tidy", tidy::check),
    ("references", reference::check),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these steps
    #[arg(value_parser = PossibleValuesParser::new(STEPS.iter().map(|(name, _)| *name)))]
    steps: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let chosen = |name: &str| options.steps.is_empty() || options.steps.iter().any(|step| step == name);
    let mut failed = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| chosen(name)) {
        print!("{name:<14}");
        std::io::stdout().flush().context("writing to stdout")?;
        let started = Instant::now();
        let result = step(workspace);
        let took = seconds(started.elapsed());
        match result {
            Ok(()) => println!("ok     {took}"),
            Err(error) => {
                println!("FAILED {took}\n{error:#}\n");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn format(workspace: &Workspace) -> Result<()> {
    process::stdout(workspace.cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    Ok(())
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]);
    process::stdout(&mut clippy)?;
    Ok(())
}

fn docs(workspace: &Workspace) -> Result<()> {
    let mut doc = workspace.cargo();
    doc.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
    process::stdout(&mut doc)?;
    Ok(())
}

fn spelling(workspace: &Workspace) -> Result<()> {
    let tools = Venv::prepare(workspace, "tools", &workspace.root().join(TOOLS))?;
    let mut typos = tools.command("typos");
    typos.current_dir(workspace.root()).args(["--format", "brief", "--color", "never"]);
    process::stdout(&mut typos).context("right words that typos does not know belong in typos.toml")?;
    Ok(())
}
