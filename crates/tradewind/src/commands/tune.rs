//! `tradewind tune MODEL`: what a machine gets out of a model with more replicas, more threads or larger batches.

mod plot;
mod words;

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tradewind_api::{
    SCHEMA_VERSION,
    deploy::{DeployRequest, ScaleChange},
};
use tradewind_core::{
    ModelName, RolloutNumber, VersionNumber,
    batch::{ROWS_LIMIT, USUAL_ROWS},
    duration::Span,
    scale::Bounds,
    tune::{self, Measured, Recommendation, Setup},
};

use crate::{
    failure::Failure,
    measure::{Local, Question, Served},
    session::{Session, parse_model, requested_by},
    terminal::{self, Format, OutputArgs, Paint},
};

/// The most clients at once: each is a connection of this process.
const CLIENTS_LIMIT: i64 = 4096;
/// Shorter is noise alone; longer is no tuning any more.
const DURATIONS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(600));

/// Measure a model on this machine and say how to run it: more replicas, more threads, larger batches
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind tune digits --latency-budget 20ms
  tradewind tune resnet:3 --latency-budget 100ms --clients 1,8,32 --svg resnet.svg --apply")]
pub(crate) struct Args {
    /// The model, or MODEL:VERSION [default version: the newest]
    #[arg(value_name = "MODEL[:VERSION]", value_parser = parse_model)]
    model: (ModelName, Option<VersionNumber>),
    /// The slowest hundredth of requests may take this long
    #[arg(long, value_name = "TIME")]
    latency_budget: Option<Span>,
    /// Clients that ask at once, each again as soon as it is answered
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 4, 16, 64], value_parser = clap::value_parser!(u32).range(1..=CLIENTS_LIMIT))]
    clients: Vec<u32>,
    /// The largest batches to try, in rows; 1: requests run one by one
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, USUAL_ROWS], value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_LIMIT)))]
    batch_rows: Vec<u32>,
    /// Cores that replicas and threads may use together [default: as many as this process may use]
    #[arg(long, value_name = "N")]
    cores: Option<NonZeroU32>,
    /// How long each combination is measured
    #[arg(long, value_name = "TIME", default_value = "1s")]
    duration: Span,
    /// Draw what was measured into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Deploy the model again with what is recommended
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    model: ModelName,
    version: VersionNumber,
    cores: u32,
    latency_budget: Option<Span>,
    measured: Vec<Measured>,
    /// What nothing beats: quicker ones first.
    frontier: Vec<Measured>,
    /// Absent where nothing is quick enough.
    recommended: Option<Recommendation>,
    /// What applies it; absent without `--apply`, and where the model runs like that already.
    rollout: Option<RolloutNumber>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let duration = args.duration.duration();
    if duration < DURATIONS.0 || duration > DURATIONS.1 {
        return Err(Failure::usage("each combination is measured for 100ms to 10m").hint("such as --duration 2s"));
    }
    let (name, version) = &args.model;
    if args.apply {
        // Whatever hinders that is said before anything is measured.
        session.client.deployment_status(name).await?;
    }
    let bar = progress(args.output.format);
    bar.set_message(format!("fetching {name}"));
    let local = Local::fetch(session, name, *version, &bar).await?;
    let question = local.question()?;
    let cores = args.cores.map_or_else(usable_cores, NonZeroU32::get);
    let measured = measure(&args, &local, &question, cores, &bar).await;
    bar.finish_and_clear();
    let measured = measured?;
    let mut report = Report {
        schema_version: SCHEMA_VERSION,
        model: name.clone(),
        version: local.version.version,
        cores,
        latency_budget: args.latency_budget,
        frontier: tune::frontier(&measured),
        recommended: tune::recommend(&measured, args.latency_budget.map(Span::duration)),
        measured,
        rollout: None,
    };
    if let Some(path) = &args.svg {
        let drawn = std::fs::write(path, plot::svg(&report));
        drawn.map_err(|error| Failure::failed(format!("cannot write {}", path.display())).cause(error.to_string()))?;
    }
    let format = args.output.format;
    if format == Format::Table {
        terminal::say(&words::describe(&report, Paint::for_stdout()))?;
    }
    let applied = match report.recommended {
        Some(recommended) if args.apply => apply(session, &mut report, recommended, format).await,
        Some(_) => Ok(()),
        None => Err(too_slow(&report)),
    };
    if format == Format::Json {
        terminal::print_json(&report)?;
    }
    applied
}

