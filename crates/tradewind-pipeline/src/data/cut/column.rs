//! Cuts all files into batches of rows with one value of a column.
//!
//! Rows are sorted by value some megabytes at a time, and appended to a file for each value; then each of those becomes
//! a batch. So memory stays flat whatever the order of the rows, few files are open at once, and a batch has the same
//! bytes as long as its own rows are the same.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use arrow_array::{Array, RecordBatch, StringArray, UInt32Array, cast::AsArray};
use arrow_cast::cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::{concat::concat_batches, take::take_record_batch};
use tradewind_core::Digest;

use super::rows::part_of;
use crate::data::{
    Error,
    read::Source,
    records::Room,
    store::{KeyOf, Part, PartWriter, Store},
    table::Table,
};

/// The most values of a column that is cut by.
const VALUES_LIMIT: u64 = 10_000;
/// The longest value, in bytes.
const VALUE_BYTES_LIMIT: usize = 256;
/// Rows that are sorted at once, in bytes.
const SORTED_BYTES: usize = 64 << 20;
/// Rows that are written to a batch at once: always as many, or its bytes would depend on its neighbours.
const WRITTEN_ROWS: usize = 1024;
/// What the batch of rows without a value is called.
const NULL: &str = "null";

/// Cuts all files; `said` is told of bytes that were read.
pub(super) fn cut(
    sources: &[&Source],
    schema: &SchemaRef,
    column: &str,
    store: &Store,
    said: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(Digest, Vec<Part>), Error> {
    let place = place(schema, column)?;
    let mut key = KeyOf::new("column", schema);
    key.add(column.as_bytes());
    for source in sources {
        key.add_source(source);
    }
    let key = key.key();
    let parts = store.parts(&key, |directory| {
        let scratch = store.scratch()?;
        let mut piles = Piles::new(scratch.path(), schema, place);
        for source in sources {
            let mut table = Table::open(source, schema)?;
            while !table.is_done()? {
                let Some((rows, bytes)) = table.next(Room { rows: u64::MAX, bytes: u64::MAX }, true)? else { break };
                said(part_of(source, rows.num_rows(), bytes))?;
                piles.add(rows)?;
            }
        }
        piles.sort()?;
        let mut parts = Vec::new();
        for (value, pile) in piles.by_value() {
            said(0)?;
            parts.push(piles.batch(pile, directory, parts.len(), format!("{column}={value}"))?);
        }
        Ok(parts)
    })?;
    Ok((key, parts))
}

/// Where the column is, if it has values that can be written as text.
fn place(schema: &SchemaRef, column: &str) -> Result<usize, Error> {
    let columns = || {
        let names: Vec<&str> = schema.fields().iter().take(20).map(|field| field.name().as_str()).collect();
        names.join(", ") + if schema.fields().len() > names.len() { ", …" } else { "" }
    };
    let (place, field) = schema
        .fields()
        .find(column)
        .ok_or_else(|| Error::NoColumn { column: column.to_owned(), columns: columns() })?;
    let data_type = field.data_type();
    if data_type.is_nested() || !can_cast_types(data_type, &DataType::Utf8) {
        let problem = format!("column `{column}` is {data_type}, whose values cannot name a batch");
        return Err(Error::Table { file: "the data".to_owned(), problem });
    }
    Ok(place)
}

/// The rows of each value, in files.
struct Piles<'a> {
    directory: &'a Path,
    schema: &'a SchemaRef,
    column: usize,
    /// By value as it is shown.
    piles: HashMap<String, u32>,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    /// The pile of each row that is held.
    places: Vec<u32>,
}

impl<'a> Piles<'a> {
    fn new(directory: &'a Path, schema: &'a SchemaRef, column: usize) -> Self {
        let (held, places) = (Vec::new(), Vec::new());
        Self { directory, schema, column, piles: HashMap::new(), held, held_bytes: 0, places }
    }

