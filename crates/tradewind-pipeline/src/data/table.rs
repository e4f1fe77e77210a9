//! Reads tables of all formats, some rows at a time.

mod text;

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tradewind_core::pipeline::file::Format;

use self::text::Text;
use super::{
    Error,
    read::Source,
    records::{BYTES_AT_ONCE, Room},
    schema::checked,
};

/// The most rows that are held at once.
const ROWS_AT_ONCE: u64 = 8192;
/// The most values that are held at once: tables of many columns are read in fewer rows.
const VALUES_AT_ONCE: u64 = 1 << 20;

/// The rows of a file, with the columns that all files agree upon.
pub(super) struct Table {
    file: File,
    source: Source,
    rows: Rows,
}

enum Rows {
    Text(Box<Text>),
    Parquet(Box<Parquet>),
}

struct Parquet {
    name: String,
    schema: SchemaRef,
    reader: ParquetRecordBatchReader,
    left: Option<RecordBatch>,
}

impl Table {
    pub(super) fn open(source: &Source, schema: &SchemaRef) -> Result<Self, Error> {
        let file = source.open()?;
        let opened = file.try_clone().map_err(Error::io("open", &source.path))?;
        let rows = if source.facts.format == Format::Parquet {
            let row = source.stamp.size.checked_div(source.facts.rows.unwrap_or(0)).unwrap_or(0);
            let rows = rows_at_once(schema).min((BYTES_AT_ONCE as u64 / row.max(1)).max(1));
            let reader = guarded(&source.name, || {
                ParquetRecordBatchReaderBuilder::try_new(opened)?.with_batch_size(rows as usize).build()
            })?;
            Rows::Parquet(Box::new(Parquet { name: source.name.clone(), schema: schema.clone(), reader, left: None }))
        } else {
            Rows::Text(Box::new(Text::new(opened, source, schema)))
        };
        Ok(Self { file, source: source.clone(), rows })
    }

    /// Whether there are no further rows. The file must be by then what it was when it was opened.
    pub(super) fn is_done(&mut self) -> Result<bool, Error> {
        let is_done = match &mut self.rows {
            Rows::Text(text) => text.is_done()?,
            Rows::Parquet(parquet) => parquet.peek()?.is_none(),
        };
        if is_done {
            self.source.check(&self.file)?;
        }
        Ok(is_done)
    }

    /// As many rows as there is room for and as are held at once, and the bytes that they take in a file of text; `None`
    /// where nothing fits. With `one`, a row is read even where it is too large.
    pub(super) fn next(&mut self, room: Room, one: bool) -> Result<Option<(RecordBatch, u64)>, Error> {
        match &mut self.rows {
            Rows::Text(text) => text.next(room, one),
            Rows::Parquet(parquet) => Ok(parquet.next(room)?.map(|rows| (rows, 0))),
        }
    }
}

impl Parquet {
    fn peek(&mut self) -> Result<Option<&RecordBatch>, Error> {
        while self.left.as_ref().is_none_or(|left| left.num_rows() == 0) {
            let Some(next) = guarded(&self.name, || self.reader.next().transpose())? else {
                return Ok(None);
            };
            self.left = Some(next);
        }
        Ok(self.left.as_ref())
    }

    fn next(&mut self, room: Room) -> Result<Option<RecordBatch>, Error> {
        let Some(left) = self.peek()?.filter(|_| room.rows > 0) else {
            return Ok(None);
        };
        let taken = left.num_rows().min(usize::try_from(room.rows).unwrap_or(usize::MAX));
        let rows = left.slice(0, taken);
        let rest = left.slice(taken, left.num_rows() - taken);
        self.left = Some(rest);
        with_columns(&rows, &self.schema).map(Some).map_err(|problem| Error::table(&self.name, problem))
    }
}

fn rows_at_once(schema: &Schema) -> u64 {
    (VALUES_AT_ONCE / schema.fields().len().max(1) as u64).clamp(1, ROWS_AT_ONCE)
}

/// The same rows with these columns in this order.
fn with_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let column = |name: &String| {
        let column = rows.column_by_name(name).cloned();
        column.ok_or_else(|| format!("it has no column `{name}` any more"))
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns).map_err(|error| error.to_string())
}

/// The columns of a file of Parquet, and its rows.
pub(super) fn parquet_facts(file: File, name: &str) -> Result<(Schema, u64), Error> {
    let builder = guarded(name, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let rows = builder.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(|_| Error::table(name, "it is damaged: it has less than no rows"))?;
    Ok((checked(builder.schema()).map_err(|problem| Error::table(name, problem))?, rows))
}

/// Reads of a file that may be damaged: at some of those the library panics.
fn guarded<T, E: std::fmt::Display>(name: &str, read: impl FnOnce() -> Result<T, E>) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| Error::table(name, error)),
        Err(_) => Err(Error::table(name, "it is damaged")),
    }
}
