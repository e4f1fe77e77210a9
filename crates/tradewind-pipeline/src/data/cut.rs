//! Cuts data into batches.

mod column;
mod group;
mod rows;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use arrow_schema::SchemaRef;
use tradewind_core::{
    Digest,
    pipeline::file::{Cut, Format},
};

use self::group::Group;
use super::{
    Batch, Error, Progress,
    find::NAME_BYTES_LIMIT,
    read::Source,
    store::{Part, Store},
    work::{Teller, each},
};

/// The most batches of a pipeline.
pub(super) const BATCHES_LIMIT: u64 = 1_000_000;

/// How much of the data a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Portion {
    /// One file as it is.
    File,
    /// So many rows of one file at most.
    Rows(u64),
    /// So many files at most, where files have no rows.
    Files(u64),
    /// So many bytes at most, as they are in the files, but for a row or a file that is larger by itself.
    Bytes(u64),
    /// All rows with the same value in this column.
    Column(String),
}

impl Portion {
    /// `None` where that has to be found out first.
    pub fn of(cut: &Cut) -> Option<Self> {
        match cut {
            Cut::Auto => None,
            Cut::File => Some(Self::File),
            Cut::Rows(rows) => Some(Self::Rows(*rows)),
            Cut::Bytes(bytes) => Some(Self::Bytes(bytes.bytes())),
            Cut::Column(column) => Some(Self::Column(column.clone())),
        }
    }

    fn is_of_tables(&self) -> Option<&'static str> {
        match self {
            Self::Rows(_) => Some("rows"),
            Self::Column(_) => Some("column"),
            Self::File | Self::Files(_) | Self::Bytes(_) => None,
        }
    }
}

/// Batches, and the keys of the directories that they lie in.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) batches: Vec<Batch>,
    pub(super) keys: BTreeSet<Digest>,
}

impl Pieces {
    /// Adds parts that lie in the directory of a key.
    fn add(&mut self, store: &Store, key: Digest, parts: Vec<Part>, name: impl Fn(&str) -> String) {
        let batch = |(place, part): (usize, Part)| Batch {
            name: name(&part.label),
            format: Format::Parquet,
            files: vec![store.path(&key, place)],
            rows: Some(part.rows),
            bytes: part.bytes,
            digest: part.digest,
        };
        self.batches.extend(parts.into_iter().enumerate().map(batch));
        self.keys.insert(key);
    }
}

/// Files that have something in them, of one format, and the columns that they agree upon where they are tables.
pub(super) struct Cutter<'a> {
    pub(super) sources: &'a [&'a Source],
    pub(super) schema: Option<&'a SchemaRef>,
    pub(super) store: &'a Store,
    pub(super) teller: &'a Teller,
}

