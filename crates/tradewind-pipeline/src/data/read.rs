//! What is in each source file: read once, and remembered for as long as the file stays as it is.

mod known;

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arrow_schema::Schema;
use serde::{Deserialize, Serialize};
use tradewind_core::{Digest, pipeline::file::Format};

use self::known::Known;
use super::{
    Error, Progress,
    find::Found,
    records::{READ_BYTES, Scanner, fill, without_mark},
    schema::{HEAD_BYTES, HEAD_RECORDS, infer},
    table::parquet_facts,
    work::{Teller, each},
};

/// A file that was written so shortly before it was read may be written once more without a sign of it: the clocks of
/// file systems are coarse.
const SETTLED: Duration = Duration::from_secs(2);
/// How often what has been read so far is written down.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);
/// Files that are read between two looks at that clock.
const FILES_AT_ONCE: usize = 1024;

/// By which a file is known to be what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// In ns since 1970, like `changed`, which the owner of the file cannot set.
    modified: i64,
    changed: i64,
    inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size: metadata.size(),
            modified: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    fn is_settled(self, now: SystemTime) -> bool {
        let before = now.checked_sub(SETTLED).and_then(|before| before.duration_since(SystemTime::UNIX_EPOCH).ok());
        let before = before.and_then(|before| i64::try_from(before.as_nanos()).ok()).unwrap_or(0);
        self.changed < before
    }
}

/// What a file says of itself once it is read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    pub(super) digest: Digest,
    pub(super) format: Format,
    /// `None` where there are no rows in such files.
    pub(super) rows: Option<u64>,
    /// By its first rows; `None` where there are none.
    pub(super) schema: Option<Arc<Schema>>,
}

/// A file of the data.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) facts: Facts,
}

impl Source {
    pub(super) fn open(&self) -> Result<File, Error> {
        open(&self.path, self.stamp)
    }

    /// Fails where the file has changed since it was opened.
    pub(super) fn check(&self, file: &File) -> Result<(), Error> {
        check(file, &self.path, self.stamp)
    }

    /// Whether there is nothing to do with it.
    pub(super) fn is_empty(&self) -> bool {
        self.stamp.size == 0 || self.facts.rows == Some(0)
    }
}

fn open(path: &Path, stamp: Stamp) -> Result<File, Error> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    check(&file, path, stamp)?;
    Ok(file)
}

fn check(file: &File, path: &Path, stamp: Stamp) -> Result<(), Error> {
    let metadata = file.metadata().map_err(Error::io("read", path))?;
    if Stamp::of(&metadata) == stamp { Ok(()) } else { Err(Error::Changed { path: path.to_owned() }) }
}

/// Reads what is not known yet of these files.
pub(super) fn read_all(
    found: Vec<Found>,
    format: Option<Format>,
    home: &Path,
    teller: &Teller,
) -> Result<Vec<Source>, Error> {
    let format_of = |found: &Found| format.unwrap_or_else(|| Format::of(&found.path.to_string_lossy()));
    one_format(&found, format_of)?;
    let known = Known::load(home);
    let mut facts: Vec<Option<Facts>> =
        found.iter().map(|found| known.facts(&found.path, found.stamp, format_of(found))).collect();

    let unknown: Vec<usize> = (0..found.len()).filter(|&place| facts[place].is_none()).collect();
    let (now, done) = (SystemTime::now(), AtomicU64::new(0));
    let of = unknown.iter().map(|&place| found[place].stamp.size).sum();
    let mut written = Instant::now();
    for places in unknown.chunks(FILES_AT_ONCE) {
        let read = each(places, |&place| {
            let found = &found[place];
            read(found, format_of(found), &|bytes| {
                teller.tell(Progress::Reading { bytes: done.fetch_add(bytes, Ordering::Relaxed) + bytes, of });
                teller.go_on()
            })
        })?;
        for (&place, read) in places.iter().zip(read) {
            facts[place] = Some(read);
        }
        if written.elapsed() > REMEMBER_EVERY {
            remember(&found, &facts, now, home)?;
            written = Instant::now();
        }
    }
    if !unknown.is_empty() || known.is_longer(found.len()) {
        remember(&found, &facts, now, home)?;
    }
    let whole = |(found, facts): (Found, Option<Facts>)| {
        facts.map(|facts| Source { name: found.name, path: found.path, stamp: found.stamp, facts })
    };
    Ok(found.into_iter().zip(facts).filter_map(whole).collect())
}

fn remember(found: &[Found], facts: &[Option<Facts>], now: SystemTime, home: &Path) -> Result<(), Error> {
    let settled = found.iter().zip(facts).filter(|(found, _)| found.stamp.is_settled(now));
    known::write(settled.filter_map(|(found, facts)| Some((found, facts.as_ref()?))), home)
}

