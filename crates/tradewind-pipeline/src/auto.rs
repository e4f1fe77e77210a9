//! How large batches are where the pipeline leaves that open: two samples of the data are measured, once for the same
//! steps. Later runs use what was found, so that data that grows does not make other batches of what is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    Digest,
    pipeline::size::{Decision, Measured, decide},
};

use crate::{
    data::{self, Batch, Portion, Survey},
    executor::Executor,
    home::Home,
    journal::Journal,
    run::{Planned, Run, RunError, Scene},
    setup::Setup,
};

/// What a sample begins with, in rows.
const FIRST_ROWS: u64 = 1000;
/// Each sample is so many times as large as the one before.
const GROWTH: u64 = 8;
/// A sample that takes so long is large enough, in milliseconds.
const LONG_ENOUGH_MS: u64 = 500;

#[derive(Debug, thiserror::Error)]
pub enum AutoError {
    #[error("cannot find out how large batches should be")]
    Sample(#[source] RunError),
    #[error("cannot take a sample of the data")]
    Data(#[source] Box<data::Error>),
}

impl AutoError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Sample(_) => Some("say how large they are: batch = { rows = 100000 } in [data]"),
            Self::Data(_) => None,
        }
    }
}

/// What was found out, and for which steps.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    steps: Digest,
    amount: u64,
    reason: String,
}

/// So many rows of a batch, or files where they have no rows, and why; `None` where it was not measured yet.
pub fn known(survey: &Survey, setup: &Setup, home: &Home) -> Option<(Portion, String)> {
    let known = read(&path(home)).filter(|known| known.steps == setup.digest())?;
    Some((portion_of(survey, known.amount), known.reason))
}

/// The same, measured now: two samples of the data go through all steps.
///
/// # Errors
/// A step failed with a sample; the data cannot be read.
pub async fn measure(
    survey: &Survey,
    setup: &Setup,
    home: &Home,
    executor: &dyn Executor,
    stop: &CancellationToken,
) -> Result<(Portion, String), AutoError> {
    let sources = survey.sources();
    let (total, unit) = sources.rows.map_or((sources.files, "files"), |rows| (rows, "rows"));
    let sampling = Sampling { survey, setup, home, executor, stop };
    let first = if unit == "rows" { FIRST_ROWS.min(total) } else { 1 };
    // The first one starts workers, which later ones find started.
    sampling.measure(first).await?;
    let small = sampling.measure((first + first / 4).min(total)).await?;
    let (mut large, mut amount) = (small, first);
    while large.seconds * 1000.0 < LONG_ENOUGH_MS as f64 && amount * GROWTH <= total / 2 {
        amount *= GROWTH;
        large = sampling.measure(amount).await?;
    }
    let Decision { rows: amount, reason } = decide([small, large], executor.room().workers, total, unit);
    let known = Known { steps: setup.digest(), amount, reason };
    // What cannot be kept is found out again.
    let _ = fs::write(path(home), serde_json::to_vec(&known).unwrap_or_default());
    Ok((portion_of(survey, amount), known.reason))
}

fn portion_of(survey: &Survey, amount: u64) -> Portion {
    if survey.sources().rows.is_some() { Portion::Rows(amount) } else { Portion::Files(amount) }
}

fn path(home: &Home) -> PathBuf {
    home.directory().join("auto.json")
}

fn read(path: &Path) -> Option<Known> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

struct Sampling<'a> {
    survey: &'a Survey,
    setup: &'a Setup,
    home: &'a Home,
    executor: &'a dyn Executor,
    stop: &'a CancellationToken,
}

impl Sampling<'_> {
    /// What all steps of a batch of this size take together.
    async fn measure(&self, amount: u64) -> Result<Measured, AutoError> {
        let batch = self.survey.sample(amount, &|_| {}).await;
        let batch = batch.map_err(|error| AutoError::Data(Box::new(error)))?;
        let rows = batch.rows.unwrap_or(batch.files.len() as u64);
        let took_ms = self.run(batch).await.map_err(AutoError::Sample)?;
        Ok(Measured { rows, seconds: took_ms as f64 / 1000.0 })
    }

    async fn run(&self, batch: Batch) -> Result<u64, RunError> {
        let journal = Journal::unwritten();
        let mut run = Run::new(Scene {
            setup: self.setup,
            home: self.home,
            store: self.home.store(),
            journal: &journal,
            executor: self.executor,
            batches: vec![Planned { batch, held_out: false }],
            reserve: 0,
            stop: self.stop.clone(),
        })?;
        run.plan();
        match run.batches().await {
            Ok(()) => Ok(run.took_ms()),
            Err(RunError::TooManyFailed { failed, of }) => Err(journal.with_story(|story| {
                let last = story.failures.last().map(|failure| (failure.step.clone(), failure.error.clone()));
                last.map_or(RunError::TooManyFailed { failed, of }, |(step, error)| RunError::Step {
                    step,
                    error,
                    log: None,
                })
            })),
            Err(error) => Err(error),
        }
    }
}
