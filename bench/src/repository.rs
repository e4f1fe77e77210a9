//! Where files of the repository are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub(crate) fn root() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this is not in a repository")?.to_owned())
}

/// The text of a file, relative to the root.
pub(crate) fn file(name: &str) -> Result<String> {
    let path = root()?.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
