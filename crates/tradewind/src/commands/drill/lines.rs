//! A drill in words.

use std::time::Duration;

use tradewind_api::drill::DrillAnswer;
use tradewind_core::{
    Timestamp,
    drill::{Drill, DrillEstimate, DrillState, EndReason, TargetUse},
};

use crate::{
    commands::capacity,
    terminal::{Paint, Table, Tone, table::Cell, units},
};

/// What to expect of a drill before it begins.
pub(super) fn expected(answer: &DrillAnswer, paint: Paint) -> String {
    let DrillAnswer { region, estimate, objections, .. } = answer;
    let mut text = format!("  users of {region} would go to {}\n\n", capacity::phrase(&estimate.failover));
    text += &capacity::table(&estimate.failover).render(paint);
    let p99 = estimate.p99_us.map_or_else(String::new, |us| format!(", p99 {} meanwhile", units::latency(us)));
    text += &format!(
        "\n  users elsewhere within {}{p99}, back within {} of the end\n",
        took(estimate.moved_ms),
        took(estimate.returned_ms)
    );
    for objection in objections {
        text += &format!("  {} {objection}\n", paint.on("against it:", Tone::Warn));
    }
    text
}

/// What has happened so far, a line each.
pub(super) fn steps(drill: &Drill, now: Timestamp) -> Vec<String> {
    let Drill { number, region, measured, .. } = drill;
    let mut steps = vec![format!(
        "drill {number}: {region} is taken for lost until {}; Ctrl-C lets it back at once",
        units::clock(drill.due())
    )];
    if let Some(ms) = measured.moved_ms {
        steps.push(format!("users are elsewhere after {}", took(ms)));
    }
    let waiting = drill.state == DrillState::Running && now < drill.due() && measured.moved_ms.is_none();
    // Whether they went was not seen: nothing is left to be told of that.
    if !waiting && measured.moved_ms.is_none() {
        steps.push("when users were elsewhere was not seen".to_owned());
    }
    if drill.state != DrillState::Running {
        steps.push(format!("{region} is let back; its users return"));
    }
    steps
}

pub(super) fn stopped(drill: &Drill) -> String {
    let Drill { number, region, .. } = drill;
    format!(
        "drill {number} was stopped: {region} is let back, its users return\nits record: tradewind drill show {number}\n"
    )
}

pub(super) fn state(drill: &Drill) -> Cell {
    match (drill.state, drill.ended.map(|end| end.reason)) {
        (DrillState::Running, _) => Cell::new("running", Tone::Notice),
        (DrillState::Returning, _) => Cell::new("users return", Tone::Notice),
        (DrillState::Done, Some(EndReason::Stopped)) => Cell::new("stopped", Tone::Warn),
        (DrillState::Done, _) => Cell::new("done", Tone::Good),
    }
}

pub(super) fn millis(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), took)
}

/// `0 of 3012`, of all users.
pub(super) fn failed(drill: &Drill) -> String {
    drill.measured.counted.map_or_else(
        || "-".to_owned(),
        |counted| {
            let requests = counted.requests + counted.requests_of_others;
            format!("{} of {requests}", counted.failed + counted.failed_of_others)
        },
    )
}

fn took(ms: u64) -> String {
    units::took(Duration::from_millis(ms))
}

/// The whole record: what was expected beside what was measured.
pub(super) fn record(drill: &Drill, now: Timestamp, paint: Paint) -> String {
    let Drill { number, region, lasts, started_by, estimate, measured, .. } = drill;
    let when = units::ago(drill.started_at, now);
    let mut text = format!("  drill {number}: {region} taken for lost for {lasts}, {when}, by {started_by}\n\n");
    let mut table = Table::new(&["", "EXPECTED", "MEASURED"]);
    let mut row =
        |what: &str, expected: String, measured: String| table.row([what.into(), expected.into(), measured.into()]);
    row("users elsewhere after", format!("at most {}", took(estimate.moved_ms)), millis(measured.moved_ms));
    let expected = estimate.failed.map_or_else(|| "-".to_owned(), |failed| failed.to_string());
    let of = |failed: u64, requests: u64| format!("{failed} of {requests}");
    let own = measured.counted.map(|counted| of(counted.failed, counted.requests));
    row("failed requests of its users", expected.clone(), own.unwrap_or_else(|| "-".to_owned()));
    let others = measured.counted.map(|counted| of(counted.failed_of_others, counted.requests_of_others));
    row("failed requests of others", expected, others.unwrap_or_else(|| "-".to_owned()));
    row("p99 before", String::new(), latency(measured.p99_before_us));
    row("p99 while elsewhere", latency(estimate.p99_us), latency(measured.p99_during_us));
    row("p99 after", String::new(), latency(measured.p99_after_us));
    for (target, expected) in targets(estimate, &measured.targets) {
        row(&format!("{} at {}", target.model, target.region), expected, fullness(target));
    }
    row("users back after", format!("at most {}", took(estimate.returned_ms)), millis(measured.returned_ms));
    text += &table.render(paint);
    for note in notes(drill) {
        text += &format!("\n  {note}");
    }
    if text.ends_with('\n') { text } else { text + "\n" }
}

fn notes(drill: &Drill) -> Vec<String> {
    let mut notes = Vec::new();
    match (drill.state, drill.ended) {
        (DrillState::Running, _) => notes.push("it is under way; end it with tradewind drill stop".to_owned()),
        (DrillState::Returning, _) => notes.push("its users are returning".to_owned()),
        (DrillState::Done, Some(end)) if end.reason == EndReason::Stopped => {
            notes.push(format!("it was stopped after {}", units::seconds(units::between(drill.started_at, end.at))));
        }
        (DrillState::Done, _) => {}
    }
    if drill.forced {
        notes.push("it was begun although something spoke against it".to_owned());
    }
    if drill.interrupted {
        notes.push("control was away for a part of it: what has no number was not seen".to_owned());
    }
    notes
}

fn latency(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), units::latency)
}

/// Each region that took users, with what was expected of it.
fn targets<'a>(estimate: &DrillEstimate, measured: &'a [TargetUse]) -> Vec<(&'a TargetUse, String)> {
    let expected = |used: &TargetUse| {
        let models = estimate.failover.models.iter().filter(|model| model.model == used.model);
        let target = models.flat_map(|model| &model.targets).find(|target| target.region == used.region)?;
        Some(
            target
                .utilisation_then
                .map_or_else(|| "-".to_owned(), |share| format!("{} of its limit", capacity::percent(share))),
        )
    };
    measured.iter().map(|used| (used, expected(used).unwrap_or_else(|| "nobody".to_owned()))).collect()
}

fn fullness(used: &TargetUse) -> String {
    match used.utilisation {
        Some(share) => format!("{} of its limit", capacity::percent(share)),
        None => format!("{:.1} in flight", used.in_flight),
    }
}
