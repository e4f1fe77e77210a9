//! Finding out whether an installed bundle is still what was installed.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use tradewind_core::{
    Digest,
    bundle::{BundleFile, BundleIndex},
};

use super::record::{self, Stamp};
use crate::bundle::bundle_digest;

/// How much of a file is in memory at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Trusts a file whose size, inode and times are as recorded at the installation; reads the others. Costs a few
    /// system calls per file.
    Quick,
    /// Reads and hashes every file.
    Full,
}

/// One difference between an installed bundle and its index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    Missing {
        path: String,
    },
    Altered {
        path: String,
    },
    Extra {
        path: String,
    },
    /// The files may be right, but the installation was never completed.
    Unrecorded,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "`{path}` is missing"),
            Self::Altered { path } => write!(f, "`{path}` was altered"),
            Self::Extra { path } => write!(f, "`{path}` does not belong to the bundle"),
            Self::Unrecorded => write!(f, "the installation was not completed"),
        }
    }
}

pub(super) fn check(root: &Path, index: &BundleIndex, how: Check) -> io::Result<Vec<Drift>> {
    let bundle = bundle_digest(index);
    let directory = root.join("bundles").join(bundle.to_hex());
    let recorded = record::read(root, &bundle)?;
    let mut drifts = Vec::new();
    if recorded.is_none() {
        drifts.push(Drift::Unrecorded);
    }
    let stamps = recorded.unwrap_or_default();
    for (path, file) in &index.files {
        let trusted = stamps.get(path).filter(|_| how == Check::Quick);
        drifts.extend(check_file(&directory, path, file, trusted)?);
    }
    extras(&directory, "", index, &mut drifts)?;
    drifts.sort();
    Ok(drifts)
}

fn check_file(
    directory: &Path,
    path: &str,
    expected: &BundleFile,
    trusted: Option<&Stamp>,
) -> io::Result<Option<Drift>> {
    let place = directory.join(path);
    let metadata = match fs::symlink_metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Some(Drift::Missing { path: path.to_owned() }));
        }
        Err(error) => return Err(error),
    };
    if metadata.is_file() && metadata.len() == expected.size {
        if trusted == Some(&Stamp::of(&metadata)) {
            return Ok(None);
        }
        let (digest, _) = hash(&mut File::open(&place)?)?;
        if digest == expected.digest {
            return Ok(None);
        }
    }
    Ok(Some(Drift::Altered { path: path.to_owned() }))
}

/// Finds what is in the directory and not in the index. Links are not followed, so there is no way out and no loop.
fn extras(directory: &Path, prefix: &str, index: &BundleIndex, drifts: &mut Vec<Drift>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let parent = format!("{path}/");
        if entry.file_type()?.is_dir() && index.files.keys().any(|file| file.starts_with(&parent)) {
            extras(&entry.path(), &parent, index, drifts)?;
        } else if !index.files.contains_key(&path) {
            drifts.push(Drift::Extra { path });
        }
    }
    Ok(())
}

/// Hashes a file from where it stands to its end. Returns its digest and the hasher, which can go on.
pub(super) fn hash(file: &mut File) -> io::Result<(Digest, blake3::Hasher)> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), hasher)),
            Ok(read) => {
                hasher.update(&piece[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
