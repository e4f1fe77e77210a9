//! `tradewind up`: a world on this machine. One control plane, and an agent and a gateway for each region, each a child
//! process that can be killed by itself. This process holds the gateways' sockets, restarts what ends, and stops
//! everything when it is told to. If it dies, the next `up` adopts what still runs.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;

use crate::{
    failure::Failure,
    roles,
    settings::{register_world, world::DATA_DIRECTORY},
    terminal::{self, Format, OutputArgs, Paint, Table, Tone, table::Cell, units},
    traces::TracesArgs,
};

mod layout;
mod member;
mod roster;
mod wan;

use layout::{Layout, Role};
use member::Member;
use roster::Roster;

/// The most regions of a world on one machine: their ports are counted from the base.
pub(crate) const REGIONS_LIMIT: usize = 100;
/// What is not ready within this time is not waited for.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The time from a signal until all is stopped is bounded by this.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Start a world on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind up
  tradewind up --regions us-east1,europe-west1 --port-base 8400 --simulate-wan")]
pub(crate) struct Args {
    /// Regions, separated by commas
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', default_value = "us-east1,europe-west1,asia-northeast1")]
    regions: Vec<RegionName>,
    /// Where everything is kept; started again on the same directory, what was deployed serves again
    #[arg(long, value_name = "DIR", default_value = DATA_DIRECTORY)]
    data_dir: PathBuf,
    /// Port of control; gateways listen on this + 10 and up, agents on this + 110 and up
    #[arg(long, value_name = "N", default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port_base: u16,
    /// Whether a process that ends is started again
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    restart: Restart,
    /// Give traffic between regions a realistic round trip
    #[arg(long)]
    simulate_wan: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    Always,
    Never,
}

pub(crate) fn run(args: Args, traces: TracesArgs) -> Result<(), Failure> {
    check(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::failed("cannot start the async runtime").cause(error.to_string()))?;
    runtime.block_on(world(args, traces))
}

fn check(args: &Args) -> Result<(), Failure> {
    if args.regions.is_empty() || args.regions.len() > REGIONS_LIMIT {
        return Err(Failure::usage(format!("a world on one machine has between 1 and {REGIONS_LIMIT} regions")));
    }
    let twice = args.regions.iter().enumerate().find(|(at, region)| args.regions[..*at].contains(region));
    match twice {
        Some((_, region)) => Err(Failure::usage(format!("{region} is named twice"))),
        None => Ok(()),
    }
}

async fn world(args: Args, traces: TracesArgs) -> Result<(), Failure> {
    let began = Instant::now();
    // Caught from here on: what has been started by the time of a Ctrl-C is stopped.
    let mut signals = roles::StopSignals::catch();
    let layout = Layout::plan(&args.data_dir, &args.regions, args.port_base, traces)?;
    let lock = layout.lock()?;
    tradewind_process::become_subreaper()
        .map_err(|error| Failure::failed("cannot become the parent of orphans").cause(error.to_string()))?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let reaper = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = tradewind_process::reap_orphans(reaper).await {
            tracing::warn!(%error, "ended processes may stay visible as zombies");
        }
    });
    let links = match args.simulate_wan {
        true => wan::start(&layout, &mut tasks, &stop).await?,
        false => wan::Links::default(),
    };
    let roster = Roster::open(&layout);
    let members = Member::all(&layout, &links, &roster, args.restart)?;
    // Only now that the ports are known to be free: what fails before this leaves everything as it was.
    let _lock = layout.establish(lock)?;
    let started = tokio::select! {
        started = start(&members, &layout) => started,
        () = signals.any() => Err(Failure::failed("stopped before the world was ready")),
    };
    if let Err(failure) = started {
        stop_everything(&members, &layout).await;
        stop.cancel();
        return Err(failure);
    }
    roster.publish();
    // That the verbs do not find this world from elsewhere is no reason to stop it.
    if let Err(error) = register_world(&layout.control_url(), &layout.token_file()) {
        tracing::warn!(%error, "cannot note this world for other directories");
    }
    announce(&args, &layout, began.elapsed())?;

    let watched = layout.clone();
    let publisher = stop.clone();
    let followed = roster.clone();
    tasks.spawn(async move { followed.follow_replicas(&watched, publisher).await });
    let mut supervisors = JoinSet::new();
    for member in &members {
        supervisors.spawn(member.clone().supervise(stop.clone()));
    }
    signals.any().await;
    stop.cancel();
    while supervisors.join_next().await.is_some() {}
    if args.output.format == Format::Table {
        terminal::complain("\n  stopping...\n");
    }
    let stopped = tokio::time::timeout(STOP_LIMIT, stop_everything(&members, &layout)).await;
    while tasks.join_next().await.is_some() {}
    // Otherwise the roster stays, so that the next `up` adopts what is left.
    stopped.map_err(|_| Failure::failed(format!("some processes did not stop within {} s", STOP_LIMIT.as_secs())))?;
    roster.close();
    Ok(())
}

