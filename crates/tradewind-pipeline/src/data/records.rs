//! Where records of text begin and end: lines, in CSV with line ends between quotes.
//!
//! A chunk is a whole number of records, so what is decoded at once is bounded in rows and in bytes, and a line can be
//! named when one of them is wrong.

use std::{
    fs::File,
    io::{self, Read},
};

use tradewind_core::pipeline::file::Format;

use super::Error;

/// The longest record, in bytes.
pub(super) const RECORD_BYTES_LIMIT: usize = 64 << 20;
/// What is decoded at once, in bytes, but for one record.
pub(super) const BYTES_AT_ONCE: usize = 8 << 20;
/// How much is read at once, in bytes.
pub(super) const READ_BYTES: usize = 256 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a record; only blank lines so far.
    Between,
    /// At the first byte of a field.
    Field,
    /// In a field without quotes, or behind its quotes. The lines of JSON know no other state.
    Bare,
    Quoted,
    /// After a quote in a field with quotes: its end, or the first of two.
    Quote,
    /// After a carriage return that ends a record.
    Return,
}

/// Finds the ends of records in bytes that come piece by piece, as the parser of CSV does: by RFC 4180, a quote in a
/// field without quotes is a character like others.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    is_csv: bool,
    state: State,
    /// Line ends so far.
    lines: u64,
    /// The line that the record begins in, from 1.
    begun: u64,
    /// Of the record so far.
    bytes: usize,
}

impl Scanner {
    pub(super) fn new(format: Format) -> Self {
        Self { is_csv: format == Format::Csv, state: State::Between, lines: 0, begun: 1, bytes: 0 }
    }

    /// The number of bytes up to the end of the next record, with blank lines before it; `None` where the record does
    /// not end in them, which are then all behind.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Quoted {
                let quote = memchr::memchr(b'"', &bytes[at..]);
                let end = quote.map_or(bytes.len(), |quote| at + quote);
                self.lines += memchr::memchr_iter(b'\n', &bytes[at..end]).count() as u64;
                self.bytes += end - at;
                at = end;
                if quote.is_none() {
                    break;
                }
            } else if self.state == State::Bare && !self.is_csv {
                let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
                self.bytes += end - at;
                at = end;
                if at == bytes.len() {
                    break;
                }
            }
            let byte = bytes[at];
            if self.state == State::Return && byte != b'\n' {
                self.state = State::Between;
                return Some(at);
            }
            at += 1;
            self.lines += u64::from(byte == b'\n');
            if self.takes(byte) {
                self.state = State::Between;
                return Some(at);
            }
        }
        None
    }

    /// Whether this byte ends the record.
    fn takes(&mut self, byte: u8) -> bool {
        if self.state == State::Between {
            let is_blank = matches!(byte, b'\n' | b'\r') || !self.is_csv && matches!(byte, b' ' | b'\t');
            if is_blank {
                return false;
            }
            (self.begun, self.bytes) = (self.lines + 1, 0);
            self.state = if self.is_csv { State::Field } else { State::Bare };
        }
        self.bytes += 1;
        self.state = match (self.state, byte) {
            (State::Quoted, b'"') => State::Quote,
            (State::Quoted, _) => State::Quoted,
            (State::Quote | State::Field, b'"') if self.is_csv => State::Quoted,
            (_, b'\n') => return true,
            (_, b'\r') if self.is_csv => State::Return,
            (_, b',') if self.is_csv => State::Field,
            _ => State::Bare,
        };
        false
    }

    /// At the end of all bytes: whether a record without a line end is left.
    pub(super) fn finish(&mut self) -> Result<bool, &'static str> {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Between => Ok(false),
            State::Quoted => Err("a quote is opened here and never closed"),
            _ => Ok(true),
        }
    }

    /// The line that the last record begins in, from 1.
    pub(super) fn line(&self) -> u64 {
        self.begun
    }

    /// Fails for a record that is longer than any should be, at the line that it begins in.
    pub(super) fn check(&self, file: &str) -> Result<(), Error> {
        let is_open = self.state != State::Between;
        if is_open && self.bytes > RECORD_BYTES_LIMIT {
            let problem = format!("a record is longer than {} MiB: is a quote missing?", RECORD_BYTES_LIMIT >> 20);
            return Err(Error::Line { file: file.to_owned(), line: self.begun, problem });
        }
        Ok(())
    }
}

