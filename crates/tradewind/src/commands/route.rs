//! `tradewind route explain/pin/unpin/pins MODEL`

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tradewind_api::{
    deploy::{PinList, PinRequest, UnpinRequest},
    gateway::{Explanation, RegionVerdict, ReplicaVerdict, RouteQuery},
};
use tradewind_core::{ModelName, RegionName, Timestamp, duration::Span, pins::PinTarget};

use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

/// Gateways that have not taken up an epoch by then are told of.
const PATIENCE: Duration = Duration::from_secs(2);
/// As long as gateways have to fetch a table of users.
const PATIENCE_WITH_TABLES: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

mod users;

/// Where requests go, and why; which users get something else
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind route explain digits --from us-east1
  tradewind route pin digits --user ada --to candidate")]
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
    /// Choose what users get, whatever all others get, until a time
    #[command(after_help = "\
Examples:
  tradewind route pin digits --user ada,bob --to candidate --lasts 2h
  tradewind route pin digits --file beta-users.txt --to 3")]
    Pin {
        /// The model
        model: ModelName,
        /// The users' keys, as in the header `x-tradewind-user`, separated by commas
        #[arg(long, value_name = "A,B", value_delimiter = ',', required_unless_present = "file")]
        user: Vec<String>,
        /// A file of users' keys, one a line, up to sixteen million: they are pinned together
        #[arg(long, value_name = "FILE", conflicts_with = "user")]
        file: Option<PathBuf>,
        /// What they get: what is live, the candidate of a rollout while there is one, or a revision while it is there
        #[arg(long, value_name = "live|candidate|REVISION")]
        to: PinTarget,
        /// How long [default: 7d]
        #[arg(long, value_name = "DURATION")]
        lasts: Option<Span>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let users get what all others get
    #[command(after_help = "\
Examples:
  tradewind route unpin digits --user ada
  tradewind route unpin digits --file beta-users.txt")]
    Unpin {
        /// The model
        model: ModelName,
        /// The users' keys, separated by commas
        #[arg(long, value_name = "A,B", value_delimiter = ',', required_unless_present_any = ["file", "all"])]
        user: Vec<String>,
        /// Users who were pinned together: their file as it was then, or the digest that `route pins` shows
        #[arg(long, value_name = "FILE|DIGEST")]
        file: Option<String>,
        /// Everybody who is pinned
        #[arg(long, conflicts_with_all = ["user", "file"])]
        all: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// The users for whom somebody has chosen what they get
    #[command(after_help = "\
Examples:
  tradewind route pins digits
  tradewind route pins digits -o json")]
    Pins {
        /// The model
        model: ModelName,
        #[command(flatten)]
        output: OutputArgs,
    },
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            RouteCommand::Explain { output, .. }
            | RouteCommand::Pin { output, .. }
            | RouteCommand::Unpin { output, .. }
            | RouteCommand::Pins { output, .. } => output.format,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        RouteCommand::Explain { model, from, user, output } => {
            let explained = session.client.explain_route(&model, &RouteQuery { from, user }).await?;
            match output.format {
                Format::Json => terminal::print_json(&explained),
                Format::Table => terminal::print(&render(&explained.explanation, Paint::for_stdout())),
            }
        }
        RouteCommand::Pin { model, user, file: None, to, lasts, output } => {
            let what = match user.as_slice() {
                [one] => format!("{one} is pinned to {to}"),
                several => format!("{} users are pinned to {to}", several.len()),
            };
            let request = PinRequest { users: user, table: None, to, lasts, requested_by: requested_by() };
            let pins = session.client.pin(&model, &request).await?;
            taken_up(session, pins, output.format, &what).await
        }
        RouteCommand::Pin { model, file: Some(file), to, lasts, output, .. } => {
            let (digest, table) = users::table_of(&file)?;
            let what = format!("{} users are pinned to {to}, as table {}", table.users(), digest.short());
            session.client.put_pin_table(&digest, table.bytes().to_vec()).await?;
            let (users, table) = (Vec::new(), Some(digest));
            let request = PinRequest { users, table, to, lasts, requested_by: requested_by() };
            let pins = session.client.pin(&model, &request).await?;
            taken_up(session, pins, output.format, &what).await
        }
        RouteCommand::Unpin { model, user, file, all, output } => {
            let what = match (user.as_slice(), &file) {
                ([], Some(file)) => format!("the users of {file} are not pinned any more"),
                ([], None) => "nobody is pinned any more".to_owned(),
                ([one], None) => format!("{one} is not pinned any more"),
                (several, None) => format!("{} users are not pinned any more", several.len()),
                (several, Some(file)) => {
                    format!("{} and the users of {file} are not pinned any more", several.join(", "))
                }
            };
            let tables = match file {
                Some(file) => vec![users::find(&file, &model, &session.client.pins(&model).await?.tables)?],
                None => Vec::new(),
            };
            let request = UnpinRequest { users: user, tables, all, requested_by: requested_by() };
            let pins = session.client.unpin(&model, &request).await?;
            taken_up(session, pins, output.format, &what).await
        }
        RouteCommand::Pins { model, output } => {
            let pins = session.client.pins(&model).await?;
            match output.format {
                Format::Json => terminal::print_json(&pins),
                Format::Table => terminal::print(&pinned(&pins, Paint::for_stdout())),
            }
        }
    }
}

/// Waits a moment until every gateway knows.
async fn taken_up(session: &Session, mut pins: PinList, format: Format, what: &str) -> Result<(), Failure> {
    let until = Instant::now() + if pins.tables.is_empty() { PATIENCE } else { PATIENCE_WITH_TABLES };
    let epoch = pins.epoch;
    while pins.acknowledged < pins.gateways && pins.epoch == epoch && Instant::now() < until {
        sleep(LOOK_INTERVAL).await;
        pins = session.client.pins(&pins.model).await?;
    }
    if format == Format::Json {
        terminal::print_json(&pins)?;
    }
    let (PinList { model, acknowledged, gateways, .. }, epoch) = (&pins, epoch.unwrap_or_default());
    let known = format!("epoch {epoch} acknowledged by {acknowledged} of {gateways} gateways");
    if pins.epoch == Some(epoch) && acknowledged < gateways {
        return Err(Failure::unfinished(format!("{model}: {what}, and not every gateway has taken it up yet"))
            .note(format!("It is committed: {known}."))
            .hint("see who is behind with `tradewind regions list`"));
    }
    match format {
        Format::Json => Ok(()),
        Format::Table => terminal::say(&format!("{model}: {what}; {known}")),
    }
}

fn pinned(list: &PinList, paint: Paint) -> String {
    let now = Timestamp::now();
    let row = |who: String, to: PinTarget, until: Timestamp| {
        [who.into(), to.to_string().into(), units::roughly(units::between(now, until)).into()]
    };
    let mut alone = Table::new(&["USER", "GETS", "FOR"]);
    list.pins.iter().for_each(|pin| alone.row(row(pin.user.clone(), pin.to, pin.until)));
    if list.tables.is_empty() {
        return alone.render(paint);
    }
    let mut together = Table::new(&["TABLE", "USERS", "GETS", "FOR"]);
    for table in &list.tables {
        let [users, gets, lasts] = row(table.users.to_string(), table.to, table.until);
        together.row([table.digest.short().into(), users, gets, lasts]);
    }
    let alone = if list.pins.is_empty() { String::new() } else { format!("{}\n", alone.render(paint)) };
    alone + &together.render(paint)
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
