//! A run in words.

use std::{collections::BTreeMap, time::Duration};

use tradewind_core::pipeline::{
    gate::Verdict,
    journal::{Failure as Failed, Story},
};
use tradewind_pipeline::{RunError, data::Progress, journal::Journal};

use super::{failed, run::Report};
use crate::{
    failure::Failure,
    terminal::{
        Paint, Table, Tone,
        table::Cell,
        units::{bytes, took},
    },
};

/// So many of the failures are shown.
const SHOWN: usize = 5;

/// What is done with the data.
pub(super) fn reading(progress: &Progress) -> String {
    match progress {
        Progress::Fetching { name, bytes: here, of: Some(of) } => {
            format!("fetching {name}: {} of {}", bytes(*here), bytes(*of))
        }
        Progress::Fetching { name, bytes: here, of: None } => format!("fetching {name}: {}", bytes(*here)),
        Progress::Found { files, bytes: all } => format!("found {files} files, {}", bytes(*all)),
        Progress::Reading { bytes: here, of } => format!("reading {} of {}", bytes(*here), bytes(*of)),
        Progress::Cutting { bytes: here, of } => format!("cutting {} of {}", bytes(*here), bytes(*of)),
    }
}

/// Why a run came to nothing, with what failed in it.
pub(super) fn run_error(error: &RunError, journal: &Journal) -> Failure {
    let failure = failed(error, error.hint());
    if let RunError::Step { log: Some(log), .. } = error {
        return failure.hint(format!("its log is {}", log.display()));
    }
    if !matches!(error, RunError::TooManyFailed { .. }) {
        return failure;
    }
    let lines = journal.with_story(failures);
    lines.into_iter().fold(failure, Failure::note)
}

/// Those that were given up, a line each.
pub(super) fn failures(story: &Story) -> Vec<String> {
    let given_up: Vec<&Failed> = story.failures.iter().filter(|failure| failure.given_up).collect();
    let line = |failure: &&Failed| {
        let Failed { step, batch, error, log, .. } = failure;
        let batch = batch.as_deref().map(|batch| format!(" of {batch}")).unwrap_or_default();
        let log = log.as_deref().map(|log| format!(" (log: {log})")).unwrap_or_default();
        format!("`{step}`{batch}: {error}{log}")
    };
    let mut lines: Vec<String> = given_up.iter().take(SHOWN).map(line).collect();
    if given_up.len() > SHOWN {
        lines.push(format!("and {} more", given_up.len() - SHOWN));
    }
    lines
}

/// What was measured, and how it stands against the bounds.
pub(super) fn metrics_and_gate(metrics: &BTreeMap<String, f64>, gate: &[Verdict], paint: Paint) -> String {
    let mut table = Table::bare();
    for (name, number) in metrics {
        table.row([Cell::new(name.clone(), Tone::Heading), format!("{number:.6}").into()]);
    }
    let mut text = table.render(paint);
    for verdict in gate {
        let (mark, tone) = if verdict.holds { ("holds", Tone::Good) } else { ("does not hold", Tone::Bad) };
        text += &format!("  {}: {}\n", paint.on(mark, tone), verdict.detail);
    }
    text
}

/// The last lines.
pub(super) fn conclude(report: &Report) -> String {
    let mut text = String::new();
    let done: u64 = report.steps.values().map(|counts| counts.done).sum();
    let reused: u64 = report.steps.values().map(|counts| counts.reused).sum();
    let failed = match report.failed {
        0 => String::new(),
        some => format!(", {some} of {} batches failed", report.batches),
    };
    let time = took(Duration::from_millis(report.took_ms));
    text += &format!("  run {}: {done} steps in {time}, {reused} of them done before{failed}\n", report.run);
    match &report.published {
        None => text += &format!("  the model is in {}\n", report.output.display()),
        Some(published) if report.regions.is_empty() => {
            text += &format!("  next: tradewind deploy --regions A,B {}:{}\n", published.model, published.version);
        }
        Some(_) => {}
    }
    text
}
