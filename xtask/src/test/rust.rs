//! Rust tests: with cargo-nextest if it is installed, else with `cargo test`; documentation tests always with the
//! latter.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Bench, Counts};
use crate::process;

pub(super) fn tests(bench: &Bench<'_>) -> Result<Counts> {
    if process::succeeds(bench.workspace.cargo().args(["nextest", "--version"])) {
        let mut nextest = bench.workspace.cargo();
        nextest.args(["nextest", "run", "--no-fail-fast", "--color", "never", "--show-progress", "none"]);
        nextest.args(["--status-level", "fail"]).args(bench.scope());
        return counted(bench, nextest, nextest_summary);
    }
    let mut test = bench.workspace.cargo();
    test.args(["test", "--all-targets", "--no-fail-fast", "--color", "never"]).args(bench.scope());
    counted(bench, test, cargo_result)
}

/// Only with the whole workspace: cargo refuses to look for documentation tests in a crate that is a program alone.
pub(super) fn documentation(bench: &Bench<'_>) -> Result<Counts> {
    if !bench.options.packages.is_empty() {
        return Ok(Counts::default());
    }
    let mut test = bench.workspace.cargo();
    test.args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast", "--color", "never"]);
    counted(bench, test, cargo_result)
}

/// Runs, prints each line, and sums the counts of the lines that have some.
fn counted(bench: &Bench<'_>, mut command: Command, counts_of: fn(&str) -> Option<Counts>) -> Result<Counts> {
    bench.equip(&mut command);
    let mut counts: Option<Counts> = None;
    let status = process::each_line(&mut command, |line| {
        println!("{line}");
        if let Some(more) = counts_of(line) {
            *counts.get_or_insert_default() += more;
        }
    })?;
    let counts = counts.with_context(|| format!("it ended with {status} and counted no tests"))?;
    Ok(counts.judged_by(status.success()))
}

/// `     Summary [   0.112s] 4 tests run: 1 passed (1 slow), 1 failed, 2 timed out, 1 skipped`
///
/// One such line ends a run; the output of failed tests is indented less or deeper, so it is not taken for it.
fn nextest_summary(line: &str) -> Option<Counts> {
    let (run, rest) = line.strip_prefix("     Summary [")?.split_once(" run: ")?;
    let run: u64 = run.split_once(']')?.1.split_whitespace().next()?.split('/').next()?.parse().ok()?;
    let passed = rest.split(", ").find_map(|part| part.split_once(" passed")?.0.parse().ok()).unwrap_or(0);
    // Failed, timed out, or never started: what ran and did not pass.
    Some(Counts { passed, failed: run.checked_sub(passed)? })
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s`
fn cargo_result(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = counts.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some(Counts { passed, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Option<Counts> {
        Some(Counts { passed, failed })
    }

    #[test]
    fn the_summary_of_nextest() {
        for (line, expected) in [
            ("     Summary [   0.006s] 1 test run: 1 passed, 1 skipped", counts(1, 0)),
            ("     Summary [   0.112s] 2 tests run: 1 passed, 1 failed, 1 skipped", counts(1, 1)),
            ("     Summary [  61.012s] 9 tests run: 6 passed (1 slow), 1 failed, 2 timed out, 0 skipped", counts(6, 3)),
            ("     Summary [   0.112s] 2/7 tests run: 1 passed, 1 failed, 1 skipped", counts(1, 1)),
            ("     Summary [   0.112s] 2 tests run: 0 passed, 2 failed, 0 skipped", counts(0, 2)),
            ("     Summary [   0.000s] 0 tests run: 0 passed, 2 skipped", counts(0, 0)),
            ("        PASS [   0.006s] (1/2) a b", None),
            ("    Summary of a test: 3 tests run: 3 passed", None),
        ] {
            assert_eq!(nextest_summary(line), expected, "{line}");
        }
    }

    #[test]
    fn the_result_of_cargo_test() {
        for (line, expected) in [
            (
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
                counts(3, 0),
            ),
            ("test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out", counts(1, 2)),
            ("test a ... ok", None),
            ("    test result: ok. 3 passed; 0 failed", None),
        ] {
            assert_eq!(cargo_result(line), expected, "{line}");
        }
    }
}
