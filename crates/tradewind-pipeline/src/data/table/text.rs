//! CSV and lines of JSON.

use std::{fs::File, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Field, Fields, Schema, SchemaRef};
use tradewind_core::pipeline::file::Format;

use super::{rows_at_once, with_columns};
use crate::data::{
    Error,
    read::Source,
    records::{Records, Room, Scanner},
};

/// The longest piece of a value in an error, in characters.
const SHOWN_LIMIT: usize = 80;

pub(super) struct Text {
    records: Records,
    format: Format,
    name: String,
    /// What all files agree upon.
    schema: SchemaRef,
    /// The same columns in the order of this file.
    own: SchemaRef,
    is_header_read: bool,
}

impl Text {
    pub(super) fn new(file: File, source: &Source, schema: &SchemaRef) -> Self {
        let format = source.facts.format;
        let own = source.facts.schema.as_ref().filter(|_| format == Format::Csv);
        let agreed = |field: &Arc<Field>| schema.fields().find(field.name()).map(|(_, field)| field.clone());
        let own = own.map(|own| Arc::new(Schema::new(own.fields().iter().filter_map(agreed).collect::<Fields>())));
        Self {
            records: Records::new(file, &source.name, format),
            format,
            name: source.name.clone(),
            schema: schema.clone(),
            own: own.unwrap_or_else(|| schema.clone()),
            is_header_read: format != Format::Csv,
        }
    }

    pub(super) fn is_done(&mut self) -> Result<bool, Error> {
        if !self.is_header_read {
            self.records.next(Room { rows: 1, bytes: u64::MAX }, true)?;
            self.is_header_read = true;
        }
        self.records.is_done()
    }

    pub(super) fn next(&mut self, room: Room, one: bool) -> Result<Option<(RecordBatch, u64)>, Error> {
        self.is_done()?;
        let room = Room { rows: room.rows.min(rows_at_once(&self.schema)), ..room };
        let Some(chunk) = self.records.next(room, one)? else {
            return Ok(None);
        };
        let rows = decode(self.format, &self.own, chunk.bytes, chunk.records).map_err(|problem| {
            let (line, problem) = find(self.format, &self.own, chunk.bytes, problem);
            Error::Line { file: self.name.clone(), line: chunk.line + line, problem }
        })?;
        let bytes = chunk.bytes.len() as u64;
        let rows = with_columns(&rows, &self.schema).map_err(|problem| Error::table(&self.name, problem))?;
        Ok(Some((rows, bytes)))
    }
}

/// Exactly so many rows.
fn decode(format: Format, schema: &SchemaRef, bytes: &[u8], records: usize) -> Result<RecordBatch, String> {
    let rows =
        if format == Format::Csv { decode_csv(schema, bytes, records) } else { decode_json(schema, bytes, records) };
    match rows.map_err(|error| told(&error, schema))? {
        Some(rows) if rows.num_rows() == records => Ok(rows),
        _ if format == Format::Csv => Err("it is not a record of CSV".to_owned()),
        _ => Err("it is not one object".to_owned()),
    }
}

fn decode_csv(schema: &SchemaRef, bytes: &[u8], records: usize) -> Result<Option<RecordBatch>, ArrowError> {
    let mut decoder = arrow_csv::ReaderBuilder::new(schema.clone()).with_batch_size(records).build_decoder();
    // The last record of a file may lack its line end.
    for mut piece in [bytes, b"\n"] {
        while !piece.is_empty() {
            let decoded = decoder.decode(piece)?;
            piece = &piece[decoded..];
            if decoded == 0 {
                break;
            }
        }
    }
    decoder.flush()
}

fn decode_json(schema: &SchemaRef, bytes: &[u8], records: usize) -> Result<Option<RecordBatch>, ArrowError> {
    let builder = arrow_json::ReaderBuilder::new(schema.clone()).with_strict_mode(true);
    // Room for one more, so that a second object in a line is seen.
    let mut decoder = builder.with_batch_size(records + 1).build_decoder()?;
    decoder.decode(bytes)?;
    decoder.flush()
}

/// The line of the first record that is wrong by itself, from 0, and what is wrong with it.
fn find(format: Format, schema: &SchemaRef, bytes: &[u8], problem: String) -> (u64, String) {
    let mut scanner = Scanner::new(format);
    let mut begin = 0;
    while begin < bytes.len() {
        let end = scanner.next(&bytes[begin..]).map_or(bytes.len(), |length| begin + length);
        if let Err(problem) = decode(format, schema, &bytes[begin..end], 1) {
            return (scanner.line() - 1, problem);
        }
        begin = end;
    }
    (0, problem)
}

/// An error as a sentence without the place, which is known better here.
fn told(error: &ArrowError, schema: &Schema) -> String {
    let text = match error {
        ArrowError::CsvError(text) | ArrowError::JsonError(text) | ArrowError::ParseError(text) => text.clone(),
        other => other.to_string(),
    };
    let known = value_of(&text, schema).or_else(|| column_of(&text, schema)).or_else(|| fields_of(&text));
    known.unwrap_or_else(|| shortened(&text))
}

/// Of `.. parsing value 'x' as type 'Int64' for column 0 at line 1. ..`.
fn value_of(text: &str, schema: &Schema) -> Option<String> {
    let (value, rest) = text.split_once("parsing value '")?.1.split_once("' as type '")?;
    let (data_type, rest) = rest.split_once("' for column ")?;
    let place: usize = rest.split(' ').next()?.parse().ok()?;
    let column = schema.fields().get(place)?.name();
    Some(format!("column `{column}`: `{}` is not {data_type}", shortened(value)))
}

/// Of `Error parsing column 0 at line 1: ..`.
fn column_of(text: &str, schema: &Schema) -> Option<String> {
    let (place, problem) = text.split_once("parsing column ")?.1.split_once(" at line ")?;
    let (_, problem) = problem.split_once(": ")?;
    let column = schema.fields().get(place.parse::<usize>().ok()?)?.name();
    Some(format!("column `{column}`: {}", shortened(problem)))
}

/// Of `incorrect number of fields for line 1, expected 2 got 3`.
fn fields_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("incorrect number of fields")?;
    let (expected, found) = rest.split_once("expected ")?.1.split_once(" got ")?;
    Some(format!("it has {found} fields, and the header {expected}"))
}

fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(SHOWN_LIMIT).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}
