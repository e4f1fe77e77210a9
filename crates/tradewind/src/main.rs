//! The `tradewind` binary: verbs that talk to a control plane, and the entry points of the roles.
//!
//! The verbs are clients like any other: what they can do, anybody can do over the API.

use std::process::ExitCode;

mod cli;
mod commands;
mod failure;
mod measure;
mod outage;
mod roles;
mod session;
mod settings;
mod terminal;
mod traces;
mod up;
mod usage;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
/// Tests of readers watch what these take.
#[cfg(test)]
#[global_allocator]
static COUNTING: tradewind_fuzz::Counting = tradewind_fuzz::Counting;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let format = cli.command.format();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}
