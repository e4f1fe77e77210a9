//! The requests that wait for the model, the most urgent first, and what an inference has cost of late.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tradewind_core::batch::{self, CostLine, Waiting};

use super::{InferError, job::Job};

/// An inference that is shorter than this takes hardly longer than it does to wake the thread that runs it.
const BRIEF: Duration = Duration::from_micros(100);

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    /// Rows of a batch at most.
    most: usize,
    /// Threads that take from it.
    pub(super) instances: usize,
    /// Times are told by how long after this they are.
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// By urgency, then in the order in which they came.
    waiting: VecDeque<Job>,
    cost: CostLine,
    /// Threads that sleep.
    idle: usize,
    /// Of those, how many are about to be woken.
    called: usize,
    closed: bool,
}

/// A thread that sleeps while there is work: it is woken when this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Call<'a> {
    arrived: &'a Condvar,
    /// Whether the work is brief: then more of it may come first.
    pub(super) brief: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.arrived.notify_one();
    }
}

impl Queue {
    pub(super) fn new(most: usize, instances: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), most, instances, began: Instant::now() }
    }

    /// Refuses at once what could not be answered in time. Gives the thread to wake, if all that are needed are not awake or
    /// called already.
    pub(super) fn push(&self, job: Job, now: Instant) -> Result<Option<Call<'_>>, InferError> {
        let mut state = self.lock();
        if state.closed {
            return Err(InferError::Stopping);
        }
        let place = state.waiting.partition_point(|other| other.urgency <= job.urgency);
        let ahead = state.waiting.range(..place).map(|other| other.rows).sum();
        let answered = batch::answered_by(&state.cost, ahead, job.rows, self.instances, self.most, self.time(now));
        if ahead > 0 && answered.is_some_and(|at| at > self.time(job.due)) {
            return Err(InferError::Hopeless);
        }
        let brief = state.cost.estimate(job.rows).is_some_and(|took| took < BRIEF);
        state.waiting.insert(place, job);
        if state.called >= state.idle {
            return Ok(None);
        }
        state.called += 1;
        Ok(Some(Call { arrived: &self.arrived, brief }))
    }

    /// What runs next: one job, or several that run together. Waits for one; `None` when there is none left and none will come.
    pub(super) fn next(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            // Clients may have left while their requests waited.
            state.waiting.retain(Job::is_awaited);
            if !state.waiting.is_empty() {
                return Some(self.take_batch(&mut state));
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            state.called = state.called.saturating_sub(1);
        }
    }

    /// An inference of so many rows took so long.
    pub(super) fn observe(&self, rows: usize, took: Duration) {
        self.lock().cost.observe(rows, took);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Nothing is taken any more; what waits is still run.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    fn take_batch(&self, state: &mut State) -> Vec<Job> {
        let waiting = state.waiting.iter().map(|job| Waiting {
            rows: job.rows,
            class: job.class.as_ref(),
            due: self.time(job.due),
        });
        let places = batch::next_batch(waiting, &state.cost, self.most, self.time(Instant::now()));
        // From the last one on, so that the places before it stay what they are.
        let mut batch: Vec<Job> = places.iter().rev().filter_map(|&place| state.waiting.remove(place)).collect();
        batch.reverse();
        batch
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::{Outputs, job::Waiter};

    type Answer = oneshot::Receiver<Result<Outputs, InferError>>;

    /// A request that waits, which is known by its rows.
    fn job(rows: usize, urgency: u32) -> (Job, Answer, Waiter) {
        let ((reply, answer), waiter, came) = (oneshot::channel(), Waiter::default(), Instant::now());
        let due = came + Duration::from_secs(60);
        let job = Job { inputs: Vec::new(), rows, class: None, urgency, due, came, ticket: waiter.ticket(), reply };
        (job, answer, waiter)
    }

    #[test]
    fn the_urgent_come_first_the_others_in_turn_and_those_who_left_not_at_all() {
        let queue = Queue::new(64, 1);
        let mut clients = Vec::new();
        for (rows, urgency) in [(1, 2), (2, 3), (3, 1), (4, 2), (5, 1)] {
            let (job, answer, waiter) = job(rows, urgency);
            drop(queue.push(job, Instant::now()).unwrap());
            clients.push((answer, waiter));
        }
        // The one with four rows.
        drop(clients.remove(3));
        queue.close();
        assert!(matches!(queue.push(job(7, 1).0, Instant::now()), Err(InferError::Stopping)));
        let order: Vec<usize> = std::iter::from_fn(|| queue.next()).map(|batch| batch[0].rows).collect();
        assert_eq!(order, [3, 5, 1, 2]);
    }

    #[test]
    fn a_sleeping_thread_is_called_once_for_all_that_comes_before_it_wakes() {
        let queue = Queue::new(64, 1);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| [queue.next(), queue.next()].map(|batch| batch.map(|batch| batch[0].rows)));
            while queue.lock().idle == 0 {
                std::thread::yield_now();
            }
            let (first, second) = (job(1, 2), job(2, 2));
            let call = queue.push(first.0, Instant::now()).unwrap();
            assert!(call.as_ref().is_some_and(|call| !call.brief), "nothing is known of what it costs");
            assert!(queue.push(second.0, Instant::now()).unwrap().is_none());
            drop(call);
            assert_eq!(thread.join().unwrap(), [Some(1), Some(2)]);
        });
    }
}
