//! `tradewind history MODEL [REVISION]`

use tradewind_api::{
    Code, SCHEMA_VERSION,
    deploy::{History, HistoryEntry, RevisionHistory, RolloutView},
};
use tradewind_core::{ModelName, RevisionNumber, Timestamp, assignment::CheckResult};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// The revisions of a deployment: what changed, when, by whom, and how each was checked
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind history digits
  tradewind history digits 3")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// One revision in full [default: all in a table]
    revision: Option<RevisionNumber>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let history = session.client.history(&args.model).await?;
    if let Some(number) = args.revision {
        let revision = in_full(session, history, number).await?;
        return match args.output.format {
            Format::Json => terminal::print_json(&revision),
            Format::Table => terminal::print(&render_in_full(&revision, Paint::for_stdout())),
        };
    }
    match args.output.format {
        Format::Json => terminal::print_json(&history),
        Format::Table => terminal::print(&render(&history, Paint::for_stdout())),
    }
}

async fn in_full(session: &Session, history: History, number: RevisionNumber) -> Result<RevisionHistory, Failure> {
    let model = history.model;
    let found = history.revisions.into_iter().find(|entry| entry.revision == number);
    let revision = found.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("{model} has no revision {number}"))
            .hint(format!("see those that it has with `tradewind history {model}`"))
    })?;
    let mut rollouts = Vec::with_capacity(revision.rollouts.len());
    for rollout in revision.rollouts.iter().rev() {
        rollouts.push(session.client.rollout(&model, &rollout.to_string()).await?);
    }
    Ok(RevisionHistory { schema_version: SCHEMA_VERSION, model, revision, rollouts })
}

fn render_in_full(history: &RevisionHistory, paint: Paint) -> String {
    let now = Timestamp::now();
    let RevisionHistory { model, revision: entry, rollouts, .. } = history;
    let mut text = format!(
        "  {model} {}, revision {}, by {}, {}\n",
        entry.version,
        entry.revision,
        entry.created_by,
        units::ago(entry.created_at, now)
    );
    text += &format!("  replicas in each region: {}; each has {}\n", entry.scale.words(), entry.scale.of_each());
    if let Some(bad) = &entry.bad {
        let words = format!("remembered as bad by {}, {}", bad.by, units::ago(bad.at, now));
        text += &format!("  {}\n", paint.on(&words, Tone::Bad));
    }
    let again = entry.copy_of.map(|revision| format!("revision {revision} again"));
    for change in again.iter().chain(&entry.changes) {
        text += &format!("  {} {change}\n", paint.on("~", Tone::Notice));
    }
    for rollout in rollouts {
        text += &format!("\n{}", super::rollout::render(rollout, paint));
    }
    // Those that only moved users share the checks of the one that brought it up, which is the oldest.
    if let Some(brought_up) = rollouts.last() {
        text += &format!("\n{}", checks(brought_up).render(paint));
    }
    text
}

fn checks(rollout: &RolloutView) -> Table {
    let mut table = Table::new(&["REGION", "CHECK", "RESULT", "DETAIL"]);
    for region in &rollout.regions {
        for check in region.verification.iter().flat_map(|verification| &verification.checks) {
            let result = match check.result {
                CheckResult::Passed => Cell::new("passed", Tone::Good),
                CheckResult::Failed => Cell::new("failed", Tone::Bad),
                CheckResult::Skipped => Cell::new("skipped", Tone::Faint),
                CheckResult::Unproved => Cell::new("unproved", Tone::Warn),
            };
            let name = super::deploy::check_name(check.name);
            table.row([region.region.as_str().into(), name.into(), result, check.detail.as_str().into()]);
        }
    }
    table
}

fn render(history: &History, paint: Paint) -> String {
    let now = Timestamp::now();
    let mut table = Table::new(&["REVISION", "VERSION", "STATE", "REGIONS", "WHEN", "BY", "CHANGES"]);
    for entry in &history.revisions {
        table.row([
            entry.revision.to_string().into(),
            entry.version.to_string().into(),
            state(entry),
            entry.regions.len().to_string().into(),
            units::ago(entry.created_at, now).into(),
            entry.created_by.as_str().into(),
            changes(entry).into(),
        ]);
    }
    table.render(paint)
}

fn changes(entry: &HistoryEntry) -> String {
    let again = entry.copy_of.map(|revision| format!("revision {revision} again"));
    again.into_iter().chain(entry.changes.iter().cloned()).collect::<Vec<_>>().join(", ")
}

fn state(entry: &HistoryEntry) -> Cell {
    match entry.state {
        _ if entry.live => Cell::new("live", Tone::Good),
        _ if entry.bad.is_some() => Cell::new("bad", Tone::Bad),
        Some(state) => super::rollout::state_cell(state),
        None => "-".into(),
    }
}
