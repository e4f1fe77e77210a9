//! Which step of which batch runs next, and when a run is over.
//!
//! What was begun is finished first, so that what lies between two steps stays small; of batches that have not begun the
//! largest is first, so that no long one is left for the end. A step that fails is tried again after a while; one that
//! has failed too often ends its batch, and too many batches that ended so end the run.

use std::time::Duration;

use crate::backoff::Backoff;

/// Between attempts of one step.
const BETWEEN_ATTEMPTS: Backoff = Backoff { first: Duration::from_millis(500), limit: Duration::from_secs(60) };

/// What a step of the pipeline needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// In bytes; what is not known counts as nothing.
    pub memory: u64,
    /// Attempts after the first.
    pub retries: u32,
}

/// What there is for steps that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub workers: usize,
    /// In bytes.
    pub memory: u64,
}

/// A step of a batch, both by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Task {
    pub batch: usize,
    pub step: usize,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It may end otherwise the next time.
    Failed,
    /// It would end like that every time.
    Hopeless,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Going,
    /// Every batch is done or has been given up, and enough are done.
    Done,
    /// So many have been given up that enough can not be done any more; nothing new is begun.
    TooManyFailed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not before this time.
    Waits(Duration),
    Runs,
    Done,
    GivenUp,
}

#[derive(Debug, Clone)]
struct Batch {
    bytes: u64,
    /// The step that is next or runs.
    step: usize,
    /// Attempts of that step that failed.
    failures: u32,
    state: State,
}

/// The batches of a run. Times are told from any fixed moment.
#[derive(Debug, Clone)]
pub struct Schedule {
    steps: Vec<Needs>,
    batches: Vec<Batch>,
    /// Batches that may be given up.
    spare: usize,
    room: Room,
}

impl Schedule {
    /// Of batches with so many bytes each, of which so large a part must succeed.
    pub fn new(steps: Vec<Needs>, batches: &[u64], min_success_ratio: f64, room: Room) -> Self {
        let needed = (batches.len() as f64 * min_success_ratio).ceil() as usize;
        let state = State::Waits(Duration::ZERO);
        let batches: Vec<Batch> = batches.iter().map(|&bytes| Batch { bytes, step: 0, failures: 0, state }).collect();
        Self { steps, spare: batches.len().saturating_sub(needed), batches, room }
    }

    /// Leaves out what an earlier run has done: so many steps of this batch.
    pub fn skip(&mut self, batch: usize, steps: usize) {
        let total = self.steps.len();
        let batch = &mut self.batches[batch];
        batch.step = steps.min(total);
        if batch.step == total {
            batch.state = State::Done;
        }
    }

    /// What runs next; it counts as running from now on.
    pub fn next(&mut self, now: Duration) -> Option<Task> {
        if self.progress() != Progress::Going || self.running().count() >= self.room.workers {
            return None;
        }
        let taken: u64 = self.running().map(|batch| self.steps[batch.step].memory).sum();
        let left = self.room.memory.checked_sub(taken)?;
        let alone = self.running().next().is_none();
        let is_ready = |batch: &Batch| matches!(batch.state, State::Waits(until) if until <= now);
        let ready = self.batches.iter().enumerate().filter(|(_, batch)| is_ready(batch));
        // What needs more than there is at all runs by itself.
        let fitting = ready.filter(|(_, batch)| alone || self.steps[batch.step].memory <= left);
        let (at, _) = fitting.max_by_key(|(at, batch)| (batch.step, batch.bytes, std::cmp::Reverse(*at)))?;
        self.batches[at].state = State::Runs;
        Some(Task { batch: at, step: self.batches[at].step })
    }

    /// An attempt has ended.
    pub fn ended(&mut self, task: Task, outcome: Outcome, now: Duration) {
        let (total, needs) = (self.steps.len(), self.steps[task.step]);
        let batch = &mut self.batches[task.batch];
        match outcome {
            Outcome::Done => {
                (batch.step, batch.failures) = (batch.step + 1, 0);
                batch.state = if batch.step == total { State::Done } else { State::Waits(now) };
            }
            Outcome::Failed if batch.failures < needs.retries => {
                batch.failures += 1;
                batch.state = State::Waits(now + BETWEEN_ATTEMPTS.after(batch.failures));
            }
            Outcome::Failed | Outcome::Hopeless => batch.state = State::GivenUp,
        }
    }

    pub fn progress(&self) -> Progress {
        let given_up = self.count(|state| state == State::GivenUp);
        if given_up > self.spare {
            return Progress::TooManyFailed;
        }
        let done = self.count(|state| state == State::Done);
        if done + given_up == self.batches.len() { Progress::Done } else { Progress::Going }
    }

    /// When something that waits may run; `None` where nothing does.
    pub fn wakes_at(&self) -> Option<Duration> {
        let waits = self.batches.iter().filter_map(|batch| match batch.state {
            State::Waits(until) => Some(until),
            _ => None,
        });
        waits.min()
    }

    /// Whether a batch came through.
    pub fn is_done(&self, batch: usize) -> bool {
        self.batches[batch].state == State::Done
    }

    pub fn is_idle(&self) -> bool {
        self.running().next().is_none()
    }

