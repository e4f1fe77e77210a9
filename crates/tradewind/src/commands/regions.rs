//! `tradewind regions list/show/add/drain/undrain`

use serde::Serialize;
use tradewind_api::{
    SCHEMA_VERSION,
    status::{AddRegion, MemberStatus, RegionStatus},
};
use tradewind_core::{RegionName, Timestamp, assignment, region::Location};

use self::drain::{DrainArgs, UndrainArgs};
use super::capacity;
use crate::{
    failure::Failure,
    session::{Session, unknown_region},
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
};

mod drain;

/// The regions of the world, and who serves in them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind regions list
  tradewind regions show us-east1")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: RegionsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RegionsCommand {
    /// Every region with its agents, gateways and replicas
    #[command(after_help = "\
Examples:
  tradewind regions list
  tradewind regions list -o json")]
    List {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// One region in full
    #[command(after_help = "\
Examples:
  tradewind regions show us-east1
  tradewind regions show us-east1 -o json")]
    Show {
        region: RegionName,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a region known, so that agents and gateways may join it
    #[command(after_help = "\
Examples:
  tradewind regions add us-west1
  tradewind regions add berlin --location 52.5,13.4")]
    Add {
        region: RegionName,
        /// Latitude and longitude in degrees [default: from the catalogue of cloud regions, by the name]
        #[arg(long, value_name = "LAT,LON", value_parser = parse_location, allow_hyphen_values = true)]
        location: Option<Location>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Take the users of a region away, as far as they fit elsewhere
    #[command(after_help = "\
Examples:
  tradewind regions drain us-east1 --dry-run
  tradewind regions drain us-east1")]
    Drain(DrainArgs),
    /// Let users back into a region that was drained
    #[command(after_help = "\
Examples:
  tradewind regions undrain us-east1
  tradewind regions undrain us-east1 -o json")]
    Undrain(UndrainArgs),
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            RegionsCommand::List { output }
            | RegionsCommand::Show { output, .. }
            | RegionsCommand::Add { output, .. } => output.format,
            RegionsCommand::Drain(args) => args.output.format,
            RegionsCommand::Undrain(args) => args.output.format,
        }
    }
}

fn parse_location(text: &str) -> Result<Location, String> {
    let refuse = || format!("`{text}` is not a location: write latitude,longitude in degrees, as in 52.5,13.4");
    let (latitude, longitude) = text.split_once(',').ok_or_else(refuse)?;
    let degrees = |text: &str, limit: f64| text.trim().parse().ok().filter(|value: &f64| value.abs() <= limit);
    let (latitude, longitude) = degrees(latitude, 90.0).zip(degrees(longitude, 180.0)).ok_or_else(refuse)?;
    Ok(Location { latitude, longitude })
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        RegionsCommand::List { output } => list(session, output.format).await,
        RegionsCommand::Show { region, output } => show(session, &region, output.format).await,
        RegionsCommand::Add { region, location, output } => add(session, region, location, output.format).await,
        RegionsCommand::Drain(args) => drain::drain(args, session).await,
        RegionsCommand::Undrain(args) => drain::undrain(args, session).await,
    }
}

async fn list(session: &Session, format: Format) -> Result<(), Failure> {
    let list = session.client.regions().await?;
    match format {
        Format::Json => terminal::print_json(&list),
        Format::Table if list.regions.is_empty() => terminal::say("no regions yet. Next: tradewind regions add NAME"),
        Format::Table => terminal::print(&table(&list.regions, Paint::for_stdout())),
    }
}

/// One line a region.
pub(super) fn table(regions: &[RegionStatus], paint: Paint) -> String {
    let mut table = Table::new(&["REGION", "STATE", "AGENTS", "GATEWAYS", "REPLICAS", "ENTRY", ""]);
    for region in regions {
        let alive = |members: &[MemberStatus]| {
            let count = members.iter().filter(|member| member.alive).count();
            Cell::from(format!("{count}/{}", members.len()))
        };
        let ready = region.replicas.iter().filter(|replica| replica.ready).count();
        let entry = region.gateways.first().map_or("-".to_owned(), |gateway| format!("http://{}", gateway.address));
        table.row([
            region.name.as_str().into(),
            state(region),
            alive(&region.agents),
            alive(&region.gateways),
            format!("{ready}/{}", region.replicas.len()).into(),
            entry.into(),
            remark(region),
        ]);
    }
    table.render(paint)
}

/// What is wrong with it; else where its users would go, and whether they fit there.
fn remark(region: &RegionStatus) -> Cell {
    match (&region.reason, &region.failover) {
        (Some(reason), _) => reason.as_str().into(),
        (None, Some(failover)) => {
            let phrase = format!("if lost, users go to {}", capacity::phrase(failover));
            Cell::new(phrase, capacity::tone(failover.fit))
        }
        (None, None) => "".into(),
    }
}

