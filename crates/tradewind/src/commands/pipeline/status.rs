//! `tradewind pipeline status`: how the newest run goes, or went.

use std::{collections::BTreeMap, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tradewind_api::{Code, SCHEMA_VERSION};
use tradewind_core::pipeline::journal::Story;
use tradewind_pipeline::{
    Home,
    journal::{goes_on, last_story},
};

use super::{StatusArgs, file, progress, timeline, words};
use crate::{
    failure::Failure,
    terminal::{
        self, Format, Paint, Table, Tone,
        table::Cell,
        units::{self, took},
    },
};

/// While it is watched, the journal is read so often.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
struct Status<'a> {
    schema_version: u32,
    state: State,
    batches: usize,
    /// Null where it cannot be told.
    left_ms: Option<u64>,
    #[serde(flatten)]
    story: &'a Story,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Running,
    Succeeded,
    Failed,
    /// Its process ended before it did; another run goes on from there.
    Killed,
}

impl State {
    fn of(story: &Story) -> Self {
        match (story.ended, &story.error) {
            (true, None) => Self::Succeeded,
            (true, Some(_)) => Self::Failed,
            (false, _) if goes_on(story) => Self::Running,
            (false, _) => Self::Killed,
        }
    }

    fn words(self) -> (&'static str, Tone) {
        match self {
            Self::Running => ("goes on", Tone::Plain),
            Self::Succeeded => ("succeeded", Tone::Good),
            Self::Failed => ("failed", Tone::Bad),
            Self::Killed => ("was killed; the next run goes on from there", Tone::Bad),
        }
    }
}

pub(super) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let (pipeline, base) = file::read(&args.file)?;
    let home = Home::of(&base, &pipeline.name);
    let read = || -> Result<Story, Failure> {
        let story = last_story(&home);
        let story = story.map_err(|error| Failure::failed("cannot read the journal").cause(error.to_string()))?;
        story.ok_or_else(|| {
            let file = args.file.display();
            Failure::new(Code::NotFound, format!("{} has not run yet", pipeline.name))
                .hint(format!("run it with `tradewind pipeline run {file}`"))
        })
    };
    let mut story = read()?;
    if args.watch {
        let style = ProgressStyle::with_template("  {spinner} {bar:32} {pos}/{len}  {msg}");
        let style = style.expect("the template is constant");
        let bar = ProgressBar::with_draw_target(Some(0), terminal::progress_target(args.output.format));
        let bar = bar.with_style(style);
        let mut interval = tokio::time::interval(INTERVAL);
        while State::of(&story) == State::Running {
            progress::show(&story, &bar);
            interval.tick().await;
            story = read()?;
        }
        bar.finish_and_clear();
    }
    if let Some(path) = &args.timeline {
        let written = std::fs::write(path, timeline::svg(&story));
        written
            .map_err(|error| Failure::failed(format!("cannot write {}", path.display())).cause(error.to_string()))?;
    }
    match args.output.format {
        Format::Json => terminal::print_json(&Status {
            schema_version: SCHEMA_VERSION,
            state: State::of(&story),
            batches: story.batches.len(),
            left_ms: story
                .time_left()
                .filter(|_| State::of(&story) == State::Running)
                .map(|left| left.as_millis() as u64),
            story: &story,
        }),
        Format::Table => terminal::print(&describe(&story, Paint::for_stdout())),
    }
}

fn describe(story: &Story, paint: Paint) -> String {
    let state = State::of(story);
    let (words_of_state, tone) = state.words();
    let time = took(Duration::from_millis(story.at_ms));
    let mut text = format!("  {} run {}  {}  {time}\n", story.pipeline, story.run, paint.on(words_of_state, tone));
    if state == State::Running {
        text += &format!("  {}\n", progress::words(story));
    }
    if let Some(error) = &story.error {
        text += &format!("  {error}\n");
    }
    let mut table = Table::new(&["STEP", "DONE", "OF", "REUSED", "FAILED", "GIVEN UP", "EACH TOOK"]);
    let others = story.counts.keys().filter(|step| !story.steps.contains(step));
    for step in story.steps.iter().chain(others) {
        let counts = story.counts.get(step).copied().unwrap_or_default();
        let each = counts.mean().map(took).unwrap_or_default();
        let tone = if counts.given_up > 0 { Tone::Bad } else { Tone::Plain };
        let numbers = [counts.done, counts.of.max(counts.done), counts.reused, counts.failed, counts.given_up];
        let cells = [step.clone()].into_iter().chain(numbers.map(|number| number.to_string())).chain([each]);
        table.row(cells.map(|text| Cell::new(text, tone)));
    }
    text += &table.render(paint);
    for line in words::failures(story) {
        text += &format!("  {line}\n");
    }
    let numbers: BTreeMap<String, f64> =
        story.metrics.iter().filter_map(|(name, metric)| Some((name.clone(), metric.number()?))).collect();
    text += &words::metrics_and_gate(&numbers, &story.verdicts, paint);
    if let Some((model, version)) = &story.published {
        let regions =
            if story.deployed.is_empty() { String::new() } else { format!(" in {}", story.deployed.join(", ")) };
        text += &format!("  published as {model}:{version}{}\n", regions);
    }
    if let Some(started_at) = story.started_at {
        text += &format!("  began {}\n", units::clock(started_at));
    }
    text
}
