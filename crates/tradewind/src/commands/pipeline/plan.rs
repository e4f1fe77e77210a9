//! What a run would do, before it does it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tradewind_api::SCHEMA_VERSION;
use tradewind_core::pipeline::{journal::Story, schedule::Room};
use tradewind_pipeline::{Known, data::Sources};

use crate::{
    failure::Failure,
    terminal::{
        self, Format, Paint, Table, Tone,
        table::Cell,
        units::{bytes, count, roughly},
    },
};

#[derive(Debug, Serialize)]
pub(super) struct Plan {
    schema_version: u32,
    files: u64,
    bytes: u64,
    rows: Option<u64>,
    batches: usize,
    held_out: usize,
    /// How the data is cut, in words.
    cut: String,
    workers: usize,
    steps: Vec<StepPlan>,
    /// From what steps took before; null where one of them was never seen.
    estimated_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct StepPlan {
    step: String,
    batches: u64,
    /// Done by an earlier run.
    cached: u64,
    /// What one took when it was last run, on average; null where that is not known.
    mean_ms: Option<u64>,
}

impl Plan {
    /// `story` is that of the planned run; `usual` says what steps took before.
    pub(super) fn new(
        story: &Story,
        known: &[Known],
        sources: Sources,
        cut: String,
        room: Room,
        usual: &BTreeMap<String, Duration>,
    ) -> Self {
        let mean_ms = |step: &str| usual.get(step).map(|took| took.as_millis() as u64);
        let step = |Known { step, of, done }: &Known| StepPlan {
            step: step.clone(),
            batches: *of,
            cached: *done,
            mean_ms: mean_ms(step),
        };
        let steps: Vec<StepPlan> = known.iter().map(step).collect();
        let each = steps.iter().map(|step| match step.batches - step.cached {
            0 => Some(0),
            left => Some(left * step.mean_ms?),
        });
        let estimated = each.sum::<Option<u64>>().map(|all| all / room.workers.max(1) as u64);
        Self {
            schema_version: SCHEMA_VERSION,
            files: sources.files,
            bytes: sources.bytes,
            rows: sources.rows,
            batches: story.batches.len(),
            held_out: story.batches.iter().filter(|batch| batch.held_out).count(),
            cut,
            workers: room.workers,
            steps,
            estimated_ms: estimated,
        }
    }

    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Json => terminal::print_json(self),
            Format::Table => terminal::print(&self.describe(Paint::for_stdout())),
        }
    }

    pub(super) fn describe(&self, paint: Paint) -> String {
        let rows = self.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
        let files = count(self.files as usize, "file");
        let batches = match self.batches {
            1 => "1 batch".to_owned(),
            all => format!("{all} batches"),
        };
        let held_out = match self.held_out {
            0 => String::new(),
            some => format!(", {some} of them held out"),
        };
        let mut text = format!("  {files}, {}{rows}\n  {}{held_out}: {}\n", bytes(self.bytes), batches, self.cut);
        let mut table = Table::new(&["STEP", "BATCHES", "DONE", "TO RUN", "EACH TOOK"]);
        for step in &self.steps {
            let left = step.batches - step.cached;
            let tone = if left == 0 { Tone::Good } else { Tone::Plain };
            let took = step.mean_ms.map(|ms| terminal::units::took(Duration::from_millis(ms))).unwrap_or_default();
            let cells = [step.step.clone(), step.batches.to_string(), step.cached.to_string(), left.to_string(), took];
            table.row(cells.map(|text| Cell::new(text, tone)));
        }
        text += &table.render(paint);
        let workers = count(self.workers, "worker");
        text += &match self.estimated_ms {
            Some(0) => format!("  {workers}, nothing left for them\n"),
            Some(ms) => format!("  {workers}, about {}\n", roughly(Duration::from_millis(ms.max(1000)))),
            None => format!("  {workers}; how long it takes is known when it has run once\n"),
        };
        text
    }
}
