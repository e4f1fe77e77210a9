//! Where a file that was fetched lies: `downloads/<digest of its address>/`, with what its server calls its version.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reqwest::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::data::Error;

/// The largest file about a version, in bytes.
const ABOUT_BYTES_LIMIT: u64 = 64 << 10;
/// The longest file name that is taken over from an address.
const NAME_LIMIT: usize = 100;

/// What a server calls a version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
    /// Of the whole file, once it is here.
    bytes: Option<u64>,
}

impl Version {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(header::ETAG), modified: text(header::LAST_MODIFIED), bytes: None }
    }

    /// By which every byte is the same: a weak tag says less.
    pub(super) fn precise(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/")).or(self.modified.as_deref())
    }
}

pub(super) struct Place {
    directory: PathBuf,
    name: String,
}

impl Place {
    pub(super) fn new(home: &Path, address: &Url) -> Self {
        let key = blake3::hash(address.as_str().as_bytes()).to_hex();
        Self { directory: home.join("downloads").join(key.as_str()), name: file_name(address) }
    }

    pub(super) fn prepare(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.directory).map_err(Error::io("create", &self.directory))
    }

    pub(super) fn file(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    pub(super) fn partial_file(&self) -> PathBuf {
        self.directory.join(".partial")
    }

    fn about(&self) -> PathBuf {
        self.directory.join(".version.json")
    }

    fn about_partial(&self) -> PathBuf {
        self.directory.join(".partial.json")
    }

    /// The version of the file that is here, whole.
    pub(super) fn kept(&self) -> Option<Version> {
        let bytes = fs::metadata(self.file()).ok()?.len();
        read(&self.about()).filter(|version| version.bytes == Some(bytes))
    }

    /// The version that is here in part and can be gone on with, and how much of it.
    pub(super) fn partial(&self) -> Option<(Version, u64)> {
        let version = read(&self.about_partial()).filter(|version| version.precise().is_some())?;
        Some((version, self.partial_bytes())).filter(|(_, bytes)| *bytes > 0)
    }

    pub(super) fn partial_bytes(&self) -> u64 {
        fs::metadata(self.partial_file()).map_or(0, |metadata| metadata.len())
    }

    pub(super) fn forget_partial(&self) -> Result<(), Error> {
        let path = self.partial_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Begins a version anew. The bytes of another go first: they must never be taken for this one's.
    pub(super) fn begin(&self, version: &Version) -> Result<(), Error> {
        self.forget_partial()?;
        write(&self.about_partial(), version)
    }

    /// Makes the part the whole. The file goes before its version: an old version beside a new file is fetched again.
    pub(super) fn keep(&self) -> Result<(), Error> {
        let version = Version { bytes: Some(self.partial_bytes()), ..read(&self.about_partial()).unwrap_or_default() };
        let path = self.file();
        fs::rename(self.partial_file(), &path).map_err(Error::io("write", &path))?;
        write(&self.about(), &version)
    }
}

fn read(path: &Path) -> Option<Version> {
    let length = fs::metadata(path).ok()?.len();
    if length > ABOUT_BYTES_LIMIT {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, version: &Version) -> Result<(), Error> {
    let failed = Error::io("write", path);
    let text = serde_json::to_vec(version).map_err(|error| failed(error.into()))?;
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).map_err(failed)
}

/// The last part of the address where it is plain, so that its ending tells what is in it.
fn file_name(address: &Url) -> String {
    let name = address.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=');
    if !name.is_empty() && name.len() <= NAME_LIMIT && !name.starts_with('.') && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let ending = ending.filter(|ending| ending.len() <= 16 && ending.chars().all(|c| c.is_ascii_alphanumeric()));
    ending.map_or("data".to_owned(), |ending| format!("data.{ending}"))
}