/// Without the mark that some programs write before UTF-8.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The most that is read or written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) rows: u64,
    /// Of the file's text.
    pub(super) bytes: u64,
}

/// Some records.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) records: usize,
    /// That its first byte is in, from 1.
    pub(super) line: u64,
}

/// The records of a file, some at a time.
pub(super) struct Records {
    file: File,
    name: String,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    taken: usize,
    scanned: usize,
    /// The end of a record that was found and not handed out.
    found: Option<usize>,
    line: u64,
    has_begun: bool,
    has_ended: bool,
}

impl Records {
    /// Of a file that has not been read from. `name` is for errors.
    pub(super) fn new(file: File, name: &str, format: Format) -> Self {
        Self {
            file,
            name: name.to_owned(),
            scanner: Scanner::new(format),
            buffer: Vec::new(),
            taken: 0,
            scanned: 0,
            found: None,
            line: 1,
            has_begun: false,
            has_ended: false,
        }
    }

    /// Whether there is no further record.
    pub(super) fn is_done(&mut self) -> Result<bool, Error> {
        if self.found.is_none() {
            self.found = self.find()?;
        }
        Ok(self.found.is_none())
    }

    /// As many records as there is room for and as are held at once. With `one`, the first is handed out even where
    /// there is no room for it.
    pub(super) fn next(&mut self, room: Room, one: bool) -> Result<Option<Chunk<'_>>, Error> {
        self.buffer.drain(..self.taken);
        self.scanned -= self.taken;
        self.found = self.found.map(|end| end - self.taken);
        self.taken = 0;