    fn add(&mut self, rows: RecordBatch) -> Result<(), Error> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let values =
            cast_with_options(rows.column(self.column), &DataType::Utf8, &strict).map_err(|e| self.failed(e))?;
        let values: &StringArray = values.as_string();
        for row in 0..values.len() {
            let place = self.place((!values.is_null(row)).then(|| values.value(row)))?;
            self.places.push(place);
        }
        self.held_bytes += rows.get_array_memory_size();
        self.held.push(rows);
        if self.held_bytes >= SORTED_BYTES { self.sort() } else { Ok(()) }
    }

    fn place(&mut self, value: Option<&str>) -> Result<u32, Error> {
        let shown = shown(value);
        if let Some(place) = self.piles.get(shown.as_ref()) {
            return Ok(*place);
        }
        if shown.len() > VALUE_BYTES_LIMIT {
            let problem = format!("a value of it is longer than {VALUE_BYTES_LIMIT} bytes");
            return Err(self.wrong(problem));
        }
        if self.piles.len() as u64 >= VALUES_LIMIT {
            let help = "cut by another column, or by rows";
            return Err(Error::TooMany { what: "values in the column to cut by", limit: VALUES_LIMIT, help });
        }
        let place = self.piles.len() as u32;
        self.piles.insert(shown.into_owned(), place);
        Ok(place)
    }

    /// Appends the rows that are held to their piles, in their order.
    fn sort(&mut self) -> Result<(), Error> {
        let (held, places) = (std::mem::take(&mut self.held), std::mem::take(&mut self.places));
        self.held_bytes = 0;
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        order.sort_by_key(|&row| places[row as usize]);
        let rows = concat_batches(self.schema, &held).map_err(|error| self.failed(error))?;
        drop(held);
        let sorted = take_record_batch(&rows, &UInt32Array::from(order.clone())).map_err(|error| self.failed(error))?;
        drop(rows);
        let mut begin = 0;
        for pile in order.chunk_by(|a, b| places[*a as usize] == places[*b as usize]) {
            self.append(places[pile[0] as usize], &sorted.slice(begin, pile.len()))?;
            begin += pile.len();
        }
        Ok(())
    }

    fn append(&self, pile: u32, rows: &RecordBatch) -> Result<(), Error> {
        let path = self.path(pile);
        let failed = Error::io("write", &path);
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(&failed)?;
        let mut file = BufWriter::new(file);
        let write = |file: &mut BufWriter<File>| {
            let mut writer = StreamWriter::try_new(file, self.schema)?;
            writer.write(rows)?;
            writer.finish()
        };
        write(&mut file).map_err(|error| self.failed(error))?;
        file.flush().map_err(failed)
    }

    fn path(&self, pile: u32) -> PathBuf {
        self.directory.join(format!("{pile}.rows"))
    }

    fn by_value(&self) -> Vec<(&str, u32)> {
        let mut piles: Vec<(&str, u32)> = self.piles.iter().map(|(value, pile)| (value.as_str(), *pile)).collect();
        piles.sort_unstable();
        piles
    }

    /// Writes the rows of a pile as a part.
    fn batch(&self, pile: u32, directory: &Path, place: usize, label: String) -> Result<Part, Error> {
        let path = self.path(pile);
        let file = File::open(&path).map_err(Error::io("read", &path))?;
        let mut file = BufReader::new(file);
        let mut part = PartWriter::create(directory, place, self.schema)?;
        let (mut held, mut count) = (Vec::new(), 0);
        while !std::io::BufRead::fill_buf(&mut file).map_err(Error::io("read", &path))?.is_empty() {
            for rows in StreamReader::try_new(&mut file, None).map_err(|error| self.failed(error))? {
                let mut rows = rows.map_err(|error| self.failed(error))?;
                while count + rows.num_rows() >= WRITTEN_ROWS {
                    let taken = WRITTEN_ROWS - count;
                    held.push(rows.slice(0, taken));
                    self.write(&mut part, &mut held)?;
                    rows = rows.slice(taken, rows.num_rows() - taken);
                    count = 0;
                }
                count += rows.num_rows();
                held.push(rows);
            }
        }
        self.write(&mut part, &mut held)?;
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        part.finish(label)
    }

    fn write(&self, part: &mut PartWriter, held: &mut Vec<RecordBatch>) -> Result<(), Error> {
        let rows = concat_batches(self.schema, held.iter()).map_err(|error| self.failed(error))?;
        held.clear();
        part.write(&rows)
    }

    fn wrong(&self, problem: String) -> Error {
        let column = self.schema.field(self.column).name();
        Error::Table { file: "the data".to_owned(), problem: format!("cannot be cut by column `{column}`: {problem}") }
    }

    fn failed(&self, error: ArrowError) -> Error {
        match error {
            ArrowError::IoError(_, source) => Error::io("write", self.directory)(source),
            other => self.wrong(other.to_string()),
        }
    }
}

/// A value as a batch is called by it: no two are called the same, and none breaks a line.
fn shown(value: Option<&str>) -> std::borrow::Cow<'_, str> {
    match value {
        None => NULL.into(),
        Some(text) if text == NULL || text.starts_with('"') || text.chars().any(char::is_control) => {
            serde_json::Value::from(text).to_string().into()
        }
        Some(text) => text.into(),
    }
}