pub(super) fn state(region: &RegionStatus) -> Cell {
    match region {
        RegionStatus { drill: Some(number), .. } => Cell::new(format!("drill {number}"), Tone::Warn),
        RegionStatus { drained: true, .. } => Cell::new("drained", Tone::Warn),
        RegionStatus { healthy: true, .. } => Cell::new("healthy", Tone::Good),
        _ => Cell::new("unhealthy", Tone::Bad),
    }
}

async fn show(session: &Session, name: &RegionName, format: Format) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema_version: u32,
        #[serde(flatten)]
        region: &'a RegionStatus,
    }
    let regions = session.client.regions().await?.regions;
    let Some(region) = regions.iter().find(|region| region.name == *name) else {
        return Err(unknown_region(name, regions.iter().map(|region| &region.name)));
    };
    match format {
        Format::Json => terminal::print_json(&Document { schema_version: SCHEMA_VERSION, region }),
        Format::Table => terminal::print(&details(region, Paint::for_stdout())),
    }
}

fn details(region: &RegionStatus, paint: Paint) -> String {
    let now = Timestamp::now();
    let mut text = table(std::slice::from_ref(region), paint);
    text += &format!("\n{}", members(region, now).render(paint));
    if !region.replicas.is_empty() {
        text += &format!("\n{}", replicas(region, now).render(paint));
    }
    if let Some(remarks) = remarks(region) {
        text += &format!("\n{}", remarks.render(paint));
    }
    if let Some(failover) = region.failover.as_ref().filter(|failover| !failover.models.is_empty()) {
        text += &format!("\n  if it is lost:\n{}", capacity::table(failover).render(paint));
    }
    if !region.round_trips_us.is_empty() {
        text += &format!("\n{}", round_trips(region).render(paint));
    }
    text
}

pub(super) fn members(region: &RegionStatus, now: Timestamp) -> Table {
    let mut members = Table::new(&["MEMBER", "ADDRESS", "PID", "STATE", "LAST REPORT"]);
    let kinds = [("agent", &region.agents), ("gateway", &region.gateways)];
    for (kind, member) in kinds.iter().flat_map(|(kind, members)| members.iter().map(move |member| (kind, member))) {
        let state = match member {
            MemberStatus { alive: false, .. } => Cell::new("silent", Tone::Bad),
            MemberStatus { stale: true, .. } => Cell::new("stale", Tone::Warn),
            _ => Cell::new("alive", Tone::Good),
        };
        members.row([
            (*kind).into(),
            member.address.as_str().into(),
            member.pid.map_or("-".to_owned(), |pid| pid.to_string()).into(),
            state,
            member.last_report.map_or("-".to_owned(), |at| units::ago(at, now)).into(),
        ]);
    }
    members
}

pub(super) fn round_trips(region: &RegionStatus) -> Table {
    let mut trips = Table::new(&["ROUND TRIP TO", ""]);
    region.round_trips_us.iter().for_each(|(to, us)| trips.row([to.as_str().into(), units::latency(*us).into()]));
    trips
}

pub(super) fn replicas(region: &RegionStatus, now: Timestamp) -> Table {
    let mut table = Table::new(&["REPLICA", "MODEL", "REVISION", "SLOT", "STATE", "ADDRESS", "PID", "UP", "RESTARTS"]);
    for replica in &region.replicas {
        let state = if replica.ready { Cell::new("ready", Tone::Good) } else { Cell::new("starting", Tone::Warn) };
        table.row([
            replica.id.as_str().into(),
            format!("{}:{}", replica.model, replica.version).into(),
            replica.revision.to_string().into(),
            replica.slot.as_str().into(),
            state,
            replica.address.as_str().into(),
            replica.pid.to_string().into(),
            units::roughly(units::between(replica.started_at, now)).into(),
            replica.restarts.to_string().into(),
        ]);
    }
    table
}

/// What there is to know of its replicas, if there is anything.
pub(super) fn remarks(region: &RegionStatus) -> Option<Table> {
    let remarks = assignment::remarks(&region.replicas);
    let mut table = Table::new(&["REMARK"]);
    remarks.iter().for_each(|remark| table.row([Cell::new(remark, Tone::Warn)]));
    (!remarks.is_empty()).then_some(table)
}

async fn add(session: &Session, name: RegionName, location: Option<Location>, format: Format) -> Result<(), Failure> {
    let region = session.client.add_region(&AddRegion { name, location }).await?;
    if format == Format::Json {
        return terminal::print_json(&region);
    }
    let place = match region.location {
        Some(Location { latitude, longitude }) => format!("at {latitude:.1},{longitude:.1}"),
        None => "without a location: it counts as farthest from everyone".to_owned(),
    };
    terminal::say(&format!("region {} added, {place}", region.name))?;
    terminal::say(&format!("next: tradewind token issue --role agent --region {} --data-dir DIR", region.name))
}