impl Cutter<'_> {
    /// In the order of the sources' names.
    pub(super) fn cut(&self, portion: &Portion) -> Result<Pieces, Error> {
        if let (Some(portion), None, Some(file)) = (portion.is_of_tables(), self.schema, self.sources.first()) {
            return Err(Error::NoTable { portion, file: file.name.clone() });
        }
        let pieces = match (portion, self.schema) {
            (Portion::Rows(rows), Some(schema)) => self.by_rows(schema, "rows", |_| (*rows).max(1), u64::MAX)?,
            (Portion::Bytes(bytes), Some(schema)) => {
                // Text has its bytes for each row; of Parquet every row counts as much.
                let rows = |source: &Source| match source.facts.format {
                    Format::Parquet => rows_of(source, *bytes),
                    _ => u64::MAX,
                };
                self.by_rows(schema, "bytes", rows, *bytes)?
            }
            (Portion::Column(column), Some(schema)) => self.by_column(schema, column)?,
            (Portion::Files(files), None) => self.grouped(Group { files: (*files).max(1), bytes: u64::MAX }),
            (Portion::Bytes(bytes), None) => self.grouped(Group { files: u64::MAX, bytes: *bytes }),
            _ => self.whole(),
        };
        if pieces.batches.len() as u64 > BATCHES_LIMIT {
            return Err(too_many());
        }
        match pieces.batches.iter().find(|batch| batch.name.len() > 2 * NAME_BYTES_LIMIT) {
            Some(batch) => Err(Error::Name { path: batch.name.clone().into(), problem: "it is too long" }),
            None => Ok(pieces),
        }
    }

    fn whole(&self) -> Pieces {
        let batch = |source: &&Source| Batch {
            name: source.name.clone(),
            format: source.facts.format,
            files: vec![source.path.clone()],
            rows: source.facts.rows,
            bytes: source.stamp.size,
            digest: source.facts.digest,
        };
        Pieces { batches: self.sources.iter().map(batch).collect(), keys: BTreeSet::new() }
    }

    fn grouped(&self, group: Group) -> Pieces {
        Pieces { batches: group.batches(self.sources), keys: BTreeSet::new() }
    }

    /// Each file by itself, so that a file that changes changes no batch but its own.
    fn by_rows(
        &self,
        schema: &SchemaRef,
        what: &str,
        rows: impl Fn(&Source) -> u64 + Sync,
        bytes: u64,
    ) -> Result<Pieces, Error> {
        let (cut, done) = (AtomicU64::new(0), self.told());
        let all = each(self.sources, |source| {
            let room = super::records::Room { rows: rows(source), bytes };
            let (key, parts) = rows::cut(source, schema, what, room, self.store, &|bytes, parts| {
                done(bytes)?;
                let cut = cut.fetch_add(parts, Ordering::Relaxed) + parts;
                if cut > BATCHES_LIMIT { Err(too_many()) } else { Ok(()) }
            })?;
            Ok((source.name.as_str(), key, parts))
        })?;
        let mut pieces = Pieces::default();
        for (name, key, parts) in all {
            pieces.add(self.store, key, parts, |label| format!("{name}{label}"));
        }
        Ok(pieces)
    }

    fn by_column(&self, schema: &SchemaRef, column: &str) -> Result<Pieces, Error> {
        let (key, parts) = column::cut(self.sources, schema, column, self.store, &self.told())?;
        let mut pieces = Pieces::default();
        pieces.add(self.store, key, parts, str::to_owned);
        Ok(pieces)
    }

    /// The first rows of the data, as one batch.
    pub(super) fn first_rows(&self, schema: &SchemaRef, rows: u64) -> Result<Option<Batch>, Error> {
        let (key, parts) = rows::first(self.sources, schema, rows.max(1), self.store, &self.told())?;
        let mut pieces = Pieces::default();
        pieces.add(self.store, key, parts, str::to_owned);
        Ok(pieces.batches.pop())
    }

    /// The first files of the data, as one batch.
    pub(super) fn first_files(&self, files: u64) -> Option<Batch> {
        let files = usize::try_from(files.max(1)).unwrap_or(usize::MAX).min(self.sources.len());
        let sample = group::batch(&self.sources[..files])?;
        Some(Batch { name: format!("sample[0..{files}]"), ..sample })
    }

    /// Counts the bytes of the sources that have been read.
    fn told(&self) -> impl Fn(u64) -> Result<(), Error> + Sync {
        let of = self.sources.iter().map(|source| source.stamp.size).sum();
        let done = AtomicU64::new(0);
        move |bytes| {
            self.teller.tell(Progress::Cutting { bytes: done.fetch_add(bytes, Ordering::Relaxed) + bytes, of });
            self.teller.go_on()
        }
    }
}

/// How many rows of a file take so many bytes of it.
fn rows_of(source: &Source, bytes: u64) -> u64 {
    let (rows, size) = (source.facts.rows.unwrap_or(0), source.stamp.size.max(1));
    u64::try_from(u128::from(bytes) * u128::from(rows) / u128::from(size)).unwrap_or(u64::MAX).max(1)
}

fn too_many() -> Error {
    Error::TooMany { what: "batches", limit: BATCHES_LIMIT, help: "make them larger" }
}
