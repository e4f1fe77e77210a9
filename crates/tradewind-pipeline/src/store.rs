//! What steps have made, by the keys of what it depends on. An entry is there whole or not at all: it is made elsewhere
//! and gets its name by a rename.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tradewind_core::{
    Digest,
    pipeline::{contract::Said, metric::Metric},
};

use crate::key;

const SCHEMA_VERSION: u32 = 1;
/// The most files that a step may write.
const FILES_LIMIT: usize = 100_000;
/// The largest description of an entry, in bytes.
const ENTRY_BYTES_LIMIT: u64 = 128 << 20;
const ENTRY: &str = "entry.json";
const OUTPUT: &str = "output";
const LOG: &str = "log";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("it wrote {path}, which is {what}: outputs are files and directories")]
    NotAFile { path: String, what: &'static str },
    #[error("it wrote a file whose name is not UTF-8: {path}")]
    Name { path: String },
    #[error("it wrote more than {FILES_LIMIT} files")]
    TooManyFiles,
}

/// What a step has made of its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    schema_version: u32,
    pub key: Digest,
    pub step: String,
    /// Absent where the step is for all batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
    /// Of the names and contents of its files.
    pub output: Digest,
    pub bytes: u64,
    pub took_ms: u64,
    /// By path relative to the output.
    files: BTreeMap<String, Written>,
}

impl Entry {
    /// Of the names and contents of what lies within this directory of its output; all of it where none is named.
    pub fn content(&self, within: Option<&str>) -> Digest {
        let Some(within) = within else { return self.output };
        let prefix = format!("{}/", within.trim_end_matches('/'));
        let files = self.files.iter().filter_map(|(path, written)| Some((path.strip_prefix(&prefix)?, written.digest)));
        key::digest(&files.collect::<BTreeMap<&str, Digest>>())
    }
}

/// A file as it was when its step had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    bytes: u64,
    digest: Digest,
    modified_ns: i128,
}

/// Where a step works, until what it made is kept.
#[derive(Debug)]
pub(crate) struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// A new one of that name; what was left under it is gone.
    pub(crate) fn make(work: &Path, name: &str) -> Result<Self, StoreError> {
        let desk = Self { directory: work.join(name) };
        desk.clear()?;
        let output = desk.output();
        fs::create_dir_all(&output).map_err(failed("make", &output))?;
        Ok(desk)
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.directory.join(OUTPUT)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    pub(crate) fn told(&self) -> PathBuf {
        self.directory.join("step.json")
    }

    pub(crate) fn result(&self) -> PathBuf {
        self.directory.join("result.json")
    }

    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        remove(&self.directory)
    }
}

/// All that has been made.
#[derive(Debug, Clone)]
pub struct Store {
    done: PathBuf,
}

impl Store {
    pub(crate) fn new(done: PathBuf) -> Self {
        Self { done }
    }

    fn directory(&self, key: &Digest) -> PathBuf {
        self.done.join(key.to_hex())
    }

    /// What the step of that key wrote.
    pub fn output(&self, key: &Digest) -> PathBuf {
        self.directory(key).join(OUTPUT)
    }

    /// What the step of that key printed.
    pub fn log(&self, key: &Digest) -> PathBuf {
        self.directory(key).join(LOG)
    }

    /// What is there under that key, if it is as it was when it was made.
    pub fn find(&self, key: &Digest) -> Option<Entry> {
        let entry = read_entry(&self.directory(key)).filter(|entry| entry.key == *key)?;
        let output = self.output(key);
        let intact = entry.files.iter().all(|(path, written)| {
            let metadata = fs::symlink_metadata(output.join(path));
            metadata.is_ok_and(|metadata| metadata.is_file() && Written::stamp(&metadata) == written.stamp_of())
        });
        intact.then_some(entry)
    }