    fn running(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|batch| batch.state == State::Runs)
    }

    fn count(&self, is: impl Fn(State) -> bool) -> usize {
        self.batches.iter().filter(|batch| is(batch.state)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(memory: u64, retries: u32) -> Needs {
        Needs { memory, retries }
    }

    #[test]
    fn what_was_begun_is_finished_first_and_the_largest_begins() {
        let room = Room { workers: 1, memory: 10 };
        let mut schedule = Schedule::new(vec![needs(1, 0), needs(1, 0)], &[5, 9, 9, 1], 1.0, room);
        let mut order = Vec::new();
        while let Some(task) = schedule.next(Duration::ZERO) {
            order.push((task.batch, task.step));
            assert_eq!(schedule.next(Duration::ZERO), None, "there is one worker");
            schedule.ended(task, Outcome::Done, Duration::ZERO);
        }
        assert_eq!(order, [(1, 0), (1, 1), (2, 0), (2, 1), (0, 0), (0, 1), (3, 0), (3, 1)]);
        assert_eq!(schedule.progress(), Progress::Done);
    }

    #[test]
    fn a_failure_is_tried_again_later_and_given_up_in_the_end() {
        let mut schedule = Schedule::new(vec![needs(0, 1)], &[1, 1], 0.5, Room { workers: 1, memory: 1 });
        let task = schedule.next(Duration::ZERO).unwrap();
        schedule.ended(task, Outcome::Failed, Duration::ZERO);
        let other = schedule.next(Duration::ZERO).unwrap();
        assert_ne!(other.batch, task.batch, "another one runs meanwhile");
        schedule.ended(other, Outcome::Done, Duration::ZERO);
        assert_eq!(schedule.next(Duration::from_millis(499)), None);
        assert_eq!(schedule.wakes_at(), Some(Duration::from_millis(500)));
        let again = schedule.next(Duration::from_millis(500)).unwrap();
        assert_eq!(again, task);
        schedule.ended(again, Outcome::Failed, Duration::from_millis(500));
        assert_eq!(schedule.progress(), Progress::Done, "half of them is enough");
        assert!(!schedule.is_done(task.batch) && schedule.is_done(other.batch));
    }

    #[test]
    fn too_many_failures_end_the_run_and_nothing_new_is_begun() {
        let mut schedule = Schedule::new(vec![needs(0, 5)], &[1; 10], 0.9, Room { workers: 3, memory: 1 });
        let tasks: Vec<Task> = std::iter::from_fn(|| schedule.next(Duration::ZERO)).collect();
        assert_eq!(tasks.len(), 3);
        schedule.ended(tasks[0], Outcome::Hopeless, Duration::ZERO);
        assert_eq!(schedule.progress(), Progress::Going);
        schedule.ended(tasks[1], Outcome::Hopeless, Duration::ZERO);
        assert_eq!((schedule.progress(), schedule.next(Duration::ZERO)), (Progress::TooManyFailed, None));
        assert!(!schedule.is_idle(), "what runs may end");
    }

    #[test]
    fn what_needs_more_than_there_is_runs_by_itself() {
        let mut schedule = Schedule::new(vec![needs(8, 0)], &[1, 1], 1.0, Room { workers: 4, memory: 5 });
        let first = schedule.next(Duration::ZERO).unwrap();
        assert_eq!(schedule.next(Duration::ZERO), None);
        schedule.ended(first, Outcome::Done, Duration::ZERO);
        assert!(schedule.next(Duration::ZERO).is_some());
    }

    #[test]
    fn what_an_earlier_run_did_is_left_out() {
        let mut schedule = Schedule::new(vec![needs(0, 0); 3], &[1, 1], 1.0, Room { workers: 9, memory: 1 });
        schedule.skip(0, 3);
        schedule.skip(1, 2);
        assert_eq!(schedule.next(Duration::ZERO), Some(Task { batch: 1, step: 2 }));
        assert_eq!(schedule.next(Duration::ZERO), None);
    }

    proptest! {
        /// Whatever ends when and how: never more than there is room for, every step after the one before, each of them
        /// done once, and always an end.
        #[test]
        fn every_order_keeps_the_promises(
            batches in prop::collection::vec(0_u64..100, 1..12),
            steps in prop::collection::vec((0_u64..6, 0_u32..3), 1..4),
            workers in 1_usize..5, memory in 1_u64..10, ratio in 0.1_f64..=1.0,
            draws in prop::collection::vec((0_usize..8, 0_u8..10), 400),
        ) {
            let steps: Vec<Needs> = steps.into_iter().map(|(memory, retries)| needs(memory, retries)).collect();
            let mut schedule = Schedule::new(steps.clone(), &batches, ratio, Room { workers, memory });
            let (mut now, mut running, mut done) = (Duration::ZERO, Vec::<Task>::new(), vec![0; batches.len()]);
            let mut draws = draws.into_iter();
            loop {
                while let Some(task) = schedule.next(now) {
                    prop_assert_eq!(task.step, done[task.batch]);
                    running.push(task);
                    let taken: u64 = running.iter().map(|task| steps[task.step].memory).sum();
                    prop_assert!(running.len() <= workers && (taken <= memory || running.len() == 1));
                }
                if running.is_empty() {
                    if schedule.progress() != Progress::Going {
                        break;
                    }
                    now = schedule.wakes_at().expect("something waits");
                    continue;
                }
                let (at, how) = draws.next().unwrap_or((0, 0));
                let task = running.swap_remove(at % running.len());
                let outcome = match how { 8 => Outcome::Failed, 9 => Outcome::Hopeless, _ => Outcome::Done };
                done[task.batch] += usize::from(outcome == Outcome::Done);
                schedule.ended(task, outcome, now);
            }
            let whole = done.iter().filter(|count| **count == steps.len()).count();
            let enough = whole as f64 >= ratio * batches.len() as f64;
            prop_assert_eq!(schedule.progress() == Progress::Done, enough);
        }
    }
}