fn one_format(found: &[Found], format_of: impl Fn(&Found) -> Format) -> Result<(), Error> {
    let Some(first) = found.first() else { return Ok(()) };
    let Some(second) = found.iter().find(|second| format_of(second) != format_of(first)) else { return Ok(()) };
    Err(Error::MixedFormats {
        first: first.name.clone(),
        first_format: format_of(first),
        second: second.name.clone(),
        second_format: format_of(second),
    })
}

/// Reads a file from beginning to end; `said` is told of every piece.
fn read(found: &Found, format: Format, said: &dyn Fn(u64) -> Result<(), Error>) -> Result<Facts, Error> {
    let mut file = open(&found.path, found.stamp)?;
    let mut hasher = blake3::Hasher::new();
    let mut text = matches!(format, Format::Csv | Format::Jsonl).then(|| Text::new(format));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = fill(&mut file, &mut buffer).map_err(Error::io("read", &found.path))?;
        let piece = &buffer[..read];
        hasher.update(piece);
        if let Some(text) = &mut text {
            text.add(piece, &found.name)?;
        }
        said(read as u64)?;
        if read < buffer.len() {
            break;
        }
    }
    check(&file, &found.path, found.stamp)?;
    let (schema, rows) = match (format, text) {
        (_, Some(text)) => text.finish(&found.name)?,
        (Format::Parquet, None) if found.stamp.size > 0 => {
            let (schema, rows) = parquet_facts(file, &found.name)?;
            (Some(schema), Some(rows))
        }
        (_, None) => (None, format.is_table().then_some(0)),
    };
    Ok(Facts { digest: Digest::from_bytes(*hasher.finalize().as_bytes()), format, rows, schema: schema.map(Arc::new) })
}

/// Counts the records of a file of text, and keeps the first of them.
struct Text {
    format: Format,
    scanner: Scanner,
    records: u64,
    /// Without the mark before UTF-8.
    head: Vec<u8>,
    has_begun: bool,
    is_head_whole: bool,
}

impl Text {
    fn new(format: Format) -> Self {
        let scanner = Scanner::new(format);
        Self { format, scanner, records: 0, head: Vec::new(), has_begun: false, is_head_whole: false }
    }

    fn add(&mut self, piece: &[u8], file: &str) -> Result<(), Error> {
        let mut rest = if std::mem::replace(&mut self.has_begun, true) { piece } else { without_mark(piece) };
        while let Some(length) = self.scanner.next(rest) {
            self.records += 1;
            if !self.is_head_whole {
                self.head.extend_from_slice(&rest[..length]);
                self.is_head_whole = self.head.len() >= HEAD_BYTES || self.records > HEAD_RECORDS as u64;
            }
            rest = &rest[length..];
        }
        if !self.is_head_whole {
            self.head.extend_from_slice(rest);
        }
        self.scanner.check(file)
    }

    fn finish(mut self, file: &str) -> Result<(Option<Schema>, Option<u64>), Error> {
        let line = self.scanner.line();
        let wrong = |problem: &str| Error::Line { file: file.to_owned(), line, problem: problem.to_owned() };
        self.records += u64::from(self.scanner.finish().map_err(wrong)?);
        if self.records == 0 {
            return Ok((None, Some(0)));
        }
        let schema = infer(self.format, &self.head).map_err(|problem| Error::table(file, problem))?;
        let header = u64::from(self.format == Format::Csv);
        Ok((Some(schema), Some(self.records - header)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_not_taken_for_what_it_was() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.csv");
        std::fs::write(&path, "n\n1\n").unwrap();
        let found = Found::new("a.csv".to_owned(), path.clone()).unwrap();

        let write = |_| {
            std::fs::write(&path, "n\n22\n").unwrap();
            Ok(())
        };
        let error = read(&found, Format::Csv, &write).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} changed while it was read: run again when it is whole", path.display())
        );
        assert!(
            matches!(read(&found, Format::Csv, &|_| Ok(())).unwrap_err(), Error::Changed { .. }),
            "before it is read"
        );

        let found = Found::new("a.csv".to_owned(), path.clone()).unwrap();
        let facts = read(&found, Format::Csv, &|_| Ok(())).unwrap();
        assert_eq!(facts.rows, Some(1));
        let source = Source { name: found.name, path: found.path, stamp: found.stamp, facts };
        let file = source.open().unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "n\n22\n").unwrap();
        assert!(matches!(source.check(&file).unwrap_err(), Error::Changed { .. }), "another is in its place");
        assert!(matches!(source.open().unwrap_err(), Error::Changed { .. }));
    }
}
