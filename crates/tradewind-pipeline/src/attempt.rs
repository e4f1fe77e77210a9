//! One attempt of one step: found among what is done, or told, run, read and kept.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path, path::PathBuf, time::Instant};

use tokio::task::spawn_blocking;
use tradewind_core::{
    Digest,
    causes::chain,
    pipeline::{
        contract::{Input, Inputs, SAID_BYTES_LIMIT, SCHEMA_VERSION, Said, Told},
        metric::{METRICS_LIMIT, Metric, NAME_BYTES_LIMIT},
    },
};

use crate::{
    executor::{Executor, Failed, Job},
    key::{self, Part},
    setup::Stage,
    store::{Desk, Entry, Store, StoreError},
};

/// What one name among a step's inputs stands for.
#[derive(Debug, Clone)]
pub(crate) enum Sources {
    /// Of the step's own batch, or the model.
    One(Source),
    /// Of all batches, in their order.
    All(Vec<Source>),
}

/// Something to read, with a digest of what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) content: Digest,
    pub(crate) input: Input,
}

impl Source {
    fn part(&self) -> Part<'_> {
        Part { batch: &self.input.batch, content: self.content }
    }
}

impl Sources {
    fn parts(&self) -> Vec<Part<'_>> {
        match self {
            Self::One(source) => vec![source.part()],
            Self::All(sources) => sources.iter().map(Source::part).collect(),
        }
    }

    fn told(&self) -> Inputs {
        match self {
            Self::One(source) => Inputs::One(source.input.clone()),
            Self::All(sources) => Inputs::All(sources.iter().map(|source| source.input.clone()).collect()),
        }
    }
}

/// A step of a batch, or one for all batches.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) pipeline: &'a str,
    pub(crate) stage: &'a Stage,
    /// Its name; absent where the step is for all of them.
    pub(crate) batch: Option<&'a str>,
    /// The rows of its batch, as far as they are known.
    pub(crate) rows: Option<u64>,
    pub(crate) inputs: BTreeMap<&'a str, Sources>,
    /// Where it works: no other has this name at the same time.
    pub(crate) desk: String,
}

/// An attempt that came to something.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) entry: Entry,
    /// It had been done before.
    pub(crate) reused: bool,
}

/// An attempt that did not.
#[derive(Debug)]
pub(crate) struct Unmade {
    pub(crate) failed: Failed,
    /// What it printed, if it ran.
    pub(crate) log: Option<PathBuf>,
}

impl Task<'_> {
    pub(crate) fn key(&self) -> Digest {
        let inputs: Vec<_> = self.inputs.iter().map(|(name, sources)| (*name, sources.parts())).collect();
        self.stage.recipe.key(&self.stage.name, self.batch, &inputs)
    }

    /// Does it, unless it is done.
    pub(crate) async fn attempt(&self, store: &Store, work: &Path, executor: &dyn Executor) -> Result<Made, Unmade> {
        let key = self.key();
        let (found, desk) = {
            let (store, work, name) = (store.clone(), work.to_owned(), self.desk.clone());
            blocking(move || match store.find(&key) {
                Some(entry) => {
                    store.touch(&key);
                    Ok((Some(entry), None))
                }
                None => Desk::make(&work, &name).map(|desk| (None, Some(desk))),
            })
            .await?
        };
        let desk = match (found, desk) {
            (Some(entry), _) => return Ok(Made { entry, reused: true }),
            (None, desk) => desk.expect("what is not found is made at a desk"),
        };
        self.tell(key, &desk)?;
        let job = Job {
            work: self.stage.work.clone(),
            env: self.stage.env.clone(),
            limits: self.stage.limits,
            told: desk.told(),
            log: desk.log(),
        };
        let began = Instant::now();
        let ran = executor.run(&job).await;
        let took_ms = began.elapsed().as_millis() as u64;
        let logged = |failed| Unmade { failed, log: Some(desk.log()) };
        ran.map_err(logged)?;
        let said = read_said(&desk.result(), self.rows).map_err(logged)?;
        let log = desk.log();
        let (store, step, batch) = (store.clone(), self.stage.name.clone(), self.batch.map(str::to_owned));
        let kept = blocking(move || store.keep(&desk, key, (&step, batch.as_deref()), said, took_ms)).await;
        kept.map(|entry| Made { entry, reused: false }).map_err(|unmade| Unmade { log: Some(log), ..unmade })
    }

    fn tell(&self, key: Digest, desk: &Desk) -> Result<(), Unmade> {
        let told = Told {
            schema_version: SCHEMA_VERSION,
            pipeline: self.pipeline.to_owned(),
            step: self.stage.name.clone(),
            seed: key::seed(key),
            parameters: self.stage.recipe.parameters().clone(),
            inputs: self.inputs.iter().map(|(name, sources)| ((*name).to_owned(), sources.told())).collect(),
            output: desk.output(),
            result: desk.result(),
        };
        let text = serde_json::to_vec(&told).expect("what a step is told has names for keys");
        let path = desk.told();
        let written = std::fs::write(&path, text);
        written.map_err(|source| StoreError::Io { attempt: "write", path, source }.into())
    }
}

impl From<StoreError> for Unmade {
    fn from(error: StoreError) -> Self {
        let hopeless =
            matches!(error, StoreError::NotAFile { .. } | StoreError::Name { .. } | StoreError::TooManyFiles);
        Self { failed: Failed { error: chain(&error), hopeless }, log: None }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Unmade> {
    Ok(spawn_blocking(work).await.expect("it does not panic, and nobody cancels it")?)
}

/// What a step says of its work, checked; `rows` are those of its batch.
fn read_said(path: &Path, rows: Option<u64>) -> Result<Said, Failed> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let read = file.take(SAID_BYTES_LIMIT + 1).read_to_end(&mut text);
            read.map_err(|error| Failed::new(format!("cannot read its result: {error}")))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Said { rows, ..Said::default() }),
        Err(error) => return Err(Failed::new(format!("cannot read its result: {error}"))),
    }
    if text.len() as u64 > SAID_BYTES_LIMIT {
        return Err(Failed::hopeless(format!("its result is larger than {} MiB", SAID_BYTES_LIMIT >> 20)));
    }
    let said: Said = serde_json::from_slice(&text).map_err(|error| {
        // What Python writes for what is no number.
        let words = String::from_utf8_lossy(&text);
        let hint = if words.contains("NaN") || words.contains("Infinity") {
            " (JSON has no NaN and no Infinity: a metric has to be a finite number)"
        } else {
            ""
        };
        Failed::hopeless(format!("its result cannot be read: {error}{hint}"))
    })?;
    if said.metrics.len() > METRICS_LIMIT {
        return Err(Failed::hopeless(format!("it has more than {METRICS_LIMIT} metrics")));
    }
    let is_name =
        |name: &&String| name.len() <= NAME_BYTES_LIMIT && !name.is_empty() && !name.contains(char::is_control);
    if let Some(name) = said.metrics.keys().find(|name| !is_name(name)) {
        let shown: String = name.chars().filter(|letter| !letter.is_control()).take(40).collect();
        return Err(Failed::hopeless(format!(
            "`{shown}` is no name of a metric: up to {NAME_BYTES_LIMIT} bytes in a line"
        )));
    }
    let wrong = said.metrics.iter().find_map(|(name, metric)| Metric::check(metric).err().map(|error| (name, error)));
    match wrong {
        Some((name, error)) => Err(Failed::hopeless(format!("metric `{name}`: {error}"))),
        None => Ok(Said { rows: said.rows.or(rows), ..said }),
    }
}