        let mut records = 0;
        while (records as u64) < room.rows && !self.is_done()? {
            let end = self.found.expect("a record was found");
            let fits = end as u64 <= room.bytes || records == 0 && one;
            if !fits || records > 0 && end > BYTES_AT_ONCE {
                break;
            }
            (self.taken, self.found) = (end, None);
            records += 1;
        }
        if records == 0 {
            return Ok(None);
        }
        let line = self.line;
        let bytes = &self.buffer[..self.taken];
        self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        Ok(Some(Chunk { bytes, records, line }))
    }

    /// Where the next record ends in the buffer.
    fn find(&mut self) -> Result<Option<usize>, Error> {
        loop {
            if let Some(length) = self.scanner.next(&self.buffer[self.scanned..]) {
                self.scanned += length;
                return Ok(Some(self.scanned));
            }
            self.scanned = self.buffer.len();
            if self.has_ended {
                let line = self.scanner.line();
                let wrong = |problem: &str| Error::Line { file: self.name.clone(), line, problem: problem.to_owned() };
                return Ok(self.scanner.finish().map_err(wrong)?.then_some(self.scanned));
            }
            self.scanner.check(&self.name)?;
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let read = fill(&mut self.file, &mut self.buffer[before..])
            .map_err(|error| Error::table(&self.name, format!("cannot be read: {error}")))?;
        self.buffer.truncate(before + read);
        self.has_ended = read < READ_BYTES;
        if !std::mem::replace(&mut self.has_begun, true) {
            let mark = self.buffer.len() - without_mark(&self.buffer).len();
            self.buffer.drain(..mark);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// The records as the scanner ends them, when the bytes come in pieces.
    fn scanned(format: Format, text: &str, piece: usize) -> Vec<(u64, String)> {
        let mut scanner = Scanner::new(format);
        let (mut records, mut record) = (Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            let mut rest = piece;
            while let Some(length) = scanner.next(rest) {
                record.extend_from_slice(&rest[..length]);
                records.push((scanner.line(), String::from_utf8(std::mem::take(&mut record)).unwrap()));
                rest = &rest[length..];
            }
            record.extend_from_slice(rest);
        }
        if scanner.finish().unwrap() {
            records.push((scanner.line(), String::from_utf8(record).unwrap()));
        }
        records
    }

    #[test]
    fn records_end_where_the_parser_of_csv_ends_them() {
        for (text, expected) in [
            ("", vec![]),
            ("\n\r\n", vec![]),
            ("a,b\n1,2\n", vec![(1, "a,b\n"), (2, "1,2\n")]),
            ("a\r\n\r\nb\r\nc", vec![(1, "a\r\n"), (3, "\r\nb\r\n"), (4, "c")]),
            ("a\rb\r", vec![(1, "a\r"), (1, "b\r")]),
            ("\"x\ny\",\"\"\"\n\"\n2", vec![(1, "\"x\ny\",\"\"\"\n\"\n"), (4, "2")]),
            ("5\" pipe,6\n7\n", vec![(1, "5\" pipe,6\n"), (2, "7\n")]),
            ("\"a\"b\nc\"\n", vec![(1, "\"a\"b\n"), (2, "c\"\n")]),
            (" \n", vec![(1, " \n")]),
        ] {
            let expected: Vec<(u64, String)> =
                expected.into_iter().map(|(line, text)| (line, text.to_owned())).collect();
            for piece in [1, 2, 3, 100] {
                assert_eq!(scanned(Format::Csv, text, piece), expected, "{text:?} in pieces of {piece}");
            }
        }
        let lines = scanned(Format::Jsonl, " \n{\"a\": \"\n\r\n{}", 2);
        assert_eq!(lines, [(2, " \n{\"a\": \"\n".to_owned()), (4, "\r\n{}".to_owned())]);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_named_by_its_line() {
        let mut scanner = Scanner::new(Format::Csv);
        assert_eq!(scanner.next(b"a\n"), Some(2));
        assert_eq!(scanner.next(b"1,\"\n\n"), None);
        assert_eq!((scanner.finish().is_err(), scanner.line()), (true, 2));
    }

    fn records(format: Format, text: &[u8]) -> Records {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Records::new(file, "a.csv", format)
    }

    #[test]
    fn chunks_are_as_large_as_there_is_room_for() {
        let mut records = records(Format::Csv, b"\xef\xbb\xbf11\n222222\n3\n\n4");
        let mut next = |rows, bytes, one| {
            let chunk = records.next(Room { rows, bytes }, one).unwrap();
            chunk.map(|chunk| (String::from_utf8(chunk.bytes.to_vec()).unwrap(), chunk.records, chunk.line))
        };
        assert_eq!(next(10, 2, false), None, "it does not fit");
        assert_eq!(next(10, 2, true), Some(("11\n".to_owned(), 1, 1)), "without the mark");
        assert_eq!(next(1, 100, false), Some(("222222\n".to_owned(), 1, 2)));
        assert_eq!(next(0, 100, true), None);
        assert_eq!(next(10, 100, false), Some(("3\n\n4".to_owned(), 2, 3)));
        assert_eq!(next(10, 100, true), None);
        assert!(records.is_done().unwrap());
    }

    proptest! {
        /// Whatever the limits: every byte is handed out once, in order, and as many records as there are.
        #[test]
        fn nothing_is_lost(text in "[a,\"\n\r]{0,60}", rows in 1_u64..4, bytes in 0_u64..20) {
            let mut scanner = Scanner::new(Format::Csv);
            let mut expected = std::iter::repeat_with(|| ()).scan(text.as_bytes(), |rest, ()| {
                let length = scanner.next(rest)?;
                *rest = &rest[length..];
                Some(())
            }).count();
            let Ok(is_open) = scanner.finish() else { return Ok(()) };
            expected += usize::from(is_open);
            let mut records = records(Format::Csv, text.as_bytes());
            let (mut seen, mut count) = (Vec::new(), 0);
            while !records.is_done().unwrap() {
                let chunk = records.next(Room { rows, bytes }, true).unwrap().expect("there is one");
                prop_assert!(chunk.records as u64 <= rows && (chunk.records == 1 || chunk.bytes.len() as u64 <= bytes));
                seen.extend_from_slice(chunk.bytes);
                count += chunk.records;
            }
            prop_assert_eq!(count, expected);
            prop_assert!(text.as_bytes().starts_with(&seen));
            prop_assert!(text.as_bytes()[seen.len()..].iter().all(|byte| matches!(byte, b'\n' | b'\r')));
        }
    }
}
