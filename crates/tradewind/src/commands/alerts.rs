//! `tradewind alerts`

mod receivers;
mod runbook;
mod silences;

use serde::Serialize;
use tradewind_api::{
    Code, SCHEMA_VERSION,
    monitoring::{AlertQuery, AlertView},
};
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    alert::{AlertKind, Severity},
};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// What is wrong now, and who is told
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  tradewind alerts
  tradewind alerts silence --region us-east1 --for 2h --comment 'the data centre moves'"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<AlertsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum AlertsCommand {
    /// The alerts that fire, the worst first
    #[command(after_help = "\
Examples:
  tradewind alerts list
  tradewind alerts list --all --limit 20 -o json")]
    List(ListArgs),
    /// One alert in full: since when, who was told, what to do
    #[command(after_help = "\
Examples:
  tradewind alerts show 001763751600000-000
  tradewind alerts show 001763751600000-000 -o json")]
    Show {
        /// As `tradewind alerts` lists it
        id: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    Runbook(runbook::Args),
    Silence(silences::SilenceArgs),
    Silences(silences::ListArgs),
    Unsilence(silences::UnsilenceArgs),
    Receivers(receivers::Args),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Also those that are over
    #[arg(long)]
    all: bool,
    /// Of those that are over, the newest so many [default: 100]
    #[arg(long, value_name = "N", requires = "all")]
    limit: Option<u32>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            None => self.list.output.format,
            Some(AlertsCommand::List(args)) => args.output.format,
            Some(AlertsCommand::Show { output, .. }) => output.format,
            Some(AlertsCommand::Silence(args)) => args.output.format,
            Some(AlertsCommand::Silences(args)) => args.output.format,
            Some(AlertsCommand::Receivers(args)) => args.format(),
            Some(AlertsCommand::Runbook(_) | AlertsCommand::Unsilence(_)) => Format::Table,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        None => list(args.list, session).await,
        Some(AlertsCommand::List(args)) => list(args, session).await,
        Some(AlertsCommand::Show { id, output }) => show(&id, output.format, session).await,
        Some(AlertsCommand::Runbook(args)) => runbook::run(&args),
        Some(AlertsCommand::Silence(args)) => silences::silence(args, session).await,
        Some(AlertsCommand::Silences(args)) => silences::list(args, session).await,
        Some(AlertsCommand::Unsilence(args)) => silences::unsilence(args, session).await,
        Some(AlertsCommand::Receivers(args)) => receivers::run(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), Failure> {
    let list = session.client.alerts(&AlertQuery { all: args.all, limit: args.limit }).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.alerts.is_empty() => {
            terminal::say(if args.all { "no alert has fired" } else { "no alert fires. Earlier ones: --all" })
        }
        Format::Table => {
            let text = table(&list.alerts, Timestamp::now(), Paint::for_stdout());
            terminal::print(&text)?;
            let firing = list.alerts.iter().find(|alert| alert.alert.is_firing());
            firing.map_or(Ok(()), |alert| {
                terminal::say(&format!("\nnext: tradewind alerts runbook {}", alert.alert.key.kind))
            })
        }
    }
}

fn table(alerts: &[AlertView], now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&HEADINGS);
    alerts.iter().for_each(|alert| table.row(row(alert, now)));
    table.render(paint)
}

pub(super) const HEADINGS: [&str; 7] = ["ALERT", "REGION", "MODEL", "STATE", "FIRED", "ID", ""];

/// What stands under [`HEADINGS`].
pub(super) fn row(alert: &AlertView, now: Timestamp) -> [Cell; 7] {
    let key = &alert.alert.key;
    [
        key.kind.as_str().into(),
        key.region.as_ref().map_or("-", RegionName::as_str).into(),
        key.model.as_ref().map_or("-", ModelName::as_str).into(),
        state(alert),
        units::ago(alert.alert.fired_at, now).into(),
        alert.alert.id.as_str().into(),
        alert.alert.detail.as_str().into(),
    ]
}

fn state(alert: &AlertView) -> Cell {
    match (alert.alert.is_firing(), alert.silenced, alert.alert.severity) {
        (false, ..) => Cell::new("resolved", Tone::Good),
        (true, true, severity) => Cell::new(format!("{severity}, silenced"), Tone::Faint),
        (true, false, Severity::Critical) => Cell::new("critical", Tone::Bad),
        (true, false, Severity::Warning) => Cell::new("warning", Tone::Warn),
    }
}

async fn show(id: &str, format: Format, session: &Session) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema_version: u32,
        #[serde(flatten)]
        alert: &'a AlertView,
    }
    let list = session.client.alerts(&AlertQuery { all: true, limit: Some(u32::MAX) }).await?;
    let Some(alert) = list.alerts.iter().find(|alert| alert.alert.id == id) else {
        return Err(
            Failure::new(Code::NotFound, format!("no alert has the id {id}")).hint("see `tradewind alerts --all`")
        );
    };
    match format {
        Format::Json => terminal::print_json(&Document { schema_version: SCHEMA_VERSION, alert }),
        Format::Table => terminal::print(&details(alert, Paint::for_stdout())),
    }
}

fn details(view: &AlertView, paint: Paint) -> String {
    let alert = &view.alert;
    let mut rows = Table::bare();
    rows.row(["state".into(), state(view)]);
    rows.row(["what".into(), view.summary.as_str().into()]);
    rows.row(["detail".into(), alert.detail.as_str().into()]);
    rows.row(["since".into(), units::clock(alert.since).into()]);
    rows.row(["fired".into(), units::clock(alert.fired_at).into()]);
    if let Some(at) = alert.resolved_at {
        let lasted = units::seconds(units::between(alert.fired_at, at));
        rows.row(["resolved".into(), format!("{}, after {lasted}", units::clock(at)).into()]);
    }
    for (receiver, delivery) in &alert.deliveries {
        let told = [("firing", delivery.firing_at), ("resolved", delivery.resolved_at)];
        let told = told.iter().filter_map(|(what, at)| at.map(|at| format!("{what} {}", units::clock(at))));
        rows.row([format!("told {receiver}").into(), told.collect::<Vec<_>>().join(", ").into()]);
    }
    format!("{}\n{}\nnext: tradewind alerts runbook {}\n", alert.key, rows.render(paint), alert.key.kind)
}

/// The name of an alert; what is nearly one is told.
fn parse_kind(text: &str) -> Result<AlertKind, String> {
    text.parse().map_err(|error: tradewind_core::alert::UnknownKind| {
        let names = AlertKind::ALL.map(AlertKind::as_str);
        format!("{error}; there are {}", names.join(", "))
    })
}
