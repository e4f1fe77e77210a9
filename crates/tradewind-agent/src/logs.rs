//! Logs of replicas: their last lines, and what is written from now on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::Stream;
use tradewind_core::RevisionNumber;

/// Lines of each log where the query names no number.
const LINES_DEFAULT: u32 = 100;
/// The most lines of each log.
const LINES_LIMIT: u32 = 10_000;
/// So much of a log's end is searched for lines, in bytes.
const TAIL_BYTES: u64 = 1 << 20;
/// Of a replica that ended, so many lines are told.
const CAUSE_LINES: usize = 10;
/// And so many characters of each.
const CAUSE_LINE_LENGTH: usize = 500;
/// New lines are looked for this often while a log is followed.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// Logs that are kept of one model, the newest: those of revisions that are gone too, since people ask why.
const LOGS_KEPT: usize = 40;

/// The last lines that were written after `start`.
pub(crate) fn last_lines(path: &Path, start: u64) -> Vec<String> {
    let text = read_from(path, start).map(|(text, _)| text).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(CAUSE_LINES);
    lines[first..].iter().map(|line| line.chars().take(CAUSE_LINE_LENGTH).collect()).collect()
}

/// A line of the agent's in a replica's log, for who looks there for why it ended.
pub(crate) fn append(path: &Path, line: &str) {
    let file = OpenOptions::new().append(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "tradewind: {line}")) {
        tracing::warn!(log = %path.display(), %error, "cannot write to a replica's log");
    }
}

/// What stands in a log after `start`, at most its last [`TAIL_BYTES`], and where it ends.
fn read_from(path: &Path, start: u64) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // A log that was bounded meanwhile is shorter than it was.
    let start = if start > length { 0 } else { start };
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), length))
}

/// Which logs of a model, and how much of them.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) directory: PathBuf,
    /// Empty: the newest there is.
    pub(crate) revisions: Vec<RevisionNumber>,
    pub(crate) lines: Option<u32>,
}

/// One log on disk: `REVISION.SLOT.PLACE.log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Log {
    revision: u64,
    /// `blue/0`
    label: String,
    path: PathBuf,
}

impl Selection {
    fn logs(&self) -> Vec<Log> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        let mut logs: Vec<Log> = entries.filter_map(|entry| Log::parse(entry.path())).collect();
        let newest: Vec<u64> = logs.iter().map(|log| log.revision).max().into_iter().collect();
        let chosen =
            if self.revisions.is_empty() { newest } else { self.revisions.iter().map(|each| each.0).collect() };
        logs.retain(|log| chosen.contains(&log.revision));
        logs.sort();
        logs
    }

    /// The last lines of each log, one log after the other, and where each ends.
    pub(crate) fn tail(&self) -> (Bytes, Follow) {
        let lines = self.lines.unwrap_or(LINES_DEFAULT).min(LINES_LIMIT) as usize;
        let mut text = String::new();
        let mut ends = Vec::new();
        for log in self.logs() {
            let Ok((content, end)) = read_from(&log.path, 0) else { continue };
            let all: Vec<&str> = content.lines().collect();
            all[all.len().saturating_sub(lines)..].iter().for_each(|line| log.write(line, &mut text));
            ends.push((log.path, end));
        }
        (Bytes::from(text), Follow { selection: self.clone(), ends })
    }
}

impl Log {
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let mut parts = name.split('.');
        let (revision, slot, place) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let label = format!("{slot}/{place}");
        Some(Self { revision, label, path })
    }

    /// Every line says whose it is: `3 blue/0 | ...`.
    fn write(&self, line: &str, into: &mut String) {
        into.push_str(&format!("{} {} | {line}\n", self.revision, self.label));
    }
}

/// Where the reading of each log stands.
#[derive(Debug)]
pub(crate) struct Follow {
    selection: Selection,
    ends: Vec<(PathBuf, u64)>,
}

