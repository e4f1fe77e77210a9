//! Tests that drive real clients, of Python and others: pytest, in an environment of its own, against worlds that it
//! starts.

use anyhow::{Context, Result};

use super::{Bench, Counts};
use crate::{packages, process, triton, venv::Venv};

const DIRECTORY: &str = "tests/python";
/// What compares with a real Triton.
const ORACLE: &str = "test_oracle.py";
/// Clients that are programs, and the packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("prometheus", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("tmux", "tmux"),
];

pub(super) fn tests(bench: &Bench<'_>) -> Result<Counts> {
    if !bench.options.packages.is_empty() {
        return Ok(Counts::default());
    }
    packages::ensure_programs(PROGRAMS)?;
    let directory = bench.workspace.root().join(DIRECTORY);
    let venv = Venv::prepare(bench.workspace, "test", &directory.join("requirements.txt"))?;
    let triton = triton::prepare(bench.workspace, &venv, &directory.join("triton.txt"))?;
    let mut pytest = venv.command("python");
    pytest.args(["-m", "pytest", "--quiet", "--color=no", "-p", "no:cacheprovider"]).arg(&directory);
    match triton {
        Some(home) => pytest.env(triton::VARIABLE, home),
        // There is nothing to compare with.
        None => pytest.arg("--ignore").arg(directory.join(ORACLE)),
    };
    pytest.env("TRADEWIND_BIN", bench.workspace.target().join("debug/tradewind"));
    bench.equip(&mut pytest);
    let mut counts = None;
    let status = process::each_line(&mut pytest, |line| {
        println!("{line}");
        counts = summary(line).or(counts);
    })?;
    let counts = counts.with_context(|| format!("pytest ended with {status} and counted no tests"))?;
    Ok(counts.judged_by(status.success()))
}

/// `18 passed, 1 failed, 2 errors in 3.21s`: pytest's last line. A test that is skipped has not passed.
fn summary(line: &str) -> Option<Counts> {
    let (counts, _) = line.rsplit_once(" in ")?;
    let mut sum = Counts::default();
    for part in counts.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word {
            "passed" => sum.passed += number,
            "warning" | "warnings" => {}
            "failed" | "error" | "errors" | "skipped" | "xfailed" | "xpassed" => sum.failed += number,
            _ => return None,
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_pytest() {
        for (line, expected) in [
            ("18 passed in 3.21s", Some(Counts { passed: 18, failed: 0 })),
            ("1 failed, 17 passed, 2 warnings in 3.21s", Some(Counts { passed: 17, failed: 1 })),
            ("1 passed, 1 skipped, 2 errors in 70.02s (0:01:10)", Some(Counts { passed: 1, failed: 3 })),
            ("....F...", None),
            ("FAILED test_x.py::test_y - assert 1 in 2", None),
        ] {
            assert_eq!(summary(line), expected, "{line}");
        }
    }
}
