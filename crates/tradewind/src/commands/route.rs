//! `tradewind route explain MODEL --from REGION`

use tradewind_api::gateway::{Explanation, RegionVerdict, ReplicaVerdict, RouteQuery};
use tradewind_core::{ModelName, RegionName};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell},
};

/// Where requests go, and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind route explain digits --from us-east1
  tradewind route explain digits --from us-east1 --user ada -o json")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RouteCommand {
    /// Ask a gateway where it would send a request now: which region, and why not the nearer ones
    #[command(after_help = "\
Examples:
  tradewind route explain digits --from us-east1
  tradewind route explain digits --from us-east1 --user ada -o json")]
    Explain {
        /// The model
        model: ModelName,
        /// The region that the user is in
        #[arg(long, value_name = "REGION")]
        from: RegionName,
        /// The user's key, as in the header `x-tradewind-user`
        #[arg(long, value_name = "KEY")]
        user: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        let RouteCommand::Explain { output, .. } = &self.command;
        output.format
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let RouteCommand::Explain { model, from, user, output } = args.command;
    let explained = session.client.explain_route(&model, &RouteQuery { from, user }).await?;
    match output.format {
        Format::Json => terminal::print_json(&explained),
        Format::Table => terminal::print(&render(&explained.explanation, Paint::for_stdout())),
    }
}

fn render(explanation: &Explanation, paint: Paint) -> String {
    let Explanation { model, from, slot, revision, epoch, gateway, region, .. } = explanation;
    let mut text = match &explanation.goes_to {
        Some(there) => format!("{model} from {from}: {there}, {slot} (revision {revision}, epoch {epoch})\n"),
        None => format!("{model} from {from}: nobody can serve it, requests get 503\n"),
    };
    text += &format!("as the gateway {gateway} of {region} sees it\n\n");
    text += &regions(explanation).render(paint);
    if !explanation.replicas.is_empty() {
        text += &format!("\n{}", replicas(region, &explanation.replicas).render(paint));
    }
    text
}

/// In the order in which they are asked.
fn regions(explanation: &Explanation) -> Table {
    let mut table = Table::new(&["REGION", "ROUND TRIP", "READY", "VERDICT", "BECAUSE IT"]);
    for verdict in &explanation.regions {
        let goes_here = explanation.goes_to.as_ref() == Some(&verdict.region);
        table.row([
            verdict.region.as_str().into(),
            round_trip(verdict, &explanation.region).into(),
            verdict.ready.to_string().into(),
            match verdict {
                _ if goes_here => Cell::new("goes here", Tone::Good),
                RegionVerdict { eligible: true, .. } => "next".into(),
                _ => Cell::new("passed over", Tone::Warn),
            },
            verdict.reason.as_str().into(),
        ]);
    }
    table
}

fn round_trip(verdict: &RegionVerdict, own: &RegionName) -> String {
    match verdict.round_trip_us {
        _ if verdict.region == *own => "here".to_owned(),
        Some(micros) => millis(micros),
        None => "not measured".to_owned(),
    }
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}

fn replicas(region: &RegionName, replicas: &[ReplicaVerdict]) -> Table {
    let title = format!("REPLICA IN {region}");
    let mut table = Table::new(&[&title, "HEALTH", "IN FLIGHT", "LATENCY"]);
    for replica in replicas {
        table.row([
            replica.id.as_str().into(),
            match replica {
                ReplicaVerdict { ready: false, .. } => Cell::new("not ready", Tone::Bad),
                ReplicaVerdict { ejected: true, .. } => Cell::new("left out: its answers fail", Tone::Warn),
                _ => Cell::new("ready", Tone::Good),
            },
            format!("{} of {}", replica.in_flight, replica.limit).into(),
            if replica.latency_us == 0 { "-".into() } else { millis(replica.latency_us).into() },
        ]);
    }
    table
}
