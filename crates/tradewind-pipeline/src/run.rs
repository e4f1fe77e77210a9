//! A run: all steps of all batches, as many at once as there is room for, then what is for all of them.

mod error;
mod scene;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use tradewind_core::{
    Digest,
    pipeline::{
        contract::Input,
        journal::{Event, PlannedBatch},
        metric::{Metric, Totals},
        schedule::{Outcome, Progress, Schedule, Task as Place, Todo},
    },
};

use self::scene::Done;
pub use self::{
    error::RunError,
    scene::{Planned, Scene},
};
use crate::{
    attempt::{Source, Sources},
    setup::{MODEL, Stage},
    store::{Collected, Entry},
};

/// A run of a pipeline over its batches.
#[derive(Debug)]
pub struct Run<'a> {
    scene: Scene<'a>,
    /// What steps have made, by batch and place.
    made: Vec<Vec<Option<Done>>>,
    /// Batches that came through all their steps.
    through: BTreeSet<usize>,
    /// What was used for all batches together.
    used: BTreeSet<Digest>,
}

/// How much of a step is done already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub step: String,
    /// Batches that have it.
    pub of: u64,
    /// Of these, found among what is done.
    pub done: u64,
}

/// What became of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchCounts {
    pub all: usize,
    /// Those that were held out and came through.
    pub held_out: usize,
    pub failed: usize,
}

impl<'a> Run<'a> {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// There is nothing to run on.
    pub fn new(scene: Scene<'a>) -> Result<Self, RunError> {
        if scene.batches.is_empty() {
            return Err(RunError::NoBatch("the data is empty"));
        }
        if scene.batches.iter().all(|planned| planned.held_out) {
            return Err(RunError::NoBatch("all of them are held out"));
        }
        let made = vec![vec![None; scene.setup.stages.len()]; scene.batches.len()];
        Ok(Self { scene, made, through: BTreeSet::new(), used: BTreeSet::new() })
    }

    /// Looks up what is done already, and writes down what is planned.
    pub fn plan(&mut self) -> Vec<Known> {
        let scene = &self.scene;
        let planned = scene.batches.iter().map(|Planned { batch, held_out }| PlannedBatch {
            name: batch.name.clone(),
            bytes: batch.bytes,
            rows: batch.rows,
            held_out: *held_out,
            steps: scene.setup.steps_of(*held_out),
        });
        scene.journal.say(Event::Planned {
            workers: scene.executor.room().workers,
            steps: scene.setup.stages.iter().map(|stage| stage.name.clone()).collect(),
            batches: planned.collect(),
        });
        let known = |stage: &Stage| Known { step: stage.name.clone(), of: 0, done: 0 };
        let mut known: Vec<Known> = scene.setup.stages.iter().map(known).collect();
        for (batch, made) in self.made.iter_mut().enumerate() {
            let steps = scene.setup.steps_of(scene.batches[batch].held_out);
            steps.iter().for_each(|step| known[*step].of += 1);
            for step in steps {
                let key = scene.task(Place { batch, step }, made).key();
                let Some(entry) = scene.store.find(&key) else { break };
                scene.store.touch(&key);
                scene.finished(&entry, Some(batch), true);
                made[step] = Some(Done::from(&entry));
                known[step].done += 1;
            }
        }
        known
    }

    /// Runs every step of every batch that is not done.
    ///
    /// # Errors
    /// Too many batches failed; the disk has no room; it was stopped.
    pub async fn batches(&mut self) -> Result<(), RunError> {
        let scene = &self.scene;
        let todo = scene
            .batches
            .iter()
            .map(|planned| Todo { bytes: planned.batch.bytes, steps: scene.setup.steps_of(planned.held_out) });
        let ratio = scene.setup.pipeline.min_success_ratio;
        let mut schedule = Schedule::new(scene.setup.needs(), todo.collect(), ratio, scene.executor.room());
        for (at, made) in self.made.iter().enumerate() {
            schedule.skip(at, made.iter().flatten().count());
        }
        work_through(scene, &mut schedule, &mut self.made).await?;
        self.through = (0..scene.batches.len()).filter(|at| schedule.is_done(*at)).collect();
        if !self.through.iter().any(|at| !scene.batches[*at].held_out) {
            return Err(RunError::NoBatch("none came through all steps"));
        }
        Ok(())
    }

    /// Makes one result of those of all batches. [`Self::batches`] comes before.
    ///
    /// # Errors
    /// The step failed; it was stopped.
    pub async fn aggregate(&mut self) -> Result<Entry, RunError> {
        let stage = &self.scene.setup.aggregate;
        let inputs = self.of_all(stage, false);
        self.for_all(stage, inputs).await
    }

    /// Judges a model, which lies in a directory with this content, on what was held out; `None` where the pipeline does
    /// not say how.
    ///
    /// # Errors
    /// The step failed; it was stopped.
    pub async fn evaluate(&mut self, model: &std::path::Path, content: Digest) -> Result<Option<Entry>, RunError> {
        let Some(stage) = &self.scene.setup.evaluate else { return Ok(None) };
        if !self.through.iter().any(|at| self.scene.batches[*at].held_out) {
            return Err(RunError::NoBatch("none of those that were held out came through"));
        }
        let mut inputs = self.of_all(stage, true);
        let input = Input { directory: Some(model.to_owned()), ..Input::default() };
        inputs.insert(MODEL, Sources::One(Source { content, input }));
        self.for_all(stage, inputs).await.map(Some)
    }

