//! `batches/<key>/`: what was cut from the same data in the same way is there already.
//!
//! A directory is made in `work/` and committed by rename, so it is whole or not there. It is not synced: what a power
//! cut leaves short is seen by its size, and cut again.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
};
use serde::{Deserialize, Serialize};
use tradewind_core::Digest;

use super::{Error, read::Source};

/// Counts what is written in another way: what an older version cut is cut anew.
pub(super) const VERSION: u32 = 1;
const INDEX: &str = "index.json";
/// The largest index, in bytes: of a million batches.
const INDEX_BYTES_LIMIT: u64 = 1 << 30;
/// Rows that are held back before they are written, in bytes.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// A batch that was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Where it comes from: `[0..20000]`, `day=2026-01-03`.
    pub(super) label: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    parts: Vec<Part>,
}

/// What a key stands for: all that the parts depend on.
pub(super) struct KeyOf(blake3::Hasher);

impl KeyOf {
    /// What is done: two different things never have the same key.
    pub(super) fn new(what: &str, schema: &SchemaRef) -> Self {
        let mut key = Self(blake3::Hasher::new_derive_key("tradewind pipeline batches"));
        let schema = serde_json::to_vec(schema).expect("a schema has text keys alone");
        key.add(&VERSION.to_le_bytes()).add(what.as_bytes()).add(&schema);
        key
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn add_source(&mut self, source: &Source) -> &mut Self {
        self.add(source.facts.digest.as_bytes()).add(format!("{:?}", source.facts.format).as_bytes())
    }

    pub(super) fn key(&self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// The batches of a pipeline's home.
#[derive(Debug, Clone)]
pub(super) struct Store {
    batches: PathBuf,
    work: PathBuf,
}

impl Store {
    pub(super) fn new(home: &Path) -> Self {
        Self { batches: home.join("batches"), work: home.join("work") }
    }

    pub(super) fn path(&self, key: &Digest, place: usize) -> PathBuf {
        self.batches.join(key.to_hex()).join(file_name(place))
    }

    /// A directory in `work/` that goes when it is dropped.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, Error> {
        let made = tempfile::Builder::new().prefix("cut-").tempdir_in(&self.work);
        made.map_err(Error::io("create a directory in", &self.work))
    }

    /// The parts that belong to a key; `make` writes them into a directory where they are not there.
    pub(super) fn parts(
        &self,
        key: &Digest,
        make: impl FnOnce(&Path) -> Result<Vec<Part>, Error>,
    ) -> Result<Vec<Part>, Error> {
        let target = self.batches.join(key.to_hex());
        if let Some(parts) = whole(&target) {
            return Ok(parts);
        }
        let scratch = self.scratch()?;
        let index = Index { version: VERSION, parts: make(scratch.path())? };
        let failed = Error::io("write", &target);
        let text = serde_json::to_vec(&index).map_err(|error| failed(error.into()))?;
        fs::write(scratch.path().join(INDEX), text).map_err(&failed)?;
        let fresh = scratch.keep();
        if whole(&target).is_none() {
            remove(&target).map_err(&failed)?;
        }
        match fs::rename(&fresh, &target) {
            // Files of one content are cut at the same time, and another was quicker.
            Err(_) if whole(&target).is_some() => remove(&fresh).map_err(&failed)?,
            renamed => renamed.map_err(&failed)?,
        }
        Ok(index.parts)
    }
}

fn file_name(place: usize) -> String {
    format!("{place:07}.parquet")
}

/// The parts of a directory that has all of them.
fn whole(directory: &Path) -> Option<Vec<Part>> {
    let mut text = Vec::new();
    File::open(directory.join(INDEX)).ok()?.take(INDEX_BYTES_LIMIT).read_to_end(&mut text).ok()?;
    let index: Index = serde_json::from_slice(&text).ok()?;
    let is_there = |(place, part): (usize, &Part)| {
        fs::metadata(directory.join(file_name(place))).is_ok_and(|metadata| metadata.len() == part.bytes)
    };
    (index.version == VERSION && index.parts.iter().enumerate().all(is_there)).then_some(index.parts)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes one part: the same rows, written in the same pieces, are the same bytes.
pub(super) struct PartWriter {
    path: PathBuf,
    writer: ArrowWriter<Hashing>,
    rows: u64,
}

impl PartWriter {
    pub(super) fn create(directory: &Path, place: usize, schema: &SchemaRef) -> Result<Self, Error> {
        let path = directory.join(file_name(place));
        let file = File::create_new(&path).map_err(Error::io("write", &path))?;
        let hashing = Hashing { file: BufWriter::new(file), hasher: blake3::Hasher::new(), bytes: 0 };
        let properties = WriterProperties::builder()
            .set_created_by("tradewind".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer = ArrowWriter::try_new(hashing, schema.clone(), Some(properties));
        Ok(Self { writer: writer.map_err(failed(&path))?, path, rows: 0 })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.rows += rows.num_rows() as u64;
        self.writer.write(rows).map_err(failed(&self.path))
    }

    pub(super) fn finish(self, label: String) -> Result<Part, Error> {
        let mut hashing = self.writer.into_inner().map_err(failed(&self.path))?;
        hashing.flush().map_err(Error::io("write", &self.path))?;
        let digest = Digest::from_bytes(*hashing.hasher.finalize().as_bytes());
        Ok(Part { label, rows: self.rows, bytes: hashing.bytes, digest })
    }
}

/// An error of a writer, whose cause may be that of the disk.
fn failed(path: &Path) -> impl Fn(ParquetError) -> Error + use<> {
    let path = path.to_owned();
    move |error| {
        let source = match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => *source,
                Err(source) => io::Error::other(source),
            },
            other => io::Error::other(other),
        };
        Error::io("write", &path)(source)
    }
}

/// A file whose digest is known once it is written.
struct Hashing {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
