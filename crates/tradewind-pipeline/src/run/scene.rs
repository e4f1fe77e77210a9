//! What attempts of a run have in common, and what is written down of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;
use tradewind_core::{
    Digest,
    pipeline::{
        contract::Input,
        file::BATCH,
        journal::{Event, SHOWN_FAILURES},
        metric::Metric,
        schedule::{BETWEEN_ATTEMPTS, Task as Place},
    },
};

use super::RunError;
use crate::{
    attempt::{Made, Source, Sources, Task, Unmade},
    data::Batch,
    executor::Executor,
    home::Home,
    journal::Journal,
    key,
    setup::{Setup, Stage},
    store::{Entry, Store},
};

/// What a run works with.
#[derive(Debug)]
pub struct Scene<'a> {
    pub setup: &'a Setup,
    pub home: &'a Home,
    pub store: Store,
    pub journal: &'a Journal,
    pub executor: &'a dyn Executor,
    pub batches: Vec<Planned>,
    /// Bytes of the disk that are left free.
    pub reserve: u64,
    pub stop: CancellationToken,
}

/// A batch of a run.
#[derive(Debug, Clone)]
pub struct Planned {
    pub batch: Batch,
    pub held_out: bool,
}

/// What is remembered of an entry.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) key: Digest,
    /// Of all that later steps read of it.
    content: Digest,
    pub(super) rows: Option<u64>,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) took_ms: u64,
}

impl From<&Entry> for Done {
    fn from(entry: &Entry) -> Self {
        let content = key::digest(&(entry.output, entry.rows, &entry.metrics));
        Self { key: entry.key, content, rows: entry.rows, metrics: entry.metrics.clone(), took_ms: entry.took_ms }
    }
}

impl Scene<'_> {
    /// The step at this place, with what the steps before it have made.
    pub(super) fn task(&self, place: Place, made: &[Option<Done>]) -> Task<'_> {
        let stage = &self.setup.stages[place.step];
        let batch = &self.batches[place.batch].batch;
        let inputs = stage.inputs.iter().filter_map(|name| {
            let source = self.source(name, place.batch, made)?;
            Some((name.as_str(), Sources::One(source)))
        });
        Task {
            pipeline: self.setup.pipeline.name.as_str(),
            stage,
            batch: Some(&batch.name),
            rows: batch.rows,
            inputs: inputs.collect(),
            desk: format!("{}-{}", place.batch, place.step),
        }
    }

    /// What `name` stands for in a batch; `None` where that was not made.
    pub(super) fn source(&self, name: &str, batch: usize, made: &[Option<Done>]) -> Option<Source> {
        let Batch { name: batch, format, files, rows, digest, .. } = &self.batches[batch].batch;
        if name == BATCH {
            let (batch, files) = (batch.clone(), files.clone());
            let input = Input { batch, format: Some(*format), files, rows: *rows, ..Input::default() };
            return Some(Source { content: *digest, input });
        }
        let at = self.setup.stages.iter().position(|stage| stage.name == name)?;
        let done = made[at].as_ref()?;
        let input = Input {
            batch: batch.clone(),
            directory: Some(self.store.output(&done.key)),
            rows: done.rows,
            metrics: done.metrics.clone(),
            ..Input::default()
        };
        Some(Source { content: done.content, input })
    }

    pub(super) async fn attempt(&self, task: &Task<'_>) -> Result<Made, Unmade> {
        task.attempt(&self.store, &self.home.work(), self.executor).await
    }

    /// Of a step that is for all batches: as often as it may be tried, or until it is stopped.
    pub(super) async fn attempt_for_all(
        &self,
        stage: &Stage,
        inputs: BTreeMap<&str, Sources>,
    ) -> Result<Entry, RunError> {
        let pipeline = self.setup.pipeline.name.as_str();
        let desk = stage.name.clone();
        let task = Task { pipeline, stage, batch: None, rows: None, inputs, desk };
        let mut attempt = 1;
        loop {
            self.room_on_disk()?;
            self.started(stage, None, 0, attempt);
            let ended = tokio::select! {
                ended = self.attempt(&task) => ended,
                () = self.stop.cancelled() => return Err(RunError::Stopped),
            };
            match ended {
                Ok(made) => {
                    self.finished(&made.entry, None, made.reused);
                    return Ok(made.entry);
                }
                Err(unmade) => {
                    let again = !unmade.failed.hopeless && attempt <= stage.retries;
                    let log = self.failed(stage, None, &unmade, again);
                    if !again {
                        return Err(RunError::Step { step: stage.name.clone(), error: unmade.failed.error, log });
                    }
                    tokio::select! {
                        () = tokio::time::sleep(BETWEEN_ATTEMPTS.after(attempt)) => attempt += 1,
                        () = self.stop.cancelled() => return Err(RunError::Stopped),
                    }
                }
            }
        }
    }

    pub(super) fn started(&self, stage: &Stage, batch: Option<usize>, worker: usize, attempt: u32) {
        self.journal.say(Event::Started { step: stage.name.clone(), batch, worker, attempt });
    }

    pub(super) fn finished(&self, entry: &Entry, batch: Option<usize>, reused: bool) {
        let (step, key, took_ms) = (entry.step.clone(), entry.key.to_hex(), entry.took_ms);
        self.journal.say(Event::Finished { step, batch, key, took_ms, reused });
    }

    /// Writes it down, and keeps what was printed; says where.
    pub(super) fn failed(&self, stage: &Stage, batch: Option<usize>, unmade: &Unmade, again: bool) -> Option<PathBuf> {
        let log = unmade.log.as_ref().and_then(|log| self.keep_log(log, stage, batch));
        self.journal.say(Event::Failed {
            step: stage.name.clone(),
            batch,
            error: unmade.failed.error.clone(),
            log: log.as_ref().map(|log| log.display().to_string()),
            again,
        });
        log
    }

    fn keep_log(&self, log: &Path, stage: &Stage, batch: Option<usize>) -> Option<PathBuf> {
        if self.journal.with_story(|story| story.failures.len()) >= SHOWN_FAILURES {
            return None;
        }
        let name = match batch {
            Some(batch) => format!("{}-{batch}.log", stage.name),
            None => format!("{}.log", stage.name),
        };
        let kept = self.journal.directory()?.join(name);
        // What printed nothing has nothing to show.
        fs::metadata(log).ok().filter(|metadata| metadata.len() > 0)?;
        fs::rename(log, &kept).ok().map(|()| kept)
    }

    pub(super) fn too_many_failed(&self) -> RunError {
        let failed = self.journal.with_story(|story| story.counts.values().map(|counts| counts.given_up).sum());
        RunError::TooManyFailed { failed, of: self.batches.len() }
    }

    /// Whether the disk has room for more.
    pub(super) fn room_on_disk(&self) -> Result<(), RunError> {
        let path = self.home.directory();
        // Where nobody can say, nothing is held up.
        let Ok(disk) = rustix::fs::statvfs(path) else { return Ok(()) };
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        if left < self.reserve {
            return Err(RunError::DiskFull { path: path.to_owned(), left, reserve: self.reserve });
        }
        Ok(())
    }
}
