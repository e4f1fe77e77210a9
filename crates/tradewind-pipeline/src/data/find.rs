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
                return files.add(Found::new(shown(&walk.named)?, direct(&walk.root)?)?);
            }
            Pattern { matcher: None, depth: usize::MAX, takes_hidden: false }
        }
    };
    if !walk.root.is_dir() || walk.run(&pattern, files)? == 0 {
        return Err(Error::NothingFound { pattern: source.to_owned(), base: base.to_owned() });
    }
    Ok(())
}

/// The path of a file without detours, under the name that it has there: the ending of a link tells its format.
fn direct(path: &Path) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else { return path.canonicalize().map_err(Error::io("read", path)) };
    let directory = path.with_file_name("");
    Ok(directory.canonicalize().map_err(Error::io("read", path))?.join(name))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A directory with files of these names.
    fn world(names: &[&str]) -> TempDir {
        let base = TempDir::new().unwrap();
        for name in names {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        base
    }

    fn names(base: &TempDir, sources: &[&str]) -> Result<Vec<String>, Error> {
        let base = base.path().canonicalize().unwrap();
        let mut files = Files::default();
        for source in sources {
            find(source, &base, &base.join("home"), &mut files)?;
        }
        Ok(files.sorted().into_iter().map(|found| found.name).collect())
    }

    #[test]
    fn sources_name_files_directories_and_patterns() {
        let base = world(&[
            "data/a.csv",
            "data/b.csv",
            "data/[1].csv",
            "data/notes.txt",
            "data/deep/er/c.csv",
            "data/.hidden.csv",
            "data/.git/d.csv",
            "home/batches/e.csv",
        ]);
        for (sources, expected) in [
            (&["data/a.csv"][..], &["data/a.csv"][..]),
            (&["./data//a.csv", "data/../data/a.csv"], &["data/a.csv"]),
            (&["data/*.csv"], &["data/[1].csv", "data/a.csv", "data/b.csv"]),
            (&["data/?.csv", "data/a*"], &["data/a.csv", "data/b.csv"]),
            (&["data/[1].csv"], &["data/[1].csv"]),
            (&["data/[1]*"], &["data/[1].csv"]),
            (&["**/c.csv"], &["data/deep/er/c.csv"]),
            (&["data/**/a.csv"], &["data/a.csv"]),
            (&["*/deep/**"], &["data/deep/er/c.csv"]),
            (&["data/deep"], &["data/deep/er/c.csv"]),
            (&["data/.git/*.csv"], &["data/.git/d.csv"]),
            (&["data/.h*"], &["data/.hidden.csv"]),
            (&["**/*.csv"], &["data/[1].csv", "data/a.csv", "data/b.csv", "data/deep/er/c.csv"]),
            (&["."], &["data/[1].csv", "data/a.csv", "data/b.csv", "data/deep/er/c.csv", "data/notes.txt"]),
        ] {
            assert_eq!(names(&base, sources).unwrap(), expected, "{sources:?}");
        }
        let absolute = format!("{}/data/a.*", base.path().canonicalize().unwrap().display());
        assert_eq!(names(&base, &[&absolute]).unwrap(), ["data/a.csv"], "it lies beside the pipeline's file");
    }

    #[test]
    fn what_is_outside_is_called_as_the_source_says() {
        let base = world(&["pipeline/x", "shared/a.csv"]);
        let pipeline = base.path().join("pipeline").canonicalize().unwrap();
        let mut files = Files::default();
        find("../shared/*.csv", &pipeline, Path::new("/nowhere"), &mut files).unwrap();
        let found = files.sorted();
        assert_eq!(found[0].name, "../shared/a.csv");
        assert_eq!(found[0].path, base.path().canonicalize().unwrap().join("shared/a.csv"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let base = world(&["data/a.csv"]);
        fs::create_dir(base.path().join("empty")).unwrap();
        for (source, expected) in [
            ("data/*.parquet", "no file matches `data/*.parquet` under "),
            ("nothing/*.csv", "no file matches `nothing/*.csv` under "),
            ("empty", "no file matches `empty` under "),
            ("data/b.csv", "cannot read "),
            ("data/a**", "`data/a**` is no source: `**` stands for directories"),
            ("s3://bucket/a", "`s3://bucket/a` is no source: only http"),
            ("", "`` is no source"),
        ] {
            let error = names(&base, &[source]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        fs::write(base.path().join("data/new\nline.csv"), "").unwrap();
        let error = names(&base, &["data/*"]).unwrap_err().to_string();
        assert!(error.contains("control character"), "{error}");
    }

    #[test]
    fn links_are_followed_and_loops_seen() {
        let base = world(&["data/a.csv", "elsewhere/b.csv"]);
        let link = |to: &str, name: &str| symlink(base.path().join(to), base.path().join(name)).unwrap();
        link("elsewhere", "data/more");
        link("elsewhere/b.csv", "data/c.csv");
        assert_eq!(names(&base, &["data"]).unwrap(), ["data/a.csv", "data/c.csv", "data/more/b.csv"]);
        link("data", "data/self");
        let error = names(&base, &["data/**/*.csv"]).unwrap_err();
        assert!(matches!(&error, Error::Loop { path, .. } if path.ends_with("data/self")), "{error}");
        assert_eq!(names(&base, &["data/*.csv"]).unwrap(), ["data/a.csv", "data/c.csv"], "it is not looked into");
        link("gone", "data/gone.csv");
        let error = names(&base, &["data/*.csv"]).unwrap_err().to_string();
        assert!(error.starts_with("cannot look into ") && error.ends_with("data/gone.csv"), "{error}");
    }
}
