//! The one writer. Work queues; while there is some, one blocking task holds the database and commits all that
//! waits, in one go, so that one fsync serves many callers.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{database::Database, leases::Leases, schema::Failure};
use crate::{Batch, Error, LeaseId, Op, Result, Revision, Txn, TxnResponse};

/// How many callers may wait for the writer; more wait to be let in.
const MAX_WAITING: usize = 256;
/// How many of them share one commit.
const MAX_GROUP: usize = 64;

/// What the writer does.
#[derive(Debug)]
pub(super) enum Work {
    Txn(Txn),
    EndLease(LeaseId),
    Compact(Revision),
}

impl Work {
    /// Whether it adds more than the note that something is gone.
    pub(super) fn puts(&self) -> bool {
        matches!(self, Self::Txn(txn) if txn.ops.iter().any(|op| matches!(op, Op::Put { .. })))
    }
}

/// A revision that was just committed.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    pub(super) revision: Revision,
    /// What it did, unless that is too large to keep for everyone: then it is read from the history.
    pub(super) batch: Option<Arc<Batch>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Queue>,
    permits: Arc<Semaphore>,
    leases: Arc<Leases>,
    transactions: AtomicU64,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The database, while nobody works on it.
    idle: Option<Database>,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    work: Work,
    reply: oneshot::Sender<Result<TxnResponse>>,
    _permit: OwnedSemaphorePermit,
}

impl Writer {
    pub(super) fn new(database: Database, leases: Arc<Leases>, tasks: TaskTracker) -> Self {
        Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), idle: Some(database), closed: false }),
            permits: Arc::new(Semaphore::new(MAX_WAITING)),
            leases,
            transactions: AtomicU64::new(0),
            tasks,
        }
    }

    /// Queues the work and waits until it is durable or refused.
    pub(super) async fn submit(self: &Arc<Self>, work: Work) -> Result<TxnResponse> {
        let (reply, answer) = oneshot::channel();
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => self.enqueue(Job { work, reply, _permit: permit })?,
            Err(TryAcquireError::Closed) => return Err(Error::Closed),
            Err(TryAcquireError::NoPermits) => self.let_in(work, reply).await?,
        }
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Waits for a place in the queue, in a task of its own: a future that is kept but not polled would be given a
    /// place and never take it, and with it hold up everybody behind. A caller that is dropped is not let in.
    async fn let_in(self: &Arc<Self>, work: Work, reply: oneshot::Sender<Result<TxnResponse>>) -> Result<()> {
        let writer = Arc::clone(self);
        let entry = self.tasks.spawn(async move {
            let permit = Arc::clone(&writer.permits).acquire_owned().await.map_err(|_| Error::Closed)?;
            writer.enqueue(Job { work, reply, _permit: permit })
        });
        match AbortOnDropHandle::new(entry).await {
            Ok(entered) => entered,
            Err(join) => Err(Error::Backend { attempted: "queue for the writer", source: Box::new(join) }),
        }
    }

    fn enqueue(self: &Arc<Self>, job: Job) -> Result<()> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Error::Closed);
        }
        queue.waiting.push_back(job);
        self.wake(&mut queue);
        Ok(())
    }

    /// Finishes what waits, refuses what comes, and gives the database up.
    pub(super) fn close(self: &Arc<Self>) {
        self.permits.close();
        let mut queue = self.queue();
        queue.closed = true;
        self.wake(&mut queue);
    }

    pub(super) fn is_open(&self) -> bool {
        !self.queue().closed
    }

    /// How many transactions changed something.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    fn wake(self: &Arc<Self>, queue: &mut Queue) {
        if let Some(database) = queue.idle.take() {
            let writer = Arc::clone(self);
            self.tasks.spawn_blocking(move || writer.drain(database));
        }
    }

    fn drain(&self, mut database: Database) {
        let _guard = CloseOnPanic(self);
        loop {
            let jobs: Vec<Job> = {
                let mut queue = self.queue();
                if queue.waiting.is_empty() && (queue.closed || !database.has_garbage()) {
                    if !queue.closed {
                        queue.idle = Some(database);
                    }
                    return;
                }
                let count = queue.waiting.len().min(MAX_GROUP);
                queue.waiting.drain(..count).collect()
            };
            if jobs.is_empty() {
                database.sweep();
            } else {
                self.commit(&mut database, jobs);
            }
        }
    }

    fn commit(&self, database: &mut Database, mut jobs: Vec<Job>) {
        let work: Vec<&Work> = jobs.iter().map(|job| &job.work).collect();
        match database.commit(&work, &self.leases) {
            Ok(committed) => {
                self.transactions.fetch_add(committed.revisions, Ordering::Relaxed);
                for (job, response) in jobs.into_iter().zip(committed.responses) {
                    job.answer(response);
                }
            }
            // Nothing of the group was kept. Alone, those that can be committed are.
            Err(_) if jobs.len() > 1 => jobs.into_iter().for_each(|job| self.commit(database, vec![job])),
            Err(error) => {
                let job = jobs.pop().expect("a group has at least one job");
                job.answer(Err(Failure::Sqlite(error).while_attempting("commit a transaction")));
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn answer(self, response: Result<TxnResponse>) {
        // The caller may have stopped waiting; the work is done all the same.
        let _ = self.reply.send(response);
    }
}

/// If the writer panics the database is gone: callers that wait are told so, instead of waiting for ever.
struct CloseOnPanic<'a>(&'a Writer);

impl Drop for CloseOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.closed = true;
            queue.waiting.clear();
        }
    }
}
