//! The files that people write: all text in the repository that is not fetched, built or left by a run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Folders of other people's files and of machines' ones, as in `.gitignore`.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "dist", "tradewind-data", "__pycache__"];
const EXTENSIONS: &[&str] =
    &["rs", "toml", "md", "py", "ts", "tsx", "js", "css", "html", "sh", "yml", "yaml", "json", "snap", "txt"];
/// Scripts that have no extension.
const NAMES: &[&str] = &["run"];

#[derive(Debug)]
pub(super) struct SourceFile {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
            let kind = entry.file_type().with_context(|| format!("looking at {}", entry.path().display()))?;
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                folders.push(entry.path());
            } else if kind.is_file() && is_text(&entry.path()) {
                let text =
                    fs::read_to_string(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
                let path = entry.path().strip_prefix(root).context("a file outside the root")?.to_owned();
                found.push(SourceFile { path, text });
            }
        }
    }
    Ok(found)
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        || NAMES.iter().any(|name| path.file_name().is_some_and(|file| file == *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_found_and_what_is_built_is_not() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/src/lib.rs", "target/debug/x.rs", "a/node_modules/y.js", ".ci/run", "a/model.onnx"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut paths: Vec<PathBuf> = files(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        paths.sort();
        assert_eq!(paths, [Path::new(".ci/run"), Path::new("a/src/lib.rs")]);
    }
}