    /// What the steps measured, over all batches that came through and were not held out. Where two steps measure what
    /// they call the same, the later one counts.
    ///
    /// # Errors
    /// A metric is not of the same kind in all batches.
    pub fn metrics(&self) -> Result<BTreeMap<String, Metric>, RunError> {
        let mut metrics = BTreeMap::new();
        for (step, stage) in self.scene.setup.stages.iter().enumerate() {
            let mut totals = Totals::default();
            let wrong = |(metric, error)| RunError::Metric { step: stage.name.clone(), metric, error };
            for at in self.trained_on() {
                if let Some(done) = &self.made[at][step] {
                    totals.add(at as u64, done.rows.unwrap_or(1), done.metrics.clone()).map_err(wrong)?;
                }
            }
            metrics.extend(totals.metrics().map_err(wrong)?);
        }
        Ok(metrics)
    }

    /// Where an entry's files lie.
    pub fn output(&self, entry: &Entry) -> std::path::PathBuf {
        self.scene.store.output(&entry.key)
    }

    /// Removes what no run has used for longest until what is kept fits `limit`, in bytes; what this run used stays.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn collect(&self, limit: u64) -> Result<Collected, RunError> {
        let mut used = self.used.clone();
        used.extend(self.made.iter().flatten().flatten().map(|done| done.key));
        Ok(self.scene.store.collect(&used, limit)?)
    }

    /// What became of the batches. [`Self::batches`] comes before.
    pub fn counts(&self) -> BatchCounts {
        let held_out = self.through.len() - self.trained_on().count();
        BatchCounts { all: self.scene.batches.len(), held_out, failed: self.scene.batches.len() - self.through.len() }
    }

    /// What all steps of all batches took together, in this run or an earlier one.
    pub(crate) fn took_ms(&self) -> u64 {
        self.made.iter().flatten().flatten().map(|done| done.took_ms).sum()
    }

    fn trained_on(&self) -> impl Iterator<Item = usize> {
        self.through.iter().copied().filter(|at| !self.scene.batches[*at].held_out)
    }

    /// What a step for all batches reads of them, either of those that were held out or of the others.
    fn of_all(&self, stage: &'a Stage, held_out: bool) -> BTreeMap<&'a str, Sources> {
        let batches = || self.through.iter().copied().filter(|at| self.scene.batches[*at].held_out == held_out);
        let sources = |name: &'a String| {
            let sources = batches().filter_map(|at| self.scene.source(name, at, &self.made[at]));
            (name.as_str(), Sources::All(sources.collect()))
        };
        stage.inputs.iter().map(sources).collect()
    }

    async fn for_all(&mut self, stage: &'a Stage, inputs: BTreeMap<&'a str, Sources>) -> Result<Entry, RunError> {
        let made = self.scene.attempt_for_all(stage, inputs).await?;
        self.used.insert(made.key);
        Ok(made)
    }
}

/// The smallest number that no running attempt has.
#[derive(Debug, Default)]
struct Lanes(BTreeSet<usize>);

impl Lanes {
    fn take(&mut self) -> usize {
        let free = (0..).find(|lane| !self.0.contains(lane)).unwrap_or_default();
        self.0.insert(free);
        free
    }
}

async fn work_through(
    scene: &Scene<'_>,
    schedule: &mut Schedule,
    made: &mut [Vec<Option<Done>>],
) -> Result<(), RunError> {
    let began = Instant::now();
    let mut running = FuturesUnordered::new();
    let mut lanes = Lanes::default();
    let mut attempts = BTreeMap::<Place, u32>::new();
    let mut waits = false;
    loop {
        let full = scene.room_on_disk().err();
        if waits != full.is_some() {
            waits = full.is_some();
            scene.journal.say(Event::Waiting { reason: full.as_ref().map(ToString::to_string) });
        }
        while full.is_none()
            && let Some(place) = schedule.next(began.elapsed())
        {
            let lane = lanes.take();
            let attempt = attempts.entry(place).or_default();
            *attempt += 1;
            scene.started(&scene.setup.stages[place.step], Some(place.batch), lane, *attempt);
            let task = scene.task(place, &made[place.batch]);
            running.push(async move { (place, lane, scene.attempt(&task).await) });
        }
        if running.is_empty() {
            match (schedule.progress(), full) {
                (Progress::Done, _) => return Ok(()),
                (Progress::TooManyFailed, _) => return Err(scene.too_many_failed()),
                // Nothing that runs will make room.
                (Progress::Going, Some(error)) => return Err(error),
                (Progress::Going, None) => {}
            }
        }
        let wakes = schedule.wakes_at().map(|at| began + at);
        tokio::select! {
            () = scene.stop.cancelled() => return Err(RunError::Stopped),
            Some((place, lane, ended)) = running.next() => {
                lanes.0.remove(&lane);
                match ended {
                    Ok(found) => {
                        scene.finished(&found.entry, Some(place.batch), found.reused);
                        made[place.batch][place.step] = Some(Done::from(&found.entry));
                        attempts.remove(&place);
                        schedule.ended(place, Outcome::Done, began.elapsed());
                    }
                    Err(unmade) => {
                        let outcome = if unmade.failed.hopeless { Outcome::Hopeless } else { Outcome::Failed };
                        let again = schedule.ended(place, outcome, began.elapsed());
                        scene.failed(&scene.setup.stages[place.step], Some(place.batch), &unmade, again);
                    }
                }
            }
            () = sleep_until(wakes.unwrap_or(began)), if wakes.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_used_again() {
        let mut lanes = Lanes::default();
        assert_eq!([lanes.take(), lanes.take(), lanes.take()], [0, 1, 2]);
        lanes.0.remove(&1);
        assert_eq!([lanes.take(), lanes.take()], [1, 3]);
    }
}
