//! `cargo xtask test`: every test, whatever runs it. The last line of stdout is `N passed, N failed`.

mod python;
mod rust;

use std::{
    ops::AddAssign,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{onnxruntime, process, workspace::Workspace};

/// Tells tests to try more cases, longer.
const LONG_VARIABLE: &str = "TRADEWIND_TEST_LONG";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Try more cases, longer (sets TRADEWIND_TEST_LONG=1)
    #[arg(long)]
    long: bool,
    /// Only the Rust tests of this crate; may be given again
    #[arg(short, long = "package", value_name = "CRATE")]
    packages: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let counts = match prepare(workspace, options) {
        Ok(bench) => run_all(&bench),
        Err(error) => {
            println!("error: {error:#}");
            Counts::BROKEN
        }
    };
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What every runner needs.
#[derive(Debug)]
struct Bench<'a> {
    workspace: &'a Workspace,
    onnxruntime: PathBuf,
    options: &'a Options,
}

impl Bench<'_> {
    /// Tells a runner's tests where things are.
    fn equip(&self, command: &mut Command) {
        command.env(onnxruntime::VARIABLE, &self.onnxruntime);
        if self.options.long {
            command.env(LONG_VARIABLE, "1");
        }
    }

    /// The crates to test, as cargo is told.
    fn scope(&self) -> Vec<String> {
        if self.options.packages.is_empty() {
            return vec!["--workspace".to_owned()];
        }
        self.options.packages.iter().map(|package| format!("--package={package}")).collect()
    }
}

fn prepare<'a>(workspace: &'a Workspace, options: &'a Options) -> Result<Bench<'a>> {
    let onnxruntime = onnxruntime::prepare(workspace)?;
    // Real-process tests start the binary; cargo builds it for the tests of its own crate alone.
    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--package", "tradewind"]);
    process::stdout(&mut build).context("building the binary `tradewind`")?;
    Ok(Bench { workspace, onnxruntime, options })
}

/// Runs tests, prints what they say and gives how many passed and failed.
type Runner = fn(&Bench<'_>) -> Result<Counts>;

/// A further runner, such as the tests of a client in another language, is a line here and a module that reads its
/// counts from its output.
const RUNNERS: &[(&str, Runner)] =
    &[("Rust tests", rust::tests), ("Rust documentation", rust::documentation), ("Clients", python::tests)];

fn run_all(bench: &Bench<'_>) -> Counts {
    let mut counts = Counts::default();
    for (name, runner) in RUNNERS {
        println!("== {name}");
        counts += runner(bench).unwrap_or_else(|error| {
            println!("error: {name}: {error:#}");
            Counts::BROKEN
        });
    }
    counts
}

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// Tests that could not run are one failure, never nothing.
    const BROKEN: Self = Self { passed: 0, failed: 1 };

    /// A runner that ends badly without naming a failed test (it crashed, or did not compile) still failed.
    fn judged_by(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self += Self::BROKEN;
        }
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_that_ends_badly_is_never_counted_as_passed() {
        assert_eq!(Counts { passed: 3, failed: 0 }.judged_by(false), Counts { passed: 3, failed: 1 });
        assert_eq!(Counts { passed: 3, failed: 2 }.judged_by(false), Counts { passed: 3, failed: 2 });
        assert_eq!(Counts { passed: 3, failed: 0 }.judged_by(true), Counts { passed: 3, failed: 0 });
    }
}
