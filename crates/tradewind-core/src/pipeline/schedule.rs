//! Which step of which batch runs next, and when a run is over.
//!
//! What was begun is finished first, so that what lies between two steps stays small; of batches that have not begun the
//! largest is first, so that no long one is left for the end. A batch that was held out has fewer steps than others. A
//! step that fails is tried again after a while; one that
//! has failed too often ends its batch, and too many batches that ended so end the run.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use crate::backoff::Backoff;

/// Between attempts of one step.
pub const BETWEEN_ATTEMPTS: Backoff = Backoff { first: Duration::from_millis(500), limit: Duration::from_secs(60) };

/// What a step of the pipeline needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Of the workers; more than there are is all of them.
    pub workers: usize,
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
    Ready,
    Runs,
    Done,
    GivenUp,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Todo {
    pub bytes: u64,
    /// The places of its steps, in their order.
    pub steps: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Batch {
    todo: Todo,
    /// How many of its steps are done; the one after them is next, or runs.
    done: usize,
    /// Attempts of that step that failed.
    failures: u32,
    state: State,
}

impl Batch {
    fn next(&self) -> Option<usize> {
        self.todo.steps.get(self.done).copied()
    }
}

/// Of what is ready, the greatest is first: what is nearest to its end, the largest of these, the first of those.
type Rank = (usize, u64, Reverse<usize>);

/// The batches of a run. Times are told from any fixed moment. What it does grows with the number of steps, not of batches.
#[derive(Debug, Clone)]
pub struct Schedule {
    steps: Vec<Needs>,
    batches: Vec<Batch>,
    /// Batches that may be given up.
    spare: usize,
    room: Room,
    /// By the step that is next.
    ready: Vec<BTreeSet<Rank>>,
    waiting: BTreeSet<(Duration, usize)>,
    running: BTreeSet<usize>,
    done: usize,
    given_up: usize,
}

impl Schedule {
    /// Of batches of which so large a part must succeed.
    pub fn new(steps: Vec<Needs>, batches: Vec<Todo>, min_success_ratio: f64, room: Room) -> Self {
        let needed = (batches.len() as f64 * min_success_ratio).ceil() as usize;
        let spare = batches.len().saturating_sub(needed);
        let batch = |todo| Batch { todo, done: 0, failures: 0, state: State::Waits(Duration::ZERO) };
        let mut schedule = Self {
            ready: vec![BTreeSet::new(); steps.len()],
            steps,
            batches: batches.into_iter().map(batch).collect(),
            spare,
            room,
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            done: 0,
            given_up: 0,
        };
        for at in 0..schedule.batches.len() {
            schedule.enter(at, State::Ready);
        }
        schedule
    }

    /// Leaves out what an earlier run has done: the first so many steps of this batch.
    pub fn skip(&mut self, batch: usize, steps: usize) {
        self.leave(batch);
        self.batches[batch].done = steps.min(self.batches[batch].todo.steps.len());
        self.enter(batch, State::Ready);
    }

    /// What runs next; it counts as running from now on.
    pub fn next(&mut self, now: Duration) -> Option<Task> {
        if self.progress() != Progress::Going {
            return None;
        }
        while let Some(&(_, batch)) = self.waiting.first().filter(|(until, _)| *until <= now) {
            self.leave(batch);
            self.enter(batch, State::Ready);
        }
        let running = || self.running.iter().filter_map(|batch| Some(self.steps[self.batches[*batch].next()?]));
        let workers = self.room.workers.saturating_sub(running().map(|needs| self.workers_of(needs)).sum());
        // What needs more than there is at all runs by itself, and nothing beside it.
        let memory = self.room.memory.checked_sub(running().map(|needs| needs.memory).sum())?;
        let alone = self.is_idle();
        let fits = |needs: &Needs| alone || (needs.memory <= memory && self.workers_of(*needs) <= workers);
        let fitting = self.ready.iter().zip(&self.steps).filter(|(_, needs)| fits(needs));
        let &(_, _, Reverse(batch)) = fitting.filter_map(|(ready, _)| ready.last()).max()?;
        let step = self.batches[batch].next()?;
        self.leave(batch);
        self.enter(batch, State::Runs);
        Some(Task { batch, step })
    }

    /// An attempt has ended; says whether there will be another.
    pub fn ended(&mut self, task: Task, outcome: Outcome, now: Duration) -> bool {
        let retries = self.steps[task.step].retries;
        self.leave(task.batch);
        let batch = &mut self.batches[task.batch];
        let state = match outcome {
            Outcome::Done => {
                (batch.done, batch.failures) = (batch.done + 1, 0);
                State::Ready
            }
            Outcome::Failed if batch.failures < retries => {
                batch.failures += 1;
                State::Waits(now + BETWEEN_ATTEMPTS.after(batch.failures))
            }
            Outcome::Failed | Outcome::Hopeless => State::GivenUp,
        };
        self.enter(task.batch, state);
        matches!(state, State::Waits(_))
    }

    pub fn progress(&self) -> Progress {
        if self.given_up > self.spare {
            Progress::TooManyFailed
        } else if self.done + self.given_up == self.batches.len() {
            Progress::Done
        } else {
            Progress::Going
        }
    }

    /// When something that waits may run; `None` where nothing does.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.waiting.first().map(|(until, _)| *until)
    }

    /// Whether a batch came through.
    pub fn is_done(&self, batch: usize) -> bool {
        self.batches[batch].state == State::Done
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    fn workers_of(&self, needs: Needs) -> usize {
        needs.workers.clamp(1, self.room.workers.max(1))
    }

    fn rank(&self, at: usize) -> Rank {
        let batch = &self.batches[at];
        (batch.done, batch.todo.bytes, Reverse(at))
    }

    /// Takes a batch out of where its state has put it.
    fn leave(&mut self, at: usize) {
        let rank = self.rank(at);
        let batch = &self.batches[at];
        match batch.state {
            State::Waits(until) => {
                self.waiting.remove(&(until, at));
            }
            State::Ready => {
                batch.next().map(|step| self.ready[step].remove(&rank));
            }
            State::Runs => {
                self.running.remove(&at);
            }
            State::Done => self.done -= 1,
            State::GivenUp => self.given_up -= 1,
        }
    }

    /// One that is ready and has nothing left to do is done.
    fn enter(&mut self, at: usize, state: State) {
        let rank = self.rank(at);
        let batch = &mut self.batches[at];
        let next = batch.next();
        batch.state = if state == State::Ready && next.is_none() { State::Done } else { state };
        match batch.state {
            State::Waits(until) => {
                self.waiting.insert((until, at));
            }
            State::Ready => {
                next.map(|step| self.ready[step].insert(rank));
            }
            State::Runs => {
                self.running.insert(at);
            }
            State::Done => self.done += 1,
            State::GivenUp => self.given_up += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(memory: u64, retries: u32) -> Needs {
        Needs { workers: 1, memory, retries }
    }

    /// Batches of these sizes that have all of so many steps.
    fn batches(sizes: &[u64], steps: usize) -> Vec<Todo> {
        sizes.iter().map(|&bytes| Todo { bytes, steps: (0..steps).collect() }).collect()
    }

    #[test]
    fn what_was_begun_is_finished_first_and_the_largest_begins() {
        let room = Room { workers: 1, memory: 10 };
        let mut schedule = Schedule::new(vec![needs(1, 0), needs(1, 0)], batches(&[5, 9, 9, 1], 2), 1.0, room);
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
        let mut schedule = Schedule::new(vec![needs(0, 1)], batches(&[1, 1], 1), 0.5, Room { workers: 1, memory: 1 });
        let task = schedule.next(Duration::ZERO).unwrap();
        assert!(schedule.ended(task, Outcome::Failed, Duration::ZERO), "there will be another attempt");
        let other = schedule.next(Duration::ZERO).unwrap();
        assert_ne!(other.batch, task.batch, "another one runs meanwhile");
        schedule.ended(other, Outcome::Done, Duration::ZERO);
        assert_eq!(schedule.next(Duration::from_millis(499)), None);
        assert_eq!(schedule.wakes_at(), Some(Duration::from_millis(500)));
        let again = schedule.next(Duration::from_millis(500)).unwrap();
        assert_eq!(again, task);
        assert!(!schedule.ended(again, Outcome::Failed, Duration::from_millis(500)));
        assert_eq!(schedule.progress(), Progress::Done, "half of them is enough");
        assert!(!schedule.is_done(task.batch) && schedule.is_done(other.batch));
    }

    #[test]
    fn too_many_failures_end_the_run_and_nothing_new_is_begun() {
        let mut schedule = Schedule::new(vec![needs(0, 5)], batches(&[1; 10], 1), 0.9, Room { workers: 3, memory: 1 });
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
        let mut schedule = Schedule::new(vec![needs(8, 0)], batches(&[1, 1], 1), 1.0, Room { workers: 4, memory: 5 });
        let first = schedule.next(Duration::ZERO).unwrap();
        assert_eq!(schedule.next(Duration::ZERO), None);
        schedule.ended(first, Outcome::Done, Duration::ZERO);
        assert!(schedule.next(Duration::ZERO).is_some());

        let small = Todo { bytes: 1, steps: vec![1] };
        let todo = vec![Todo { bytes: 9, steps: vec![0] }, small];
        let mut schedule = Schedule::new(vec![needs(8, 0), needs(0, 0)], todo, 1.0, Room { workers: 4, memory: 5 });
        let first = schedule.next(Duration::ZERO).unwrap();
        assert_eq!((first.batch, schedule.next(Duration::ZERO)), (0, None), "not even what needs nothing");
    }

    #[test]
    fn what_an_earlier_run_did_is_left_out() {
        let mut schedule =
            Schedule::new(vec![needs(0, 0); 3], batches(&[1, 1], 3), 1.0, Room { workers: 9, memory: 1 });
        schedule.skip(0, 3);
        schedule.skip(1, 2);
        assert_eq!(schedule.next(Duration::ZERO), Some(Task { batch: 1, step: 2 }));
        assert_eq!(schedule.next(Duration::ZERO), None);
    }

    #[test]
    fn batches_may_have_some_of_the_steps_or_none() {
        let todo = |steps: &[usize]| Todo { bytes: 1, steps: steps.to_vec() };
        let steps = vec![needs(0, 0), Needs { workers: 9, ..needs(0, 0) }, needs(0, 0)];
        let room = Room { workers: 2, memory: 1 };
        let mut schedule = Schedule::new(steps, vec![todo(&[0, 2]), todo(&[1]), todo(&[])], 1.0, room);
        let first = schedule.next(Duration::ZERO).unwrap();
        assert_eq!(first, Task { batch: 0, step: 0 });
        assert_eq!(schedule.next(Duration::ZERO), None, "the other one takes all workers");
        schedule.ended(first, Outcome::Done, Duration::ZERO);
        let second = schedule.next(Duration::ZERO).unwrap();
        assert_eq!(second, Task { batch: 0, step: 2 });
        schedule.ended(second, Outcome::Done, Duration::ZERO);
        let third = schedule.next(Duration::ZERO).unwrap();
        assert_eq!(third, Task { batch: 1, step: 1 });
        schedule.ended(third, Outcome::Done, Duration::ZERO);
        assert_eq!(schedule.progress(), Progress::Done);
    }

    proptest! {
        /// Whatever ends when and how: never more than there is room for, every step after the one before, each of them
        /// done once, and always an end.
        #[test]
        fn every_order_keeps_the_promises(
            sizes in prop::collection::vec(0_u64..100, 1..12),
            steps in prop::collection::vec((0_u64..6, 0_u32..3), 1..4),
            workers in 1_usize..5, memory in 1_u64..10, ratio in 0.1_f64..=1.0,
            draws in prop::collection::vec((0_usize..8, 0_u8..10), 400),
        ) {
            let steps: Vec<Needs> = steps.into_iter().map(|(memory, retries)| needs(memory, retries)).collect();
            let mut schedule = Schedule::new(steps.clone(), batches(&sizes, steps.len()), ratio, Room { workers, memory });
            let (mut now, mut running, mut done) = (Duration::ZERO, Vec::<Task>::new(), vec![0; sizes.len()]);
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
            let enough = whole as f64 >= ratio * sizes.len() as f64;
            prop_assert_eq!(schedule.progress() == Progress::Done, enough);
        }
    }
}
