//! What happened in a run, line by line, and what that comes to: for `pipeline status` while it runs and afterwards.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{gate::Verdict, metric::Metric};
use crate::{Timestamp, VersionNumber};

/// Of the journal's first line.
pub const SCHEMA_VERSION: u32 = 1;
/// So many failures are kept with what was said; all are counted.
pub const SHOWN_FAILURES: usize = 100;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Since the run began, in milliseconds.
    pub at: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Began {
        schema_version: u32,
        pipeline: String,
        run: u64,
        pid: u32,
        started_at: Timestamp,
        /// Of this machine, so that a journal whose runner was killed is told from one that goes on.
        boot_id: String,
        process_started: u64,
    },
    /// The data was found and cut.
    Planned {
        workers: usize,
        steps: Vec<String>,
        batches: Vec<PlannedBatch>,
    },
    Started {
        step: String,
        /// Absent where the step is for all batches.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<usize>,
        worker: usize,
        attempt: u32,
    },
    Finished {
        step: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<usize>,
        key: String,
        took_ms: u64,
        /// An earlier run, or another batch, had done it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reused: bool,
    },
    Failed {
        step: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<usize>,
        error: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
        /// There will be another attempt.
        again: bool,
    },
    /// What held work up: too little disk, for example. `null` when it goes on.
    Waiting {
        reason: Option<String>,
    },
    Measured {
        metrics: BTreeMap<String, Metric>,
    },
    Judged {
        verdicts: Vec<Verdict>,
    },
    Published {
        model: String,
        version: VersionNumber,
        created: bool,
    },
    Deployed {
        regions: Vec<String>,
    },
    Ended {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// A batch as the plan has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBatch {
    pub name: String,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_out: bool,
    /// The places of its steps.
    pub steps: Vec<usize>,
}

/// A worker's time with one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    pub worker: usize,
    pub step: String,
    pub batch: Option<usize>,
    pub from_ms: u64,
    /// Absent while it runs.
    pub to_ms: Option<u64>,
    pub failed: bool,
}

/// What failed for good, or will be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub step: String,
    /// The batch's name.
    pub batch: Option<String>,
    pub error: String,
    pub log: Option<String>,
    pub given_up: bool,
}

/// A run, as its journal tells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Story {
    pub pipeline: String,
    pub run: u64,
    pub started_at: Option<Timestamp>,
    #[serde(skip)]
    pub runner: Option<(u32, u64, String)>,
    pub workers: usize,
    pub steps: Vec<String>,
    #[serde(skip)]
    pub batches: Vec<PlannedBatch>,
    /// By step: how often it was done, how often that was reused, how often it failed.
    pub counts: BTreeMap<String, Counts>,
    #[serde(skip)]
    pub spans: Vec<Span>,
    pub failures: Vec<Failure>,
    pub waiting: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
    pub verdicts: Vec<Verdict>,
    /// Model and version.
    pub published: Option<(String, VersionNumber)>,
    pub deployed: Vec<String>,
    /// Of the last line, in milliseconds since it began.
    pub at_ms: u64,
    pub ended: bool,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Of how many batches it is a step.
    pub of: u64,
    pub done: u64,
    pub reused: u64,
    /// Attempts that failed.
    pub failed: u64,
    pub given_up: u64,
    /// Of what was not reused.
    pub took_ms: u64,
}

impl Counts {
    /// What one took that was not reused; `None` without any.
    pub fn mean(self) -> Option<Duration> {
        let measured = u32::try_from(self.done - self.reused).unwrap_or(u32::MAX);
        Duration::from_millis(self.took_ms).checked_div(measured)
    }
}

impl Story {
    /// Takes in the next line.
    pub fn take(&mut self, line: Line) {
        self.at_ms = self.at_ms.max(line.at);
        match line.event {
            Event::Began { pipeline, run, pid, started_at, boot_id, process_started, .. } => {
                (self.pipeline, self.run, self.started_at) = (pipeline, run, Some(started_at));
                self.runner = Some((pid, process_started, boot_id));
            }
            Event::Planned { workers, steps, batches } => {
                for step in batches.iter().flat_map(|batch| &batch.steps).filter_map(|at| steps.get(*at)) {
                    self.counts.entry(step.clone()).or_default().of += 1;
                }
                (self.workers, self.steps, self.batches) = (workers, steps, batches);
            }
            Event::Started { step, batch, worker, .. } => {
                self.spans.push(Span { worker, step, batch, from_ms: line.at, to_ms: None, failed: false });
            }
            Event::Finished { step, batch, took_ms, reused, .. } => {
                self.end_span(&step, batch, line.at, false);
                let counts = self.counts.entry(step).or_default();
                counts.done += 1;
                counts.reused += u64::from(reused);
                counts.took_ms += if reused { 0 } else { took_ms };
            }
            Event::Failed { step, batch, error, log, again } => {
                self.end_span(&step, batch, line.at, true);
                let counts = self.counts.entry(step.clone()).or_default();
                counts.failed += 1;
                counts.given_up += u64::from(!again);
                let batch = batch.and_then(|at| self.batches.get(at)).map(|batch| batch.name.clone());
                if self.failures.len() < SHOWN_FAILURES {
                    self.failures.push(Failure { step, batch, error, log, given_up: !again });
                }
            }
            Event::Waiting { reason } => self.waiting = reason,
            Event::Measured { metrics } => self.metrics = metrics,
            Event::Judged { verdicts } => self.verdicts = verdicts,
            Event::Published { model, version, .. } => self.published = Some((model, version)),
            Event::Deployed { regions } => self.deployed = regions,
            Event::Ended { error } => (self.ended, self.error) = (true, error),
        }
    }

