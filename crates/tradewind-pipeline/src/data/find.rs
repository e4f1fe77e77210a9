//! Finds the files that sources name: a path, a directory with all that is below it, or a pattern.
//!
//! Links are followed. What is hidden is left out unless its name is written out, and the pipeline's own home is.

use std::{
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use super::{Error, read::Stamp};

/// The most files of a pipeline.
pub(super) const FILES_LIMIT: u64 = 1_000_000;
/// The most entries of directories that are looked at for one source.
const ENTRIES_LIMIT: u64 = 10_000_000;
/// The longest name, in bytes.
pub(super) const NAME_BYTES_LIMIT: usize = 1024;

/// A file, before it is read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Relative to the pipeline's file where it can be: the same on every machine.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

impl Found {
    pub(super) fn new(name: String, path: PathBuf) -> Result<Self, Error> {
        let problem = if name.len() > NAME_BYTES_LIMIT {
            Some("its path is longer than 1024 bytes")
        } else if name.chars().any(char::is_control) {
            Some("there is a control character in its path")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Error::Name { path, problem });
        }
        let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
        Ok(Self { name, path, stamp: Stamp::of(&metadata) })
    }
}

/// The files of all local sources by their paths; one that several sources name is there once, with the first name.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<PathBuf, Found>);

impl Files {
    pub(super) fn add(&mut self, found: Found) -> Result<(), Error> {
        self.0.entry(found.path.clone()).or_insert(found);
        if self.0.len() as u64 > FILES_LIMIT {
            let help = "put many small files into few large ones, or split the pipeline";
            return Err(Error::TooMany { what: "files", limit: FILES_LIMIT, help });
        }
        Ok(())
    }

    /// In the order of their names.
    pub(super) fn sorted(self) -> Vec<Found> {
        let mut found: Vec<Found> = self.0.into_values().collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }
}

/// Adds what one source names.
pub(super) fn find(source: &str, base: &Path, home: &Path, files: &mut Files) -> Result<(), Error> {
    let wrong = |problem: &str| Error::Source { source_text: source.to_owned(), problem: problem.to_owned() };
    if source.is_empty() || source.contains('\0') {
        return Err(wrong("it is no path"));
    }
    if source.contains("://") {
        return Err(wrong("only http:// and https:// can be fetched"));
    }
    let (root, pattern) = split(source);
    let walk = Walk { home, root: base.join(&root), named: named(&root, base) };
    let pattern = match pattern {
        Some(pattern) => Pattern::new(&pattern).map_err(|problem| wrong(&problem))?,
        None => {
            let metadata = fs::metadata(&walk.root).map_err(Error::io("read", &walk.root))?;
            if metadata.is_file() {
                let path = walk.root.canonicalize().map_err(Error::io("read", &walk.root))?;
                return files.add(Found::new(shown(&walk.named)?, path)?);
            }
            Pattern { matcher: None, depth: usize::MAX, takes_hidden: false }
        }
    };
    if !walk.root.is_dir() || walk.run(&pattern, files)? == 0 {
        return Err(Error::NothingFound { pattern: source.to_owned(), base: base.to_owned() });
    }
    Ok(())
}

/// The directory before the first wildcard, and what is matched below it.
fn split(source: &str) -> (PathBuf, Option<String>) {
    let parts: Vec<&str> = source.split('/').collect();
    let Some(first) = parts.iter().position(|part| part.contains(['*', '?'])) else {
        return (PathBuf::from(source), None);
    };
    let root = if first == 1 && parts[0].is_empty() { "/".to_owned() } else { parts[..first].join("/") };
    let pattern = parts[first..].iter().filter(|part| !part.is_empty() && **part != ".");
    (PathBuf::from(root), Some(pattern.copied().collect::<Vec<_>>().join("/")))
}

/// How files below a root are called: as the source says, without detours.
fn named(root: &Path, base: &Path) -> PathBuf {
    let root = if root.is_absolute() { root.strip_prefix(base).unwrap_or(root) } else { root };
    let mut named = PathBuf::new();
    for part in root.components() {
        let is_inside = matches!(named.components().next_back(), Some(Component::Normal(_)));
        match part {
            Component::CurDir => {}
            Component::ParentDir if is_inside => drop(named.pop()),
            other => named.push(other),
        }
    }
    named
}

fn shown(name: &Path) -> Result<String, Error> {
    let text = name.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Name { path: name.to_owned(), problem: "its path is not UTF-8" })
}

struct Pattern {
    /// Everything, where there is none.
    matcher: Option<GlobMatcher>,
    depth: usize,
    takes_hidden: bool,
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, String> {
        let parts: Vec<&str> = pattern.split('/').collect();
        if parts.iter().any(|part| part.contains("**") && *part != "**") {
            return Err("`**` stands for directories, between two `/`".to_owned());
        }
        // Brackets and braces are parts of names.
        let escaped: String = pattern
            .chars()
            .flat_map(|c| if matches!(c, '[' | ']' | '{' | '}' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(true).build();
        Ok(Self {
            matcher: Some(glob.map_err(|error| error.to_string())?.compile_matcher()),
            depth: if parts.contains(&"**") { usize::MAX } else { parts.len() },
            takes_hidden: parts.iter().any(|part| part.starts_with('.')),
        })
    }

    fn matches(&self, relative: &Path) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.is_match(relative))
    }
}

struct Walk<'a> {
    home: &'a Path,
    root: PathBuf,
    named: PathBuf,
}

impl Walk<'_> {
    /// Adds every file that matches, and counts them.
    fn run(&self, pattern: &Pattern, files: &mut Files) -> Result<u64, Error> {
        let mut matched = 0;
        let root = self.root.canonicalize().map_err(Error::io("read", &self.root))?;
        let is_seen = |entry: &DirEntry| {
            let is_hidden = entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
            (pattern.takes_hidden || !is_hidden) && entry.path() != self.home
        };
        let walk = WalkDir::new(&root).follow_links(true).max_depth(pattern.depth);
        for (seen, entry) in walk.into_iter().filter_entry(is_seen).enumerate() {
            if seen as u64 > ENTRIES_LIMIT {
                let help = "name a directory nearer to the data";
                return Err(Error::TooMany { what: "files and directories to look at", limit: ENTRIES_LIMIT, help });
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => match self.problem(&root, pattern, error) {
                    Some(problem) => return Err(problem),
                    None => continue,
                },
            };
            let relative = entry.path().strip_prefix(&root).unwrap_or(entry.path());
            if entry.file_type().is_file() && pattern.matches(relative) {
                let name = shown(&self.named.join(relative))?;
                files.add(Found::new(name, entry.into_path())?)?;
                matched += 1;
            }
        }
        Ok(matched)
    }

    /// What matters of an error on the way: not that of an entry which is not looked into and would not match.
    fn problem(&self, root: &Path, pattern: &Pattern, error: walkdir::Error) -> Option<Error> {
        let path = error.path().unwrap_or(root).to_owned();
        let relative = path.strip_prefix(root).unwrap_or(&path);
        if error.depth() == pattern.depth && !pattern.matches(relative) {
            return None;
        }
        if let Some(ancestor) = error.loop_ancestor() {
            return Some(Error::Loop { ancestor: ancestor.to_owned(), path });
        }
        let source = error.into_io_error().unwrap_or_else(|| std::io::ErrorKind::Other.into());
        Some(Error::io("look into", &path)(source))
    }
}
