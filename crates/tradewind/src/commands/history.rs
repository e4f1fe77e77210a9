//! `tradewind history MODEL`

use tradewind_api::deploy::{History, HistoryEntry};
use tradewind_core::{ModelName, Timestamp};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// The revisions of a deployment: what changed, when, by whom
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind history digits
  tradewind history digits -o json")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let history = session.client.history(&args.model).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&history),
        Format::Table => terminal::print(&render(&history, Paint::for_stdout())),
    }
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
