//! The project's own chores, the same for people and CI: `cargo xtask COMMAND`. One file per command.
#![expect(clippy::print_stdout, reason = "a command line program talks on stdout")]

mod bench;
mod check;
mod demo;
mod dependencies;
mod onnxruntime;
mod packages;
mod process;
mod reference;
mod test;
mod tidy;
mod triton;
mod venv;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of the Tradewind repository")]
enum Command {
    /// See it work: a world of three regions, a real model, and things going wrong on purpose
    Demo(demo::Options),
    /// Fetch the ONNX Runtime library that replicas load
    Onnxruntime,
    /// Check form: format, lints, docs, dependencies, spelling, tidy, generated references
    Check(check::Options),
    /// Write the references that are generated from the code
    Reference,
    /// Check the project's own rules: layers, file sizes, test habits
    Tidy,
    /// Measure: deploys, gateways, servers of models, failovers, spikes, switches, alerts, scaling, and what monitoring costs
    Bench(bench::Options),
    /// Run every test
    Test(test::Options),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Also on stdout: in CI its last line should be the reason.
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Onnxruntime => onnxruntime::run(&workspace),
        Command::Check(options) => check::run(&workspace, &options),
        Command::Reference => reference::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Test(options) => test::run(&workspace, &options),
    }
}
