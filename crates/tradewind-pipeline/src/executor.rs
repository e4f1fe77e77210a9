//! Where steps run. The runner decides what runs next and keeps what comes of it; an executor does one attempt after the
//! other, as many at once as it has room for.
//!
//! [`Local`] runs them in processes of this machine. One for a cluster takes the same jobs: what a job reads and writes
//! are files under one directory, which it would have to bring there and back.

mod local;
mod log;
mod running;
mod worker;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use futures_util::future::BoxFuture;
use tradewind_core::pipeline::schedule::Room;

pub use self::local::{Local, LocalOptions, whole_machine};

/// One attempt of one step.
#[derive(Debug, Clone)]
pub struct Job {
    pub work: Work,
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    /// The file that says what is to be done.
    pub told: PathBuf,
    /// Where what it prints is kept.
    pub log: PathBuf,
}

/// How a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A program that is started for it and ends.
    Command(Vec<String>),
    /// A program that is started once and does one job after the other, this function of it if it has many.
    Worker { command: Vec<String>, function: Option<String> },
}

/// What an attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub time: Duration,
    /// In thousandths of a core.
    pub cpu_milli: Option<u32>,
    /// In bytes.
    pub memory: Option<u64>,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub error: String,
    /// It would end like that every time.
    pub hopeless: bool,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl Failed {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), hopeless: false }
    }

    pub(crate) fn hopeless(error: impl Into<String>) -> Self {
        Self { error: error.into(), hopeless: true }
    }
}

/// What runs steps.
pub trait Executor: fmt::Debug + Send + Sync {
    /// For how much at once.
    fn room(&self) -> Room;

    /// Does a job to its end. What is left of one whose future was dropped ends with [`close`](Self::close).
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), Failed>>;

    /// Ends whatever is left of what it started.
    fn close(&self) -> BoxFuture<'_, ()>;
}
