//! The last good state on disk: what a gateway starts from when control is gone.
//!
//! A file is one header line (format, version, BLAKE3 digest of the rest) and JSON. It holds the mesh token, so only
//! its owner may read it. Tables of pinned users lie beside it as they came, each under its digest. A file that does not
//! pass its checksum is as good as none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tradewind_api::{agent::Endpoints, auth::write_private, gateway::GatewaySnapshot};
use tradewind_core::{
    Digest,
    pins::table::{TABLE_BYTES_LIMIT, Table},
};

use crate::tables;

const FORMAT: &str = "tradewind-gateway 1";
/// A larger file is not read.
const SIZE_LIMIT: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {detail}", path.display())]
    Damaged { path: PathBuf, detail: &'static str },
    #[error("{} cannot be used", path.display())]
    Table { path: PathBuf, source: tables::Unsound },
}

/// The endpoints of each agent, by its address.
pub(crate) type KnownEndpoints = BTreeMap<String, Endpoints>;

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn load_snapshot(&self) -> Result<Option<GatewaySnapshot>, Error> {
        load(&self.directory.join("snapshot"))
    }

    pub(crate) fn save_snapshot(&self, snapshot: &GatewaySnapshot) -> Result<(), Error> {
        save(&self.directory.join("snapshot"), snapshot)
    }

    pub(crate) fn load_table(&self, digest: &Digest) -> Result<Table, Error> {
        let path = self.table(digest);
        let unreadable = |source| Error::Read { path: path.clone(), source };
        if fs::metadata(&path).map_err(unreadable)?.len() > TABLE_BYTES_LIMIT {
            return Err(Error::Damaged { path, detail: "it is too large" });
        }
        let content = fs::read(&path).map_err(unreadable)?;
        tables::check(digest, content).map_err(|source| Error::Table { path, source })
    }

    pub(crate) fn save_table(&self, digest: &Digest, table: &Table) -> Result<(), Error> {
        let path = self.table(digest);
        write_private(&path, table.bytes()).map_err(|source| Error::Write { path, source })
    }

    /// Removes all tables but these.
    pub(crate) fn keep_tables(&self, named: &BTreeSet<Digest>) -> Result<(), Error> {
        let path = self.tables();
        let failed = |source| Error::Write { path: path.clone(), source };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !digest.is_some_and(|digest| named.contains(&digest)) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn tables(&self) -> PathBuf {
        self.directory.join("tables")
    }

    fn table(&self, digest: &Digest) -> PathBuf {
        self.tables().join(digest.to_hex())
    }

    pub(crate) fn load_endpoints(&self) -> Result<Option<KnownEndpoints>, Error> {
        load(&self.directory.join("endpoints"))
    }

    pub(crate) fn save_endpoints(&self, endpoints: &KnownEndpoints) -> Result<(), Error> {
        save(&self.directory.join("endpoints"), endpoints)
    }
}

fn save(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    write_private(path, &written(value)).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let damaged = |detail| Error::Damaged { path: path.to_owned(), detail };
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(unreadable(source)),
    };
    if size > SIZE_LIMIT {
        return Err(damaged("it is too large"));
    }
    read(&fs::read(path).map_err(unreadable)?).map(Some).map_err(damaged)
}

/// A file's content.
fn written(value: &impl Serialize) -> Vec<u8> {
    sealed(&serde_json::to_vec(value).expect("wire types have string keys and finite numbers"))
}

fn sealed(json: &[u8]) -> Vec<u8> {
    let mut content = format!("{FORMAT} {}\n", blake3::hash(json).to_hex()).into_bytes();
    content.extend_from_slice(json);
    content
}

fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T, &'static str> {
    let end = content.iter().position(|byte| *byte == b'\n').ok_or("it has no header")?;
    let (header, json) = (&content[..end], &content[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| "it has no header")?;
    let digest = header.strip_prefix(FORMAT).ok_or("it is of another format")?.trim();
    if blake3::hash(json).to_hex().as_str() != digest {
        return Err("its checksum is wrong");
    }
    serde_json::from_slice(json).map_err(|_| "it does not parse")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tradewind_core::pins::table::KeyHash;

    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        assert!(disk.load_endpoints().unwrap().is_none());
        let endpoints = Endpoints {
            region: "us-east1".parse().unwrap(),
            instance: "x".to_owned(),
            endpoints: vec![],
            resting: vec![],
        };
        let known = KnownEndpoints::from([("127.0.0.1:1".to_owned(), endpoints)]);
        disk.save_endpoints(&known).unwrap();
        assert_eq!(disk.load_endpoints().unwrap(), Some(known));

        let path = directory.path().join("endpoints");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 3;
        content[last] ^= 1;
        fs::write(&path, &content).unwrap();
        assert!(matches!(disk.load_endpoints(), Err(Error::Damaged { .. })));
        fs::write(&path, &content[..20]).unwrap();
        assert!(matches!(disk.load_endpoints(), Err(Error::Damaged { .. })));
    }

    #[test]
    fn tables_are_kept_as_long_as_they_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        let saved = |user: &[u8]| {
            let table = Table::of(vec![KeyHash::of(user)]).unwrap();
            let digest = Digest::from_bytes(*blake3::hash(table.bytes()).as_bytes());
            disk.save_table(&digest, &table).unwrap();
            assert_eq!(disk.load_table(&digest).unwrap(), table);
            digest
        };
        disk.keep_tables(&BTreeSet::new()).unwrap();
        let [ada, bob] = [b"ada", b"bob"].map(|user| saved(user));
        disk.keep_tables(&BTreeSet::from([ada])).unwrap();
        assert!(disk.load_table(&ada).is_ok());
        assert!(matches!(disk.load_table(&bob), Err(Error::Read { .. })));
        let path = disk.table(&ada);
        let mut content = fs::read(&path).unwrap();
        content[20] ^= 1;
        fs::write(&path, content).unwrap();
        assert!(matches!(disk.load_table(&ada), Err(Error::Table { source: tables::Unsound::Digest { .. }, .. })));
    }

    #[test]
    fn whatever_lies_there_is_read_or_refused() {
        let endpoint = serde_json::json!({ "127.0.0.1:1": { "region": "us-east1", "instance": "x", "endpoints": [] } });
        let known: KnownEndpoints = serde_json::from_value(endpoint).unwrap();
        let file = written(&known);
        tradewind_fuzz::fuzz(&[&file], |content| {
            // An altered byte is never overlooked, unless it is white space around the checksum.
            if let Ok(found) = read::<KnownEndpoints>(content) {
                assert_eq!(found, known);
            }
        });
        let json = file.split(|byte| *byte == b'\n').nth(1).unwrap();
        tradewind_fuzz::fuzz(&[json], |json| {
            if let Ok(found) = read::<KnownEndpoints>(&sealed(json)) {
                assert_eq!(read::<KnownEndpoints>(&written(&found)).as_ref(), Ok(&found));
            }
        });
    }
}
