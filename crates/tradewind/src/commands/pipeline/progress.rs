//! How a run gets on, on one line.

use std::{future::Future, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tradewind_core::pipeline::journal::Story;
use tradewind_pipeline::journal::Journal;

use crate::terminal::{self, Format, units};

const INTERVAL: Duration = Duration::from_millis(200);

/// Does the work, and shows how far it is.
pub(super) async fn during<T>(journal: &Journal, format: Format, work: impl Future<Output = T>) -> T {
    let style =
        ProgressStyle::with_template("  {spinner} {bar:32} {pos}/{len}  {msg}").expect("the template is constant");
    let bar = ProgressBar::with_draw_target(Some(0), terminal::progress_target(format)).with_style(style);
    let mut interval = tokio::time::interval(INTERVAL);
    let mut work = std::pin::pin!(work);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            _ = interval.tick() => journal.with_story(|story| show(story, &bar)),
        }
    };
    bar.finish_and_clear();
    ended
}

pub(super) fn show(story: &Story, bar: &ProgressBar) {
    let of_batches = || story.steps.iter().filter_map(|step| story.counts.get(step));
    bar.set_length(of_batches().map(|counts| counts.of).sum());
    bar.set_position(of_batches().map(|counts| counts.done + counts.given_up).sum());
    bar.set_message(words(story));
    bar.tick();
}

/// `train, evaluate  3.1/s  2 failed  12 s left`
pub(super) fn words(story: &Story) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for span in story.spans.iter().rev().filter(|span| span.to_ms.is_none()).take(story.workers.max(1)) {
        if !steps.contains(&span.step.as_str()) {
            steps.push(&span.step);
        }
    }
    let mut words = vec![steps.join(", ")];
    let done: u64 = story.counts.values().map(|counts| counts.done - counts.reused).sum();
    if done > 0 && story.at_ms > 0 {
        words.push(units::rate(done as f64 * 1000.0 / story.at_ms as f64));
    }
    let failed: u64 = story.counts.values().map(|counts| counts.failed).sum();
    if failed > 0 {
        words.push(format!("{failed} failed"));
    }
    match (&story.waiting, story.time_left()) {
        (Some(reason), _) => words.push(reason.clone()),
        (None, Some(left)) if !left.is_zero() => words.push(format!("{} left", units::roughly(left))),
        _ => {}
    }
    words.retain(|word| !word.is_empty());
    words.join("  ")
}
