//! The requests that wait for the model, the most urgent first, and what an inference has cost of late.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tradewind_core::batch::{self, CostLine, Waiting};

use super::{InferError, job::Job};

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
    closed: bool,
}

impl Queue {
    pub(super) fn new(most: usize, instances: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), most, instances, began: Instant::now() }
    }

    /// Refuses at once what could not be answered in time.
    pub(super) fn push(&self, job: Job, now: Instant) -> Result<(), InferError> {
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
        state.waiting.insert(place, job);
        drop(state);
        self.arrived.notify_one();
        Ok(())
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
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
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
            queue.push(job, Instant::now()).unwrap();
            clients.push((answer, waiter));
        }
        // The one with four rows.
        drop(clients.remove(3));
        queue.close();
        assert!(matches!(queue.push(job(7, 1).0, Instant::now()), Err(InferError::Stopping)));
        let order: Vec<usize> = std::iter::from_fn(|| queue.next()).map(|batch| batch[0].rows).collect();
        assert_eq!(order, [3, 5, 1, 2]);
    }
}
