//! The journal of a run: a line for each thing that happens, written as it happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tradewind_core::{
    ModelName, Timestamp,
    pipeline::journal::{Event, Line, SCHEMA_VERSION, Story},
};
use tradewind_process::Identity;

use crate::home::{Home, HomeError};

const JOURNAL: &str = "journal.ndjson";
/// The longest line, in bytes: a plan with all its batches.
const LINE_BYTES_LIMIT: u64 = 1 << 30;
/// So many runs are told of; older ones are removed.
const RUNS_KEPT: usize = 20;

/// The run that goes on.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absent where nobody will read it later.
    file: Option<File>,
    story: Story,
}

impl Journal {
    /// Of a new run, with the next number.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(home: &Home, pipeline: &ModelName) -> Result<Self, HomeError> {
        let io = |attempt, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { attempt, path, source }
        };
        let numbers = numbers(&home.runs());
        let number = numbers.last().map_or(1, |last| last + 1);
        for old in numbers.iter().rev().skip(RUNS_KEPT - 1) {
            let directory = directory(&home.runs(), *old);
            fs::remove_dir_all(&directory).map_err(io("remove", &directory))?;
        }
        let directory = directory(&home.runs(), number);
        fs::create_dir_all(&directory).map_err(io("make", &directory))?;
        let path = directory.join(JOURNAL);
        let file = File::create_new(&path).map_err(io("make", &path))?;
        let journal = Self::of(directory, Some(file));
        let Identity { pid, start_time: process_started, boot_id } = Identity::of_this_process();
        journal.say(Event::Began {
            schema_version: SCHEMA_VERSION,
            pipeline: pipeline.to_string(),
            run: number,
            pid,
            started_at: Timestamp::now(),
            boot_id,
            process_started,
        });
        Ok(journal)
    }

    /// Of what is only tried: nothing is left of it.
    pub fn unwritten() -> Self {
        Self::of(PathBuf::new(), None)
    }

    fn of(directory: PathBuf, file: Option<File>) -> Self {
        Self { directory, began: Instant::now(), inner: Mutex::new(Inner { file, story: Story::default() }) }
    }

    /// Writes a line. One that cannot be written is missing in what people read later, and in nothing else.
    pub fn say(&self, event: Event) {
        let line = Line { at: self.began.elapsed().as_millis() as u64, event };
        let mut text = serde_json::to_vec(&line).expect("a journal's line has names for keys");
        text.push(b'\n');
        let mut inner = self.lock();
        if let Some(Err(error)) = inner.file.as_mut().map(|file| file.write_all(&text)) {
            tracing::warn!(%error, "the journal cannot be written");
        }
        inner.story.take(line);
    }

    /// Where logs of what failed are kept; `None` where nothing is.
    pub(crate) fn directory(&self) -> Option<&Path> {
        Some(self.directory.as_path()).filter(|directory| !directory.as_os_str().is_empty())
    }

    /// What the run has come to by now.
    pub fn with_story<T>(&self, look: impl FnOnce(&Story) -> T) -> T {
        look(&self.lock().story)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest run, as far as it is told; `None` without any.
///
/// # Errors
/// The journal cannot be read.
pub fn last_story(home: &Home) -> io::Result<Option<Story>> {
    numbers(&home.runs()).last().map(|number| read(&directory(&home.runs(), *number).join(JOURNAL))).transpose()
}

fn read(path: &Path) -> io::Result<Story> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut story = Story::default();
    let mut text = Vec::new();
    loop {
        text.clear();
        (&mut reader).take(LINE_BYTES_LIMIT).read_until(b'\n', &mut text)?;
        // The last line may be half written; nothing comes after it.
        let Some(line) = text.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok()) else {
            return Ok(story);
        };
        story.take(line);
    }
}

/// What each of these steps took on average in the newest run that did it; what no run did is missing.
pub fn usual_times<'a>(home: &Home, steps: impl Iterator<Item = &'a str>) -> BTreeMap<String, Duration> {
    let mut unknown: BTreeSet<&str> = steps.collect();
    let mut usual = BTreeMap::new();
    for number in numbers(&home.runs()).into_iter().rev() {
        if unknown.is_empty() {
            break;
        }
        // What cannot be read tells nothing.
        let Ok(story) = read(&directory(&home.runs(), number).join(JOURNAL)) else { continue };
        unknown.retain(|step| {
            let mean = story.counts.get(*step).and_then(|counts| counts.mean());
            usual.extend(mean.map(|mean| ((*step).to_owned(), mean)));
            mean.is_none()
        });
    }
    usual
}

/// Whether the run that a story tells of goes on.
pub fn goes_on(story: &Story) -> bool {
    let alive = |(pid, start_time, boot_id): &(u32, u64, String)| {
        Identity { pid: *pid, start_time: *start_time, boot_id: boot_id.clone() }.is_alive()
    };
    !story.ended && story.runner.as_ref().is_some_and(alive)
}

fn directory(runs: &Path, number: u64) -> PathBuf {
    runs.join(format!("{number:06}"))
}

/// Of the runs that are there, in order.
fn numbers(runs: &Path) -> Vec<u64> {
    let listed = fs::read_dir(runs).into_iter().flatten().filter_map(Result::ok);
    let mut numbers: Vec<u64> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_as_it_was_told_even_if_it_was_cut_off() {
        let base = tempfile::tempdir().unwrap();
        let name: ModelName = "digits".parse().unwrap();
        let home = Home::of(base.path(), &name).enter().unwrap();
        assert!(last_story(&home).unwrap().is_none());
        for number in 1..=RUNS_KEPT as u64 + 2 {
            let journal = Journal::begin(&home, &name).unwrap();
            journal.say(Event::Waiting { reason: Some("no disk".to_owned()) });
            assert_eq!(journal.with_story(|story| story.run), number);
        }
        let numbers = numbers(&home.runs());
        assert_eq!((numbers[0], numbers.len()), (3, RUNS_KEPT));
        let path = directory(&home.runs(), numbers[RUNS_KEPT - 1]).join(JOURNAL);
        File::options().append(true).open(path).unwrap().write_all(b"{\"at\": 3, \"event\": \"ended\"").unwrap();
        let story = last_story(&home).unwrap().unwrap();
        assert_eq!((story.run, story.waiting.as_deref()), (RUNS_KEPT as u64 + 2, Some("no disk")));
        assert!(goes_on(&story), "this process is the runner, and the end is not told");
    }
}
