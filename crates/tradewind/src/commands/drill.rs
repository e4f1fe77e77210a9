//! `tradewind drill region-down/list/show/stop`

use tradewind_api::drill::DrillRequest;
use tradewind_core::{RegionName, Timestamp, drill::Drill, duration::Span};

use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs, Paint, Table, units},
};

mod follow;
mod lines;

/// Take a region for lost on purpose, and see what becomes of its users
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind drill region-down us-east1 --for 30s
  tradewind drill show latest")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: DrillCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DrillCommand {
    /// Take a region for lost for a while, measure what happens, and let it back
    #[command(after_help = "\
Examples:
  tradewind drill region-down us-east1 --for 30s
  tradewind drill region-down us-east1 --for 1m --yes -o json")]
    RegionDown(RegionDownArgs),
    /// The drills there were, newest first
    #[command(after_help = "\
Examples:
  tradewind drill list
  tradewind drill list -o json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What was expected of a drill, and what was measured
    #[command(after_help = "\
Examples:
  tradewind drill show 3
  tradewind drill show latest -o json")]
    Show {
        /// Its number, or `latest`
        drill: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let the region back at once
    #[command(after_help = "\
Examples:
  tradewind drill stop
  tradewind drill stop -o json")]
    Stop {
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, clap::Args)]
struct RegionDownArgs {
    /// It is taken for lost; what is in flight there is still answered
    region: RegionName,
    /// How long, 5s to 10m; its gateways count the time themselves and end it whatever happens
    #[arg(long = "for", value_name = "TIME")]
    lasts: Span,
    /// Say what is expected, and begin nothing
    #[arg(long)]
    dry_run: bool,
    /// Also when its users do not fit elsewhere or another region is unhealthy
    #[arg(long)]
    force: bool,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            DrillCommand::RegionDown(args) => args.output.format,
            DrillCommand::List { output } | DrillCommand::Show { output, .. } | DrillCommand::Stop { output } => {
                output.format
            }
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        DrillCommand::RegionDown(args) => region_down(args, session).await,
        DrillCommand::List { output } => list(session, output.format).await,
        DrillCommand::Show { drill, output } => {
            let view = session.client.drill(&drill).await?;
            match output.format {
                Format::Json => terminal::print_json(&view),
                Format::Table => terminal::print(&lines::record(&view.drill, Timestamp::now(), Paint::for_stdout())),
            }
        }
        DrillCommand::Stop { output } => stop(session, output.format).await,
    }
}

async fn region_down(args: RegionDownArgs, session: &Session) -> Result<(), Failure> {
    let format = args.output.format;
    let RegionDownArgs { region, lasts, force, .. } = args;
    let request = DrillRequest { region, lasts, dry_run: true, force, requested_by: requested_by() };
    let expected = session.client.begin_drill(&request).await?;
    if args.dry_run {
        return match format {
            Format::Json => terminal::print_json(&expected),
            Format::Table => terminal::print(&lines::expected(&expected, Paint::for_stdout())),
        };
    }
    if !args.yes {
        terminal::complain(&lines::expected(&expected, Paint::for_stderr()));
        let question =
            format!("Take {} for lost for {}? Its users are served elsewhere.", request.region, request.lasts);
        if !terminal::confirm(&question)? {
            return Err(Failure::failed(format!("{} was left as it is", request.region)));
        }
    }
    let answer = session.client.begin_drill(&DrillRequest { dry_run: false, ..request }).await?;
    let Some(number) = answer.number else {
        return Err(Failure::failed("the control plane began no drill"));
    };
    let drill = follow::follow(session, number, format).await?;
    match format {
        Format::Json => terminal::print_json(&drill),
        Format::Table => terminal::print(&lines::record(&drill.drill, Timestamp::now(), Paint::for_stdout())),
    }
}

async fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let list = session.client.drills().await?;
    match format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.drills.is_empty() => {
            terminal::say("no drills yet. Next: tradewind drill region-down REGION --for 30s")
        }
        Format::Table => terminal::print(&table(&list.drills, Timestamp::now(), Paint::for_stdout())),
    }
}

fn table(drills: &[Drill], now: Timestamp, paint: Paint) -> String {
    let headings = ["DRILL", "REGION", "FOR", "WHEN", "BY", "STATE", "ELSEWHERE AFTER", "FAILED", "BACK AFTER"];
    let mut table = Table::new(&headings);
    for drill in drills {
        table.row([
            drill.number.to_string().into(),
            drill.region.as_str().into(),
            drill.lasts.to_string().into(),
            units::ago(drill.started_at, now).into(),
            drill.started_by.as_str().into(),
            lines::state(drill),
            lines::millis(drill.measured.moved_ms).into(),
            lines::failed(drill).into(),
            lines::millis(drill.measured.returned_ms).into(),
        ]);
    }
    table.render(paint)
}

async fn stop(session: &Session, format: Format) -> Result<(), Failure> {
    let view = session.client.stop_drill("latest").await?;
    match format {
        Format::Json => terminal::print_json(&view),
        Format::Table => terminal::print(&lines::stopped(&view.drill)),
    }
}
