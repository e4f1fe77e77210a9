use std::path::PathBuf;

use tradewind_core::pipeline::metric::MetricError;

use crate::{home::HomeError, store::StoreError};

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("too many batches failed: {failed} of {of}")]
    TooManyFailed { failed: u64, of: usize },
    #[error("`{step}` failed: {error}")]
    Step { step: String, error: String, log: Option<PathBuf> },
    #[error("metric `{metric}` of `{step}` does not add up: {error}")]
    Metric { step: String, metric: String, error: MetricError },
    #[error("the disk of {} has {} MiB left, and {} MiB are kept free", path.display(), left >> 20, reserve >> 20)]
    DiskFull { path: PathBuf, left: u64, reserve: u64 },
    #[error("there is no batch to work on: {0}")]
    NoBatch(&'static str),
    #[error("it was stopped")]
    Stopped,
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RunError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooManyFailed { .. } | Self::Step { .. } => {
                Some("mend the step or the data and run it again: what is done is not done again")
            }
            Self::Metric { .. } => Some("let the step say the same kind of metric for every batch"),
            Self::DiskFull { .. } => Some("free some space there and run it again: what is done is kept"),
            Self::Stopped => Some("run it again to go on: what is done is kept"),
            Self::NoBatch(_) => Some("see what `source` in [data] finds with `tradewind pipeline run FILE --plan`"),
            Self::Home(error) => error.hint(),
            Self::Store(_) => None,
        }
    }
}
