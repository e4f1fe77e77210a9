//! The completion record: that a bundle is installed, and how its files looked to the file system at that moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tradewind_core::{Digest, bundle::BundleIndex};

use crate::disk::write_whole;

/// The stored form; a later one will be another variant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "format")]
enum Stored {
    #[serde(rename = "1")]
    V1 { files: BTreeMap<String, Stamp> },
}

/// What changes when a file is written to or replaced. The change time is the one that no program can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    inode: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

pub(super) fn path(root: &Path, bundle: &Digest) -> PathBuf {
    root.join("records").join(format!("{}.json", bundle.to_hex()))
}

/// Records that the bundle is installed in `directory` as the index says.
pub(super) fn write(root: &Path, bundle: &Digest, index: &BundleIndex, directory: &Path) -> io::Result<()> {
    let stamp = |file: &String| Ok((file.clone(), Stamp::of(&fs::symlink_metadata(directory.join(file))?)));
    let files = index.files.keys().map(stamp).collect::<io::Result<_>>()?;
    let json = serde_json::to_vec(&Stored::V1 { files })?;
    write_whole(&path(root, bundle), &json)
}

/// `None` when there is none, or none that can be read: then the bundle counts as not installed.
pub(super) fn read(root: &Path, bundle: &Digest) -> io::Result<Option<BTreeMap<String, Stamp>>> {
    match fs::read(path(root, bundle)) {
        Ok(json) => Ok(serde_json::from_slice(&json).ok().map(|Stored::V1 { files }| files)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bundles that have a record.
pub(super) fn list(root: &Path) -> io::Result<Vec<Digest>> {
    Ok(digests_in(&root.join("records"))?.into_iter().collect())
}

/// Bundles of which anything is there: a record, a directory, something fetched.
pub(super) fn list_all(root: &Path) -> io::Result<BTreeSet<Digest>> {
    let mut all = BTreeSet::new();
    for directory in ["records", "bundles", "partial"] {
        all.extend(digests_in(&root.join(directory))?);
    }
    Ok(all)
}

fn digests_in(directory: &Path) -> io::Result<BTreeSet<Digest>> {
    let mut digests = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        digests.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<Digest>().ok()));
    }
    Ok(digests)
}
