//! References that are generated from the code: `cargo xtask reference` writes them, `cargo xtask check` compares.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};

use crate::{process, workspace::Workspace};

/// Where the reference of the command line lies.
const CLI: &str = "docs/cli.md";

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let path = workspace.root().join(CLI);
    fs::write(&path, cli(workspace)?).with_context(|| format!("writing {}", path.display()))?;
    println!("{CLI}");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let kept = fs::read(workspace.root().join(CLI)).unwrap_or_default();
    ensure!(kept == cli(workspace)?, "{CLI} is not what the code says: run `cargo xtask reference`");
    Ok(())
}

fn cli(workspace: &Workspace) -> Result<Vec<u8>> {
    process::stdout(workspace.cargo().args(["run", "--quiet", "--package", "tradewind", "--", "reference"]))
}
