//! What a step prints: its beginning and its end, however much it is.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::Path,
};

/// The beginning that is kept, in bytes.
const HEAD_BYTES: u64 = 1 << 20;
/// The end that is kept, in bytes.
const TAIL_BYTES: usize = 64 << 10;
/// The longest line that is shown as what went wrong, in characters.
const LINE_CHARACTERS: usize = 300;

/// A log that never grows beyond its limits.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    written: u64,
    /// The last bytes, whether or not they were written.
    tail: VecDeque<u8>,
    /// How many came in all.
    seen: u64,
}

impl Log {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, written: 0, tail: VecDeque::new(), seen: 0 })
    }

    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seen += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let over = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.tail.extend(kept);
        let fits = bytes.len().min((HEAD_BYTES - self.written) as usize);
        self.file.write_all(&bytes[..fits])?;
        self.written += fits as u64;
        Ok(())
    }

    /// Writes the end where it is not there already, and how much is missing before it.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let missing = self.seen - self.written;
        let end = missing.min(self.tail.len() as u64) as usize;
        if missing > end as u64 {
            writeln!(self.file, "\n[{} bytes are left out here]", missing - end as u64)?;
        }
        let tail = self.tail.make_contiguous();
        self.file.write_all(&tail[tail.len() - end..])
    }

    /// The last line that says anything.
    pub(super) fn last_line(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(self.tail.make_contiguous());
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().filter(|c| !c.is_control()).take(LINE_CHARACTERS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(pieces: &[Vec<u8>]) -> (String, Option<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::create(&path).unwrap();
        pieces.iter().for_each(|piece| log.add(piece).unwrap());
        let line = log.last_line();
        log.finish().unwrap();
        (std::fs::read_to_string(path).unwrap(), line)
    }

    #[test]
    fn little_is_kept_as_it_came() {
        let (text, line) = logged(&[b"one\ntw".to_vec(), b"o\n\n".to_vec()]);
        assert_eq!((text.as_str(), line.as_deref()), ("one\ntwo\n\n", Some("two")));
        assert_eq!(logged(&[]), (String::new(), None));
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept() {
        let mut pieces = vec![b"first\n".to_vec()];
        pieces.extend(std::iter::repeat_n(vec![b'.'; 1000], 5000));
        pieces.push(b"\nlast\n".to_vec());
        let (text, line) = logged(&pieces);
        assert!(text.starts_with("first\n") && text.ends_with("\nlast\n"));
        assert_eq!(line.as_deref(), Some("last"));
        let missing = 6 + 5_000_000 + 6 - HEAD_BYTES - TAIL_BYTES as u64;
        assert!(text.contains(&format!("\n[{missing} bytes are left out here]\n")));
        assert!(text.len() < (HEAD_BYTES as usize) + TAIL_BYTES + 100);
    }

    #[test]
    fn nothing_is_left_out_where_the_end_goes_on_from_the_beginning() {
        let piece = vec![b'.'; HEAD_BYTES as usize + 10];
        let (text, _) = logged(std::slice::from_ref(&piece));
        assert_eq!(text.as_bytes(), piece);
    }
}
