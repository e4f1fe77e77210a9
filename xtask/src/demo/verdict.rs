//! What was promised, whether it held, and the table at the end.

use std::time::Duration;

use super::screen::{Screen, Tone, seconds};

/// One line of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) requests: Option<usize>,
    pub(super) failures: usize,
    pub(super) times: String,
}

#[derive(Debug, Default)]
pub(super) struct Verdict {
    rows: Vec<Row>,
    broken: Vec<String>,
}

impl Verdict {
    pub(super) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Shows what was measured; remembers it when it is not as promised.
    pub(super) fn promise(&mut self, screen: &mut Screen, holds: bool, measured: &str) {
        screen.measured(holds, measured);
        if !holds {
            self.broken.push(measured.to_owned());
        }
    }

    /// Like [`promise`](Self::promise), for what belongs to the way and not into the picture.
    pub(super) fn expect(&mut self, screen: &mut Screen, holds: bool, measured: &str) {
        if holds {
            screen.line(Tone::Good, &format!("  {measured}"));
        } else {
            self.promise(screen, holds, measured);
        }
    }

    /// Whether every promise held.
    pub(super) fn show(&self, screen: &mut Screen, took: Duration) -> bool {
        screen.text("");
        screen.line(Tone::Heading, "What happened");
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        screen.line(Tone::Faint, &format!("  {:<width$}  {:>8}  {:>8}  TIMES", "STEP", "REQUESTS", "FAILURES"));
        for row in &self.rows {
            let requests = row.requests.map_or_else(|| "-".to_owned(), |requests| requests.to_string());
            let tone = if row.failures == 0 { Tone::Plain } else { Tone::Bad };
            let line = format!("  {:<width$}  {requests:>8}  {:>8}  {}", row.what, row.failures, row.times);
            screen.line(tone, line.trim_end());
        }
        screen.scene(Tone::Plain, "");
        for broken in &self.broken {
            screen.scene(Tone::Bad, &format!("  BROKEN PROMISE: {broken}"));
        }
        let took = seconds(took);
        match self.broken.len() {
            0 => screen.scene(Tone::Good, &format!("  every promise held, in {took}")),
            1 => screen.scene(Tone::Bad, &format!("  FAILED after {took}: 1 promise did not hold")),
            broken => screen.scene(Tone::Bad, &format!("  FAILED after {took}: {broken} promises did not hold")),
        }
        self.broken.is_empty()
    }
}
