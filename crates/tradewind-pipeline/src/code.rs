//! The files that a step's result depends on: its program, its module, and what these name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tradewind_core::{Digest, pipeline::file::Step};

use crate::data;

/// The largest file of Python that is read for what it imports, in bytes.
const SOURCE_BYTES_LIMIT: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    #[error("`{step}`: there is no module `{module}` beside the pipeline's file")]
    NoModule { step: String, module: String },
    #[error("`{step}`: cannot read {}", path.display())]
    Read { step: String, path: PathBuf, source: io::Error },
    #[error("`{step}`: `files`")]
    Files { step: String, source: Box<data::Error> },
}

/// Digests by paths relative to `base`.
pub(crate) fn of(name: &str, step: &Step, base: &Path) -> Result<BTreeMap<String, Digest>, CodeError> {
    let mut paths = BTreeSet::new();
    for word in step.run.iter().flatten() {
        paths.extend(Some(base.join(word)).filter(|path| path.is_file() && path.starts_with(base)));
    }
    if let Some((module, _)) = step.function.as_deref().and_then(|function| function.split_once(':')) {
        let path = module_file(base, module);
        let path = path.ok_or_else(|| CodeError::NoModule { step: name.to_owned(), module: module.to_owned() })?;
        add_imported(base, path, &mut paths);
    }
    let named = data::matching(base, &step.files);
    paths.extend(named.map_err(|source| CodeError::Files { step: name.to_owned(), source: Box::new(source) })?);
    let digested = paths.into_iter().map(|path| {
        let digest = digest(&path).map_err(|source| {
            let path = path.clone();
            CodeError::Read { step: name.to_owned(), path, source }
        })?;
        let relative = path.strip_prefix(base).unwrap_or(&path);
        Ok((relative.to_string_lossy().into_owned(), digest))
    });
    digested.collect()
}

/// The module's file and those of what it imports from beside the pipeline's file, as far as plain lines say so.
fn add_imported(base: &Path, path: PathBuf, paths: &mut BTreeSet<PathBuf>) {
    let mut left = vec![path];
    while let Some(path) = left.pop() {
        let mut text = String::new();
        // What cannot be read is told of when its digest is taken.
        let _ = File::open(&path).and_then(|file| file.take(SOURCE_BYTES_LIMIT).read_to_string(&mut text));
        let package = path.parent().unwrap_or(base).to_owned();
        if paths.insert(path) {
            left.extend(imports(&text).into_iter().filter_map(|module| match module.strip_prefix('.') {
                Some(relative) => module_file(&package, relative),
                None => module_file(base, &module),
            }));
        }
    }
}

/// Modules that are named by lines `import a, b` and `from a import b`; what may be a module of a package is one too.
fn imports(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for line in text.lines().map(str::trim) {
        let first = |words: &str| words.split_whitespace().next().map(str::to_owned);
        if let Some(names) = line.strip_prefix("import ") {
            modules.extend(names.split(',').filter_map(first));
        } else if let Some((from, names)) = line.strip_prefix("from ").and_then(|rest| rest.split_once(" import ")) {
            let from = from.trim();
            let names = names.trim_start_matches('(').split(',').filter_map(first);
            let dot = if from.ends_with('.') { "" } else { "." };
            modules.extend(names.map(|name| format!("{from}{dot}{name}")));
            modules.push(from.to_owned());
        }
    }
    modules
}

fn module_file(base: &Path, module: &str) -> Option<PathBuf> {
    if module.is_empty() || module.contains('/') {
        return None;
    }
    let path = base.join(module.replace('.', "/"));
    [path.with_extension("py"), path.join("__init__.py")].into_iter().find(|path| path.is_file())
}

pub(crate) fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_step_depends_on_its_program_its_modules_and_what_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        for (path, text) in [
            (
                "steps.py",
                "import os, helpers\nfrom shapes import (circle, square)\n    from shapes.more import x as y\n",
            ),
            ("helpers.py", "import steps\n"),
            ("shapes/__init__.py", ""),
            ("shapes/circle.py", "from . import base\nfrom .deep.one import two\n"),
            ("shapes/base.py", ""),
            ("shapes/deep/one.py", ""),
            ("shapes/more.py", ""),
            ("unused.py", ""),
            ("words.txt", ""),
            ("clean.sh", ""),
        ] {
            let path = base.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let code = |text: &str| of("train", &toml::from_str(text).unwrap(), base);
        let paths = |text: &str| code(text).unwrap().into_keys().collect::<Vec<_>>();
        assert_eq!(
            paths("function = \"steps:train\"\nfiles = [\"*.txt\"]"),
            [
                "helpers.py",
                "shapes/__init__.py",
                "shapes/base.py",
                "shapes/circle.py",
                "shapes/deep/one.py",
                "shapes/more.py",
                "steps.py",
                "words.txt",
            ]
        );
        assert_eq!(
            paths("run = [\"sh\", \"clean.sh\", \"--words\", \"words.txt\", \"/etc/hostname\"]"),
            ["clean.sh", "words.txt"]
        );
        let missing = code("function = \"nowhere:train\"").unwrap_err().to_string();
        assert_eq!(missing, "`train`: there is no module `nowhere` beside the pipeline's file");
        let before = code("function = \"helpers:a\"").unwrap();
        fs::write(base.join("helpers.py"), "import steps # changed").unwrap();
        let after = code("function = \"helpers:a\"").unwrap();
        let changed: Vec<&String> = before.keys().filter(|path| before[*path] != after[*path]).collect();
        assert_eq!(changed, ["helpers.py"]);
    }
}