    fn end_span(&mut self, step: &str, batch: Option<usize>, at: u64, failed: bool) {
        let open = |span: &&mut Span| span.to_ms.is_none() && span.step == step && span.batch == batch;
        if let Some(span) = self.spans.iter_mut().rev().find(open) {
            (span.to_ms, span.failed) = (Some(at), failed);
        }
    }

    /// How long what is left will take: what each step has cost, by how often it is left, over all workers. `None`
    /// while a step that is left has never been seen.
    pub fn time_left(&self) -> Option<Duration> {
        let of_step = |step: &String| {
            let counts = self.counts.get(step).copied().unwrap_or_default();
            match counts.of.saturating_sub(counts.done + counts.given_up) {
                0 => Some(Duration::ZERO),
                left => Some(counts.mean()?.mul_f64(left as f64)),
            }
        };
        let left = self.steps.iter().map(of_step).sum::<Option<Duration>>()?;
        Some(left.div_f64(self.workers.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(lines: &[&str]) -> Story {
        let mut story = Story::default();
        lines.iter().for_each(|line| story.take(serde_json::from_str(line).unwrap()));
        story
    }

    const PLANNED: &str = r#"{"at": 5, "event": "planned", "workers": 2, "steps": ["clean", "train"], "batches": [
        {"name": "a", "bytes": 10, "steps": [0, 1]}, {"name": "b", "bytes": 10, "steps": [0, 1]},
        {"name": "c", "bytes": 10, "steps": [0], "held_out": true}]}"#;

    #[test]
    fn a_run_is_told_by_its_journal() {
        let story = story(&[
            r#"{"at": 0, "event": "began", "schema_version": 1, "pipeline": "digits", "run": 3, "pid": 7,
                "started_at": "2026-01-02T03:04:05Z", "boot_id": "x", "process_started": 9}"#,
            PLANNED,
            r#"{"at": 6, "event": "started", "step": "clean", "batch": 0, "worker": 0, "attempt": 1}"#,
            r#"{"at": 6, "event": "finished", "step": "clean", "batch": 2, "key": "k", "took_ms": 900, "reused": true}"#,
            r#"{"at": 16, "event": "failed", "step": "clean", "batch": 0, "error": "no", "again": true}"#,
            r#"{"at": 20, "event": "started", "step": "clean", "batch": 0, "worker": 1, "attempt": 2}"#,
            r#"{"at": 30, "event": "finished", "step": "clean", "batch": 0, "key": "l", "took_ms": 10}"#,
        ]);
        assert_eq!((story.pipeline.as_str(), story.run, story.at_ms, story.ended), ("digits", 3, 30, false));
        let expected = Counts { of: 3, done: 2, reused: 1, failed: 1, given_up: 0, took_ms: 10 };
        assert_eq!(story.counts["clean"], expected);
        let spans: Vec<_> =
            story.spans.iter().map(|span| (span.worker, span.from_ms, span.to_ms, span.failed)).collect();
        assert_eq!(spans, [(0, 6, Some(16), true), (1, 20, Some(30), false)]);
        assert_eq!(story.failures[0].batch.as_deref(), Some("a"));
        assert_eq!(story.time_left(), None, "train was never seen");
    }

    #[test]
    fn time_left_is_what_steps_have_cost() {
        let mut lines = vec![PLANNED.to_owned()];
        for (step, batch, took) in [("clean", 0, 100), ("clean", 1, 300), ("train", 0, 1000)] {
            lines.push(format!(
                r#"{{"at": 50, "event": "finished", "step": "{step}", "batch": {batch}, "key": "k", "took_ms": {took}}}"#
            ));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(story(&lines).time_left(), Some(Duration::from_millis(600)), "200 and 1000, on two workers");
    }
}
