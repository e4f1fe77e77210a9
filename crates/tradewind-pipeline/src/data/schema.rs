//! The columns of tables: read off the first rows of each file, and agreed upon by all.

use std::{collections::HashMap, io::Cursor, sync::Arc};

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use tradewind_core::pipeline::file::Format;

use super::{Error, read::Source};

/// Rows at the beginning of a file that the types of its columns are taken from.
pub(super) const HEAD_RECORDS: usize = 10_000;
/// Of those rows, in bytes, but for the first.
pub(super) const HEAD_BYTES: usize = 4 << 20;
/// The most columns of a table.
pub(super) const COLUMNS_LIMIT: usize = 10_000;

/// The columns that the first records of a file have; for CSV the first of them is the header.
pub(super) fn infer(format: Format, head: &[u8]) -> Result<Schema, String> {
    let schema = match format {
        Format::Csv => {
            let format = arrow_csv::reader::Format::default().with_header(true);
            format.infer_schema(Cursor::new(head), Some(HEAD_RECORDS)).map(|(schema, _)| schema)
        }
        _ => arrow_json::reader::infer_json_schema(Cursor::new(head), Some(HEAD_RECORDS)).map(|(schema, _)| schema),
    };
    checked(&schema.map_err(|error| error.to_string())?)
}

/// Without what programs note beside columns, whose order changes; with a limit, and no name twice.
pub(super) fn checked(schema: &Schema) -> Result<Schema, String> {
    if schema.fields().len() > COLUMNS_LIMIT {
        return Err(format!("it has {} columns, more than {COLUMNS_LIMIT}", schema.fields().len()));
    }
    let mut places = HashMap::new();
    for (place, field) in schema.fields().iter().enumerate() {
        if let Some(first) = places.insert(field.name().as_str(), place) {
            let name = field.name();
            return Err(format!("columns {} and {} are both called `{name}`", first + 1, place + 1));
        }
    }
    Ok(Schema::new(schema.fields().iter().map(|field| bare(field)).collect::<Fields>()))
}

fn bare(field: &Field) -> FieldRef {
    let nested = |fields: &Fields| fields.iter().map(|field| bare(field)).collect::<Fields>();
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(nested(fields)),
        DataType::List(item) => DataType::List(bare(item)),
        DataType::LargeList(item) => DataType::LargeList(bare(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(bare(item), *length),
        DataType::Map(entries, is_sorted) => DataType::Map(bare(entries), *is_sorted),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// What is agreed about a column, and the place of the file that said so first.
struct Agreed {
    data_type: DataType,
    by: usize,
}

/// The columns of all files, in the order of the first. Whole numbers in one file and broken ones in another are broken
/// ones; a type that no row told is any. A line of JSON may leave columns out, and so may all lines of a file.
pub(super) fn agree(sources: &[&Source]) -> Result<SchemaRef, Error> {
    let mut order: Vec<&str> = Vec::new();
    let mut columns: HashMap<&str, Agreed> = HashMap::new();
    for (at, source) in sources.iter().enumerate() {
        let Some(schema) = &source.facts.schema else { continue };
        let may_differ = order.is_empty() || source.facts.format == Format::Jsonl;
        for field in schema.fields() {
            let (name, data_type) = (field.name().as_str(), field.data_type());
            let Some(agreed) = columns.get_mut(name) else {
                if !may_differ {
                    return Err(missing(sources[0], name, source));
                }
                columns.insert(name, Agreed { data_type: data_type.clone(), by: at });
                order.push(name);
                continue;
            };
            let exactly = source.facts.format == Format::Parquet;
            let both = if exactly { same(&agreed.data_type, data_type) } else { merged(&agreed.data_type, data_type) };
            let Some(both) = both else {
                return Err(Error::Type {
                    file: source.name.clone(),
                    column: name.to_owned(),
                    found: data_type.to_string(),
                    first: sources[agreed.by].name.clone(),
                    expected: agreed.data_type.to_string(),
                });
            };
            if agreed.data_type == DataType::Null {
                agreed.by = at;
            }
            agreed.data_type = both;
        }
        if let Some(name) = order.iter().find(|name| !may_differ && schema.index_of(name).is_err()) {
            return Err(missing(source, name, sources[0]));
        }
    }
    let field = |name: &str| {
        let agreed = &columns[name].data_type;
        let is_parquet = sources.first().is_some_and(|source| source.facts.format == Format::Parquet);
        Field::new(name, if is_parquet { agreed.clone() } else { readable(agreed) }, true)
    };
    Ok(Arc::new(Schema::new(order.into_iter().map(field).collect::<Fields>())))
}

fn missing(file: &Source, column: &str, first: &Source) -> Error {
    Error::MissingColumn { file: file.name.clone(), column: column.to_owned(), first: first.name.clone() }
}

fn same(a: &DataType, b: &DataType) -> Option<DataType> {
    (a == b).then(|| a.clone())
}

/// What values of both types can be read as.
fn merged(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Date32, Float64, Int64, List, Null, Struct, Timestamp};
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Date32, Timestamp(unit, None)) | (Timestamp(unit, None), Date32) => Timestamp(*unit, None),
        (Timestamp(a, None), Timestamp(b, None)) => Timestamp(*a.max(b), None),
        (List(a), List(b)) => List(Arc::new(Field::new(a.name(), merged(a.data_type(), b.data_type())?, true))),
        (Struct(a), Struct(b)) => {
            let mut fields: Vec<FieldRef> = Vec::new();
            for field in a {
                let data_type = match b.find(field.name()) {
                    Some((_, other)) => merged(field.data_type(), other.data_type())?,
                    None => field.data_type().clone(),
                };
                fields.push(Arc::new(Field::new(field.name(), data_type, true)));
            }
            fields.extend(b.iter().filter(|field| a.find(field.name()).is_none()).cloned());
            Struct(fields.into())
        }
        _ => return None,
    })
}

/// The type that values of text are read as: what no row told is text, and times keep what later rows may have behind
/// the second.
fn readable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, None) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::List(item) => DataType::List(Arc::new(Field::new(item.name(), readable(item.data_type()), true))),
        DataType::Struct(fields) => DataType::Struct(
            fields.iter().map(|field| Field::new(field.name(), readable(field.data_type()), true)).collect(),
        ),
        other => other.clone(),
    }
}
