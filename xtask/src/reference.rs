//! References that are generated from the code: `cargo xtask reference` writes them, `cargo xtask check` compares.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};

use crate::{process, workspace::Workspace};

/// Where each reference lies, and what `tradewind reference` calls it.
const REFERENCES: [(&str, &str); 3] =
    [("docs/cli.md", "cli"), ("docs/metrics.md", "metrics"), ("docs/reference/pipeline.schema.json", "pipeline")];

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    for (place, name) in REFERENCES {
        let path = workspace.root().join(place);
        fs::write(&path, text(workspace, name)?).with_context(|| format!("writing {}", path.display()))?;
        println!("{place}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for (place, name) in REFERENCES {
        let kept = fs::read(workspace.root().join(place)).unwrap_or_default();
        ensure!(kept == text(workspace, name)?, "{place} is not what the code says: run `cargo xtask reference`");
    }
    Ok(())
}

fn text(workspace: &Workspace, name: &str) -> Result<Vec<u8>> {
    process::stdout(workspace.cargo().args(["run", "--quiet", "--package", "tradewind", "--", "reference", name]))
}