impl Follow {
    /// What is written from now on, also to logs that begin later.
    pub(crate) fn stream(self) -> impl Stream<Item = Bytes> + Send {
        futures_util::stream::unfold(self, |mut follow| async move {
            loop {
                tokio::time::sleep(FOLLOW_INTERVAL).await;
                let looked = tokio::task::spawn_blocking(move || {
                    let news = follow.news();
                    (news, follow)
                });
                let (news, back) = looked.await.ok()?;
                follow = back;
                if !news.is_empty() {
                    return Some((Bytes::from(news), follow));
                }
            }
        })
    }

    /// Whole lines that are new.
    fn news(&mut self) -> String {
        let mut text = String::new();
        for log in self.selection.logs() {
            let position = match self.ends.iter().position(|(path, _)| *path == log.path) {
                Some(position) => position,
                None => {
                    self.ends.push((log.path.clone(), 0));
                    self.ends.len() - 1
                }
            };
            let end = &mut self.ends[position].1;
            let Ok((content, length)) = read_from(&log.path, *end) else { continue };
            let whole = content.rfind('\n').map_or(0, |newline| newline + 1);
            content[..whole].lines().for_each(|line| log.write(line, &mut text));
            *end = length - (content.len() - whole) as u64;
        }
        text
    }
}

/// Removes the oldest logs of a model.
pub(crate) fn prune(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let written = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified());
    let mut logs: Vec<(SystemTime, PathBuf)> =
        entries.filter_map(|entry| Some((written(&entry).ok()?, entry.path()))).collect();
    logs.sort();
    let surplus = logs.len().saturating_sub(LOGS_KEPT);
    logs.iter().take(surplus).for_each(|(_, path)| crate::record::remove(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, text: &str) {
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn selection(directory: &Path, revisions: &[u64], lines: u32) -> Selection {
        let revisions = revisions.iter().copied().map(RevisionNumber).collect();
        Selection { directory: directory.to_owned(), revisions, lines: Some(lines) }
    }

    #[test]
    fn the_last_lines_of_the_wanted_revisions_are_told_and_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        append(&path("1.blue.0.log"), "old\n");
        append(&path("12.green.0.log"), "a\nb\nc\n");
        append(&path("12.green.1.log"), "d\n");
        append(&path("12.green.1.log.1"), "moved aside\n");

        let text = |selection: &Selection| String::from_utf8(selection.tail().0.to_vec()).unwrap();
        let newest = selection(directory.path(), &[], 2);
        assert_eq!(text(&newest), "12 green/0 | b\n12 green/0 | c\n12 green/1 | d\n");
        assert_eq!(text(&selection(directory.path(), &[1], 2)), "1 blue/0 | old\n");

        let (_, mut follow) = newest.tail();
        assert_eq!(follow.news(), "");
        append(&path("12.green.0.log"), "e\nhalf");
        append(&path("12.green.2.log"), "new\n");
        assert_eq!(follow.news(), "12 green/0 | e\n12 green/2 | new\n");
        append(&path("12.green.0.log"), " line\n");
        assert_eq!(follow.news(), "12 green/0 | half line\n");
        // Bounded while it runs.
        fs::write(path("12.green.0.log"), "anew\n").unwrap();
        assert_eq!(follow.news(), "12 green/0 | anew\n");
    }

    #[test]
    fn the_cause_is_what_the_replica_itself_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.blue.0.log");
        assert!(last_lines(&path, 0).is_empty());
        append(&path, "of another\n");
        append(&path, "error: no model\n\n  caused by: x\n");
        assert_eq!(last_lines(&path, 11), ["error: no model", "  caused by: x"]);
    }

    #[test]
    fn old_logs_go() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..LOGS_KEPT + 5 {
            append(&directory.path().join(format!("{n}.blue.0.log")), "x");
        }
        prune(directory.path());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), LOGS_KEPT);
    }
}
