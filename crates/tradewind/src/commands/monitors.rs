//! `tradewind monitors`

mod export;

use tradewind_api::monitoring::{MonitorQuery, MonitorView, ObjectiveName, ObjectiveView};
use tradewind_core::{ModelName, RegionName, Timestamp, monitor::verdict::Verdict};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// What is watched in every region, and how it stands
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  tradewind monitors
  tradewind monitors show digits --region us-east1"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<MonitorsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum MonitorsCommand {
    /// Every model in every region, a line each
    #[command(after_help = "\
Examples:
  tradewind monitors list
  tradewind monitors list --region us-east1 -o json")]
    List(ListArgs),
    /// The monitors of one model in full: objectives, budgets, golden cases
    #[command(after_help = "\
Examples:
  tradewind monitors show digits
  tradewind monitors show digits --region us-east1 -o json")]
    Show {
        model: ModelName,
        /// Only in this region
        #[arg(long, value_name = "REGION")]
        region: Option<RegionName>,
        #[command(flatten)]
        output: OutputArgs,
    },
    Export(export::Args),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only of this model
    #[arg(long)]
    model: Option<ModelName>,
    /// Only in this region
    #[arg(long, value_name = "REGION")]
    region: Option<RegionName>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            None => self.list.output.format,
            Some(MonitorsCommand::List(args)) => args.output.format,
            Some(MonitorsCommand::Show { output, .. }) => output.format,
            Some(MonitorsCommand::Export(_)) => Format::Table,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        None => list(args.list, session).await,
        Some(MonitorsCommand::List(args)) => list(args, session).await,
        Some(MonitorsCommand::Show { model, region, output }) => show(model, region, output.format, session).await,
        Some(MonitorsCommand::Export(args)) => export::run(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<(), Failure> {
    let list = session.client.monitors(&MonitorQuery { model: args.model, region: args.region }).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.monitors.is_empty() => {
            terminal::say("nothing is watched yet. Next: tradewind deploy --regions REGION MODEL")
        }
        Format::Table => terminal::print(&table(&list.monitors, Paint::for_stdout())),
    }
}

async fn show(model: ModelName, region: Option<RegionName>, format: Format, session: &Session) -> Result<(), Failure> {
    let list = session.client.monitors(&MonitorQuery { model: Some(model), region }).await?;
    match format {
        Format::Json => terminal::print_json(&list),
        Format::Table => {
            let now = Timestamp::now();
            let each = list.monitors.iter().map(|monitor| details(monitor, now, Paint::for_stdout()));
            terminal::print(&each.collect::<Vec<_>>().join("\n"))
        }
    }
}

fn table(monitors: &[MonitorView], paint: Paint) -> String {
    let headings =
        ["MODEL", "REGION", "REVISION", "STATE", "REPLICAS", "ERROR BUDGET", "LATENCY BUDGET", "CASES", "P99", ""];
    let mut table = Table::new(&headings);
    for monitor in monitors {
        let named = |name| monitor.objectives.iter().find(|objective| objective.name == name);
        table.row([
            monitor.model.as_str().into(),
            monitor.region.as_str().into(),
            format!("{} {}", monitor.revision, monitor.slot).into(),
            state(monitor),
            format!("{}/{}", monitor.replicas.ready, monitor.replicas.desired).into(),
            named(ObjectiveName::Availability).map_or("-".into(), budget),
            named(ObjectiveName::Latency).map_or("-".into(), budget),
            cases(monitor),
            monitor.p99_us.map_or("-".to_owned(), units::latency).into(),
            monitor.verdict.reason().unwrap_or_default().into(),
        ]);
    }
    table.render(paint)
}

fn state(monitor: &MonitorView) -> Cell {
    match monitor.verdict {
        Verdict::Healthy => Cell::new("healthy", Tone::Good),
        Verdict::Failed { .. } => Cell::new("failed", Tone::Bad),
        Verdict::Inconclusive { .. } => Cell::new("unsure", Tone::Faint),
    }
}

/// `99.9 %: 97 % left`
fn budget(objective: &ObjectiveView) -> Cell {
    let Some(left) = objective.budget_left else {
        return Cell::new(format!("{}: no traffic", percent(objective.objective)), Tone::Faint);
    };
    let tone = match left {
        ..0.0 => Tone::Bad,
        0.0..0.25 => Tone::Warn,
        _ => Tone::Plain,
    };
    let left = if left < 0.0 { "spent".to_owned() } else { format!("{:.0} % left", left * 100.0) };
    Cell::new(format!("{}: {left}", percent(objective.objective)), tone)
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

/// `40 ok`, or how many were not.
fn cases(monitor: &MonitorView) -> Cell {
    let cases = &monitor.cases;
    match (cases.asked, cases.wrong, cases.unanswered) {
        (0, ..) => "-".into(),
        (asked, 0, 0) => Cell::new(format!("{asked} ok"), Tone::Good),
        (asked, 0, unanswered) => Cell::new(format!("{unanswered} of {asked} unanswered"), Tone::Warn),
        (asked, wrong, _) => Cell::new(format!("{wrong} of {asked} wrong"), Tone::Bad),
    }
}

fn details(monitor: &MonitorView, now: Timestamp, paint: Paint) -> String {
    let armed = if monitor.armed { "alerts armed" } else { "no users yet, alerts not armed" };
    let mut text =
        format!("{} in {}, revision {} ({}), {armed}\n", monitor.model, monitor.region, monitor.revision, monitor.slot);
    let mut rows = Table::bare();
    let verdict = monitor.verdict.reason().map(|reason| format!("({reason})")).unwrap_or_default();
    rows.row(["last 5 min".into(), state(monitor), verdict.into()]);
    let replicas = monitor.replicas;
    rows.row(["replicas".into(), format!("{}/{} ready", replicas.ready, replicas.desired).into()]);
    for objective in &monitor.objectives {
        let (name, goal) = match (objective.name, monitor.monitors.latency) {
            (ObjectiveName::Latency, Some(latency)) => ("latency", format!("within {}", latency.within)),
            (ObjectiveName::Latency, None) => ("latency", String::new()),
            (ObjectiveName::Availability, _) => ("availability", "without failure".to_owned()),
        };
        let burn = |burn: Option<f64>| burn.map_or("-".to_owned(), |burn| format!("{burn:.1}x"));
        let spent = format!(
            "{goal}; {} of {} missed; burning {} over 5 min, {} over 1 h",
            objective.missed,
            objective.requests,
            burn(objective.burn_5m),
            burn(objective.burn_1h)
        );
        rows.row([name.into(), budget(objective), spent.into()]);
    }
    let interval = monitor.monitors.golden_interval;
    let asked = monitor.cases.asked_at.map(|at| format!(", last {}", units::ago(at, now))).unwrap_or_default();
    let schedule =
        if interval.as_millis() == 0 { "never asked again".to_owned() } else { format!("every {interval}{asked}") };
    rows.row(["golden cases".into(), cases(monitor), schedule.into()]);
    if let Some(wrong) = &monitor.cases.last_wrong {
        rows.row(["last wrong".into(), Cell::new(wrong.as_str(), Tone::Bad)]);
    }
    let latency = |us: Option<u64>| us.map_or("-".to_owned(), units::latency);
    rows.row(["p50 / p99".into(), format!("{} / {}", latency(monitor.p50_us), latency(monitor.p99_us)).into()]);
    rows.row(["saturated at".into(), percent(monitor.monitors.saturation).into()]);
    text += &rows.render(paint);
    text
}
