//! `sources.json`: what files said when they were read.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_schema::Schema;
use serde::{Deserialize, Serialize};
use tradewind_core::{Digest, pipeline::file::Format};

use super::{Facts, Stamp};
use crate::data::{Error, find::Found};

const FILE: &str = "sources.json";
/// Counts what is read off files in another way: what an older version wrote is read anew.
const VERSION: u32 = 1;
/// The largest file, in bytes: a million sources.
const BYTES_LIMIT: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Each of them once: files of a pipeline have the same.
    schemas: Vec<Arc<Schema>>,
    files: BTreeMap<PathBuf, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    stamp: Stamp,
    digest: Digest,
    format: Format,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    /// By its place among all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<usize>,
}

pub(super) struct Known(Stored);

impl Known {
    /// What was written the last time; nothing where that cannot be read, for it is read off the files anew.
    pub(super) fn load(home: &Path) -> Self {
        let read = || -> Option<Stored> {
            let file = File::open(home.join(FILE)).ok()?;
            serde_json::from_reader(BufReader::new(file.take(BYTES_LIMIT))).ok()
        };
        let stored = read().filter(|stored| stored.version == VERSION);
        Self(stored.unwrap_or(Stored { version: VERSION, schemas: Vec::new(), files: BTreeMap::new() }))
    }

    pub(super) fn facts(&self, path: &Path, stamp: Stamp, format: Format) -> Option<Facts> {
        let entry = self.0.files.get(path).filter(|entry| entry.stamp == stamp && entry.format == format)?;
        let schema = match entry.schema {
            Some(place) => Some(self.0.schemas.get(place)?.clone()),
            None => None,
        };
        Some(Facts { digest: entry.digest, format, rows: entry.rows, schema })
    }

    /// Whether it knows of files that are not there any more.
    pub(super) fn is_longer(&self, files: usize) -> bool {
        self.0.files.len() > files
    }
}

/// Replaces what is known.
pub(super) fn write<'a>(files: impl Iterator<Item = (&'a Found, &'a Facts)>, home: &Path) -> Result<(), Error> {
    let mut stored = Stored { version: VERSION, schemas: Vec::new(), files: BTreeMap::new() };
    let mut places: HashMap<Arc<Schema>, usize> = HashMap::new();
    for (found, facts) in files {
        let schema = facts.schema.as_ref().map(|schema| {
            *places.entry(schema.clone()).or_insert_with(|| {
                stored.schemas.push(schema.clone());
                stored.schemas.len() - 1
            })
        });
        let entry = Entry { stamp: found.stamp, digest: facts.digest, format: facts.format, rows: facts.rows, schema };
        stored.files.insert(found.path.clone(), entry);
    }
    let path = home.join(FILE);
    let failed = Error::io("write", &path);
    let file = tempfile::NamedTempFile::new_in(home.join("work")).map_err(&failed)?;
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, &stored).map_err(|error| failed(error.into()))?;
    writer.flush().map_err(&failed)?;
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}
