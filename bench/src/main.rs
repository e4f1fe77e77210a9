//! Benchmarks. `cargo xtask bench NAME` builds and runs them; what they find stands in `docs/benchmarks.md`.
//!
//! Every sample is taken in a process of its own, so that one does not warm another.
#![expect(clippy::print_stdout, reason = "a command line program talks on stdout")]

mod deploy;

use anyhow::Result;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "tradewind-bench", about = "Benchmarks of Tradewind")]
enum Command {
    /// What a rollout costs the control plane, over 10, 100 and 1000 regions
    Deploy(deploy::Options),
    /// One sample of `deploy`, as JSON
    #[command(hide = true)]
    DeploySample(deploy::sample::Options),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Deploy(options) => deploy::run(&options),
        Command::DeploySample(options) => deploy::sample::run(&options),
    }
}
