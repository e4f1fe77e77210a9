//! Cuts a table into batches of neighbouring rows.

use arrow_schema::SchemaRef;
use tradewind_core::Digest;

use crate::data::{
    Error,
    read::Source,
    records::Room,
    store::{KeyOf, Part, PartWriter, Store},
    table::Table,
};

/// Cuts one file; `said` is told of bytes that were read and of parts that were begun.
pub(super) fn cut(
    source: &Source,
    schema: &SchemaRef,
    what: &str,
    room: Room,
    store: &Store,
    said: &dyn Fn(u64, u64) -> Result<(), Error>,
) -> Result<(Digest, Vec<Part>), Error> {
    let mut key = KeyOf::new(what, schema);
    let key = key.add_source(source).add(&room.rows.to_le_bytes()).add(&room.bytes.to_le_bytes()).key();
    let parts = store.parts(&key, |directory| {
        let mut table = Table::open(source, schema)?;
        let mut parts: Vec<Part> = Vec::new();
        let mut begin = 0;
        while !table.is_done()? {
            said(0, 1)?;
            let mut part = PartWriter::create(directory, parts.len(), schema)?;
            let mut left = room;
            while let Some((rows, bytes)) = table.next(left, part.rows() == 0)? {
                part.write(&rows)?;
                left.rows -= rows.num_rows() as u64;
                left.bytes = left.bytes.saturating_sub(bytes);
                said(part_of(source, rows.num_rows(), bytes), 0)?;
            }
            let end = begin + part.rows();
            parts.push(part.finish(format!("[{begin}..{end}]"))?);
            begin = end;
        }
        Ok(parts)
    })?;
    Ok((key, parts))
}

/// Puts the first rows of all files together.
pub(super) fn first(
    sources: &[&Source],
    schema: &SchemaRef,
    most: u64,
    store: &Store,
    said: &dyn Fn(u64) -> Result<(), Error>,
) -> Result<(Digest, Vec<Part>), Error> {
    let mut key = KeyOf::new("sample", schema);
    key.add(&most.to_le_bytes());
    let mut counted = 0;
    let taken = sources.iter().position(|source| {
        key.add_source(source);
        counted += source.facts.rows.unwrap_or(0);
        counted >= most
    });
    let sources = &sources[..taken.map_or(sources.len(), |last| last + 1)];
    let key = key.key();
    let parts = store.parts(&key, |directory| {
        let mut part = PartWriter::create(directory, 0, schema)?;
        for source in sources {
            let mut table = Table::open(source, schema)?;
            let room = |part: &PartWriter| Room { rows: most - part.rows(), bytes: u64::MAX };
            while !table.is_done()? {
                let Some((rows, bytes)) = table.next(room(&part), true)? else { break };
                part.write(&rows)?;
                said(part_of(source, rows.num_rows(), bytes))?;
            }
        }
        let end = part.rows();
        Ok(vec![part.finish(format!("sample[0..{end}]"))?])
    })?;
    Ok((key, parts))
}

/// The bytes of a file that some rows of it are, where the reader does not know.
pub(super) fn part_of(source: &Source, rows: usize, bytes: u64) -> u64 {
    let average = |total: u64| source.stamp.size as f64 * rows as f64 / total.max(1) as f64;
    if bytes > 0 { bytes } else { average(source.facts.rows.unwrap_or(0)) as u64 }
}
