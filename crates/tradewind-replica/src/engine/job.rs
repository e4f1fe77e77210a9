//! One request on its way through the engine, and what becomes of a run whose clients leave.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use ort::session::RunOptions;
use tokio::sync::oneshot;

use super::{InferError, Outputs, together::Class};
use crate::tensor::Input;

/// A request that waits for the model or is run by it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) inputs: Vec<Input>,
    /// What its first dimensions count, where those are of rows.
    pub(super) rows: usize,
    /// `None`: it runs alone.
    pub(super) class: Option<Class>,
    /// Smaller is sooner.
    pub(super) urgency: u32,
    pub(super) due: Instant,
    pub(super) came: Instant,
    pub(super) ticket: Arc<Ticket>,
    pub(super) reply: oneshot::Sender<Result<Outputs, InferError>>,
}

impl Job {
    pub(super) fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(super) fn reply(self, result: Result<Outputs, InferError>) {
        // The client may have left meanwhile.
        let _ = self.reply.send(result);
    }
}

/// One execution of the model, for everybody who waits for it.
pub(super) struct Run {
    pub(super) options: RunOptions,
    awaited_by: AtomicUsize,
}

impl Run {
    /// The run of these jobs; it is broken off when all their clients have left.
    pub(super) fn of(jobs: &[Job]) -> Result<Arc<Self>, ort::Error> {
        let run = Arc::new(Self { options: RunOptions::new()?, awaited_by: AtomicUsize::new(jobs.len()) });
        for job in jobs {
            job.ticket.begin(&run);
        }
        Ok(run)
    }

    /// Of no effect on one that is over.
    fn leave(&self) {
        if self.awaited_by.fetch_sub(1, Ordering::AcqRel) == 1
            && let Err(error) = self.options.terminate()
        {
            tracing::warn!(%error, "could not cancel an inference");
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("awaited_by", &self.awaited_by).finish_non_exhaustive()
    }
}

/// How far a request has come, between its client and the thread that runs it.
#[derive(Debug, Default)]
pub(super) struct Ticket(Mutex<Stage>);

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Waiting,
    Running(Arc<Run>),
    Left,
}

impl Ticket {
    fn begin(&self, run: &Arc<Run>) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stage {
            Stage::Left => run.leave(),
            Stage::Waiting | Stage::Running(_) => *stage = Stage::Running(Arc::clone(run)),
        }
    }

    fn leave(&self) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Stage::Running(run) = std::mem::replace(&mut *stage, Stage::Left) {
            run.leave();
        }
    }
}

/// A client that waits; it leaves when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiter(Arc<Ticket>);

impl Waiter {
    pub(super) fn ticket(&self) -> Arc<Ticket> {
        Arc::clone(&self.0)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients so many, and the run that they wait for.
    fn running(clients: usize) -> (Arc<Run>, Vec<Waiter>) {
        if let Err(error) = crate::runtime::environment() {
            panic!("{error}");
        }
        let run = Arc::new(Run { options: RunOptions::new().unwrap(), awaited_by: AtomicUsize::new(clients) });
        let waiters: Vec<Waiter> = (0..clients).map(|_| Waiter::default()).collect();
        (run, waiters)
    }

    #[test]
    fn a_run_is_awaited_until_its_last_client_has_left() {
        let (run, mut waiters) = running(3);
        // One leaves before it begins.
        waiters[0].0.leave();
        waiters.iter().for_each(|waiter| waiter.0.begin(&run));
        assert_eq!(run.awaited_by.load(Ordering::Acquire), 2);
        waiters.pop();
        waiters.remove(0);
        assert_eq!(run.awaited_by.load(Ordering::Acquire), 1, "nobody leaves twice");
        waiters.clear();
        assert_eq!(run.awaited_by.load(Ordering::Acquire), 0);
    }
}