/// Starts or adopts every member and waits until each is ready.
async fn start(members: &[Member], layout: &Layout) -> Result<(), Failure> {
    for member in members {
        member.begin().await?;
    }
    let mut waiting = JoinSet::new();
    for member in members {
        waiting.spawn(member.clone().ready());
    }
    let all = async {
        while let Some(result) = waiting.join_next().await {
            result.map_err(|error| Failure::failed(error.to_string()))??;
        }
        Ok(())
    };
    tokio::time::timeout(READY_LIMIT, all).await.unwrap_or_else(|_| {
        // A model that does not come back must not take the others down with it.
        let (limit, logs) = (READY_LIMIT.as_secs(), layout.logs());
        terminal::complain(&format!("  not everything is ready after {limit} s; see the logs in {}\n", logs.display()));
        Ok(())
    })
}

/// Gateways first, so that users' last requests are answered; then agents, their replicas, and control.
async fn stop_everything(members: &[Member], layout: &Layout) {
    for role in [Role::Gateway, Role::Agent] {
        stop_role(members, role).await;
    }
    let mut replicas = JoinSet::new();
    for region in layout.regions() {
        let directory = layout.directory(Role::Agent, Some(region));
        replicas.spawn(async move { tradewind_agent::stop_replicas(&directory, member::GRACE).await });
    }
    while let Some(result) = replicas.join_next().await {
        if let Ok(Err(error)) = result {
            terminal::complain(&format!("  a region's replicas could not all be stopped: {error}\n"));
        }
    }
    stop_role(members, Role::Control).await;
}

async fn stop_role(members: &[Member], role: Role) {
    let mut stopping = JoinSet::new();
    for member in members.iter().filter(|member| member.role() == role) {
        stopping.spawn(member.clone().stop());
    }
    while stopping.join_next().await.is_some() {}
}

fn announce(args: &Args, layout: &Layout, took: Duration) -> Result<(), Failure> {
    if args.output.format == Format::Json {
        let world = std::fs::read_to_string(layout.world_file())
            .map_err(|error| Failure::failed("cannot read world.json back").cause(error.to_string()))?;
        return terminal::say(world.trim());
    }
    let paint = Paint::for_stdout();
    let mut table = Table::bare();
    let cell = |text: String, tone| Cell::new(text, tone);
    table.row([
        cell("control".to_owned(), Tone::Heading),
        cell(layout.control_url(), Tone::Plain),
        cell("API".to_owned(), Tone::Faint),
    ]);
    for region in layout.regions() {
        table.row([
            cell(region.to_string(), Tone::Heading),
            cell(format!("http://{}", layout.address(Role::Gateway, Some(region))), Tone::Plain),
            cell("gateway   agent ready".to_owned(), Tone::Faint),
        ]);
    }
    let first: Vec<&str> = layout.regions().iter().take(2).map(AsRef::as_ref).collect();
    terminal::print(&format!(
        "{}\n  ready in {}, data in {}. Next, in another terminal:\n    tradewind deploy --regions {} examples/digits/v1\n",
        table.render(paint),
        units::seconds(took),
        args.data_dir.display(),
        first.join(","),
    ))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