fn usable_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

async fn measure(
    args: &Args,
    local: &Local,
    question: &Question,
    cores: u32,
    bar: &ProgressBar,
) -> Result<Vec<Measured>, Failure> {
    let setups = tune::setups(cores, &args.batch_rows);
    bar.set_position(0);
    bar.set_length((setups.len() * args.clients.len()) as u64);
    let mut measured = Vec::new();
    for setup in setups {
        bar.set_message(words::setup(setup));
        let served = Served::start(local, &local.directory, setup).await?;
        for &clients in &args.clients {
            measured.push(served.load(question, clients, args.duration.duration()).await?);
            bar.inc(1);
        }
    }
    Ok(measured)
}

fn too_slow(report: &Report) -> Failure {
    let quickest = report.frontier.first().map(|one| terminal::units::latency(one.p99_us)).unwrap_or_default();
    let budget = report.latency_budget.map(|budget| budget.to_string()).unwrap_or_default();
    Failure::failed(format!("nothing answers within {budget}: the quickest takes {quickest}"))
        .hint("make the model leaner with `tradewind optimize`, or allow it more time")
}

async fn apply(
    session: &Session,
    report: &mut Report,
    recommended: Recommendation,
    format: Format,
) -> Result<(), Failure> {
    let history = session.client.history(&report.model).await?;
    let newest = history.revisions.iter().max_by_key(|entry| entry.revision);
    let scale = change(recommended, newest.and_then(|entry| entry.scale.bounds.as_ref()));
    let request = DeployRequest { scale: Some(scale), requested_by: requested_by(), ..DeployRequest::default() };
    let answer = session.client.deploy(&report.model, &request).await?;
    report.rollout = answer.rollout;
    if format == Format::Table {
        terminal::say(&words::applied(&report.model, &answer))?;
    }
    Ok(())
}

/// What a deployment changes for it. A number that follows demand goes on doing so: up to as many as are recommended at
/// least, and without more in flight for each than was measured.
fn change(recommended: Recommendation, bounds: Option<&Bounds>) -> ScaleChange {
    let Recommendation { best, concurrency, .. } = recommended;
    let Setup { replicas, threads, max_batch_rows } = best.setup;
    ScaleChange {
        replicas: bounds.is_none().then_some(replicas),
        max: bounds.map(|bounds| bounds.max.max(replicas)),
        target: bounds.map(|bounds| bounds.target.min(concurrency)),
        threads: Some(threads),
        max_batch_rows: Some(max_batch_rows),
        concurrency: Some(concurrency),
        ..ScaleChange::default()
    }
}

fn progress(format: Format) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:32} {pos}/{len}  {msg}  {eta}").expect("the template is constant");
    ProgressBar::with_draw_target(None, terminal::progress_target(format)).with_style(style)
}

#[cfg(test)]
mod tests {
    use tradewind_core::{scale::Scale, tune::Growth};

    use super::*;

    #[test]
    fn a_number_that_follows_demand_goes_on_doing_so() {
        let setup = Setup { replicas: 4, threads: 2, max_batch_rows: 64 };
        let best = Measured { setup, clients: 32, throughput: 1000.0, p50_us: 1000, p99_us: 2000 };
        let recommended = Recommendation { best, growth: Growth::Both, plain: None, concurrency: 8 };
        let fixed = change(recommended, None).applied_to(&Scale::default()).unwrap();
        assert_eq!((fixed.replicas, fixed.threads(), fixed.max_batch_rows), (4, 2, Some(64)));
        assert_eq!((fixed.concurrency, fixed.bounds), (Some(8), None));

        let bounds = Bounds { min: 0, max: 2, target: 20, scale_down_after: Span::from_secs(60), schedule: Vec::new() };
        let scale = Scale { bounds: Some(bounds.clone()), ..Scale::default() };
        let follows = change(recommended, scale.bounds.as_ref()).applied_to(&scale).unwrap();
        assert_eq!(follows.bounds, Some(Bounds { max: 4, target: 8, ..bounds }));
        assert_eq!((follows.threads(), follows.check()), (2, Ok(())));
    }
}