    /// Says that it is still of use: what was used last is collected last. That it cannot be said does no harm.
    pub(crate) fn touch(&self, key: &Digest) {
        let file = File::options().write(true).open(self.directory(key).join(ENTRY));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Keeps what was made at that desk. Where it is there already, that stays.
    pub(crate) fn keep(
        &self,
        desk: &Desk,
        key: Digest,
        (step, batch): (&str, Option<&str>),
        said: Said,
        took_ms: u64,
    ) -> Result<Entry, StoreError> {
        let mut files = BTreeMap::new();
        read_output(&desk.output(), "", &mut files)?;
        let contents: BTreeMap<&str, Digest> =
            files.iter().map(|(path, written)| (path.as_str(), written.digest)).collect();
        let entry = Entry {
            schema_version: SCHEMA_VERSION,
            key,
            step: step.to_owned(),
            batch: batch.map(str::to_owned),
            rows: said.rows,
            metrics: said.metrics,
            output: key::digest(&contents),
            bytes: files.values().map(|written: &Written| written.bytes).sum(),
            took_ms,
            files,
        };
        let path = desk.directory.join(ENTRY);
        let text = serde_json::to_vec(&entry).expect("an entry has names for keys");
        fs::write(&path, text).map_err(failed("write", &path))?;
        let directory = self.directory(&key);
        if self.find(&key).is_some() {
            desk.clear()?;
            return Ok(entry);
        }
        // What is damaged makes room.
        remove(&directory)?;
        fs::rename(&desk.directory, &directory).map_err(failed("name", &directory))?;
        Ok(entry)
    }

    /// Removes what was not used for longest until no more than `limit` bytes are left; what is in `needed` stays.
    pub(crate) fn collect(&self, needed: &BTreeSet<Digest>, limit: u64) -> Result<Collected, StoreError> {
        let listed = fs::read_dir(&self.done).map_err(failed("list", &self.done))?;
        let (mut left, mut others) = (0, Vec::new());
        for directory in listed.filter_map(Result::ok).map(|entry| entry.path()) {
            match read_entry(&directory) {
                Some(entry) if needed.contains(&entry.key) => left += entry.bytes,
                Some(entry) => {
                    left += entry.bytes;
                    let used = fs::metadata(directory.join(ENTRY)).and_then(|metadata| metadata.modified());
                    others.push((used.unwrap_or(SystemTime::UNIX_EPOCH), directory, entry.bytes));
                }
                None => remove(&directory)?,
            }
        }
        others.sort();
        let mut collected = Collected::default();
        for (_, directory, bytes) in others {
            if left <= limit {
                break;
            }
            remove(&directory)?;
            left -= bytes;
            collected.entries += 1;
            collected.bytes += bytes;
        }
        Ok(collected)
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    pub entries: u64,
    pub bytes: u64,
}

impl Written {
    fn stamp(metadata: &fs::Metadata) -> (u64, i128) {
        (metadata.len(), i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()))
    }

    fn stamp_of(&self) -> (u64, i128) {
        (self.bytes, self.modified_ns)
    }
}

fn read_entry(directory: &Path) -> Option<Entry> {
    let path = directory.join(ENTRY);
    let is_small = fs::metadata(&path).ok()?.len() <= ENTRY_BYTES_LIMIT;
    let text = is_small.then(|| fs::read(&path))?.ok()?;
    let entry: Entry = serde_json::from_slice(&text).ok()?;
    (entry.schema_version == SCHEMA_VERSION).then_some(entry)
}

fn read_output(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Written>) -> Result<(), StoreError> {
    for listed in fs::read_dir(directory).map_err(failed("list", directory))? {
        let listed = listed.map_err(failed("list", directory))?;
        let path = listed.path();
        let name = listed.file_name().into_string();
        let name = name.map_err(|name| StoreError::Name { path: format!("{prefix}{}", name.to_string_lossy()) })?;
        let name = format!("{prefix}{name}");
        let metadata = listed.metadata().map_err(failed("look at", &path))?;
        if metadata.is_dir() {
            read_output(&path, &format!("{name}/"), files)?;
            continue;
        }
        if !metadata.is_file() {
            let what = if metadata.is_symlink() { "a symbolic link" } else { "no plain file" };
            return Err(StoreError::NotAFile { path: name, what });
        }
        if files.len() == FILES_LIMIT {
            return Err(StoreError::TooManyFiles);
        }
        let mut hasher = blake3::Hasher::new();
        File::open(&path).and_then(|file| hasher.update_reader(file).map(drop)).map_err(failed("read", &path))?;
        let (bytes, modified_ns) = Written::stamp(&metadata);
        files.insert(name, Written { bytes, digest: Digest::from_bytes(*hasher.finalize().as_bytes()), modified_ns });
    }
    Ok(())
}

/// Of a directory with all in it; one that is not there is fine.
fn remove(directory: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory)(error)),
        _ => Ok(()),
    }
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { attempt, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room {
        _directory: tempfile::TempDir,
        work: PathBuf,
        store: Store,
    }

    fn room() -> Room {
        let directory = tempfile::tempdir().unwrap();
        let (work, done) = (directory.path().join("work"), directory.path().join("done"));
        fs::create_dir_all(&work).unwrap();
        fs::create_dir_all(&done).unwrap();
        Room { _directory: directory, work, store: Store::new(done) }
    }

    fn key(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    fn keep(room: &Room, number: u8, files: &[(&str, &str)]) -> Result<Entry, StoreError> {
        let desk = Desk::make(&room.work, "desk").unwrap();
        for (path, content) in files {
            let path = desk.output().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        room.store.keep(&desk, key(number), ("train", Some("a")), Said { rows: Some(3), ..Said::default() }, 7)
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let room = room();
        assert_eq!(room.store.find(&key(1)), None);
        let kept = keep(&room, 1, &[("model.txt", "m"), ("deep/er.txt", "d")]).unwrap();
        let found = room.store.find(&key(1)).unwrap();
        assert_eq!(found, kept);
        assert_eq!((found.rows, found.bytes, found.took_ms), (Some(3), 2, 7));
        assert_eq!(fs::read_to_string(room.store.output(&key(1)).join("deep/er.txt")).unwrap(), "d");
        let same = keep(&room, 2, &[("deep/er.txt", "d"), ("model.txt", "m")]).unwrap();
        assert_eq!(same.output, kept.output, "names and contents, in whatever order they were written");
        let other = keep(&room, 3, &[("deep/er.txt", "m"), ("model.txt", "d")]).unwrap();
        assert_ne!(other.output, kept.output);
    }

    #[test]
    fn what_was_changed_afterwards_is_not_found_and_is_made_anew() {
        let room = room();
        for damage in [
            |path: &Path| fs::write(path, "longer"),
            |path: &Path| fs::remove_file(path),
            |path: &Path| File::options().write(true).open(path)?.set_modified(SystemTime::UNIX_EPOCH),
            |path: &Path| fs::write(path.parent().unwrap().parent().unwrap().join(ENTRY), "{"),
        ] {
            keep(&room, 1, &[("model.txt", "m")]).unwrap();
            damage(&room.store.output(&key(1)).join("model.txt")).unwrap();
            assert_eq!(room.store.find(&key(1)), None);
        }
        keep(&room, 1, &[("model.txt", "m")]).unwrap();
        assert!(room.store.find(&key(1)).is_some());
    }

    #[test]
    fn only_plain_files_are_kept() {
        let room = room();
        let desk = Desk::make(&room.work, "desk").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", desk.output().join("link")).unwrap();
        let kept = room.store.keep(&desk, key(1), ("train", None), Said::default(), 0);
        let expected = "it wrote link, which is a symbolic link: outputs are files and directories";
        assert_eq!(kept.unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_was_not_used_for_longest_is_collected_first() {
        let room = room();
        for number in 1..=4 {
            keep(&room, number, &[("model.txt", "0123456789")]).unwrap();
            let entry = File::options().write(true).open(room.store.directory(&key(number)).join(ENTRY)).unwrap();
            entry.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number.into())).unwrap();
        }
        room.store.touch(&key(2));
        fs::create_dir(room.store.done.join("half")).unwrap();
        let collected = room.store.collect(&BTreeSet::from([key(1)]), 25).unwrap();
        assert_eq!(collected, Collected { entries: 2, bytes: 20 });
        let left: Vec<u8> = (1..=4).filter(|number| room.store.find(&key(*number)).is_some()).collect();
        assert_eq!(left, [1, 2], "one is needed, the other was used last");
        assert_eq!(fs::read_dir(&room.store.done).unwrap().count(), 2, "what is no entry is gone");
    }
}
