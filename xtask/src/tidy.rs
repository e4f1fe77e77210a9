//! `cargo xtask tidy`: the project's own rules, those that no linter knows. Each finding says where and what to do.

mod exceptions;
mod layers;
mod manifest;
mod source;
mod tree;

use std::{fmt, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// A rule that was broken, at a line of a file. The path is relative to the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: PathBuf,
    line: usize,
    rule: Rule,
    /// What is wrong and what to do.
    message: String,
}

/// What a finding is about; an exception names one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    /// A `mod.rs`.
    ModRs,
    /// A file too long to read at once.
    Length,
    /// A crate that does not say what it is for.
    CrateDoc,
    /// A lint silenced, a test ignored, work left for later.
    Silenced,
    /// A test that waits by sleeping.
    Sleep,
    /// A path of somebody's machine.
    MachinePath,
    /// The core reaching for the world outside.
    PureCore,
    /// A dependency against the direction of the layers.
    Layer,
    /// A dependency without its reason.
    Reason,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    match check(workspace) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(findings) => {
            println!("{findings:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Fails with every finding, one a line.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut findings = Vec::new();
    for file in tree::files(workspace.root())? {
        findings.extend(source::findings(&file));
        if file.path.as_os_str() == "Cargo.toml" {
            findings.extend(manifest::findings(&file));
        }
    }
    findings.extend(layers::findings(workspace)?);

    let mut findings = exceptions::apply(findings);
    findings.sort();
    if !findings.is_empty() {
        bail!("{}", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}
