//! `tradewind deploy`: writes the deployment, then only watches its rollout, which needs nobody to watch it.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use tradewind_api::deploy::{DeployAnswer, DeployRequest, RolloutView};
use tradewind_core::{
    ModelName, RegionName, RolloutNumber, VersionNumber,
    duration::Span,
    resources::{Cpu, Memory},
    rollout::{
        Soak,
        strategy::{MaxParallel, OnFailure, Percent, Switch},
    },
};

use super::models::push;
use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs},
};

pub(crate) mod file;
mod follow;
mod lines;
mod plan;
mod progress;
mod request;
mod verdict;

use follow::{End, Until};
pub(super) use lines::check_name;
use progress::Progress;

/// Bring a model to regions: verified in each of them before it gets traffic
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind deploy --regions us-east1,europe-west1 examples/digits/v1
  tradewind deploy digits:2 --max-parallel all --wait")]
pub(crate) struct Args {
    /// A model of the registry (NAME or NAME:VERSION), or what is pushed first: a path with a `/`, an .onnx file, a URL
    #[arg(required_unless_present = "file")]
    model: Option<String>,
    /// All regions of the deployment, separated by commas [default: those it has]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    regions: Vec<RegionName>,
    /// Regions whose users' requests never leave them, such as those of the EU [default: none]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    stay_in: Vec<RegionName>,
    /// Read the deployment from a file; flags come before it
    #[arg(short, long, value_name = "deployment.toml")]
    file: Option<PathBuf>,
    /// The model's name, when it is pushed [default: from the manifest, else from the path]
    #[arg(long)]
    name: Option<ModelName>,
    /// Leave the regions that serve now and are not listed
    #[arg(long)]
    prune: bool,
    /// Take over from a rollout that has not switched yet
    #[arg(long)]
    replace: bool,
    /// Deploy it although users were rolled back from the same before
    #[arg(long)]
    allow_bad: bool,
    /// Print the plan and the difference to what runs, and deploy nothing; a path is pushed
    #[arg(long)]
    dry_run: bool,
    /// Start the rollout and return at once
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
    /// Stay until the soak has its verdict; exit code 1 if the rollout failed
    #[arg(long, conflicts_with_all = ["detach", "dry_run"])]
    wait: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    // Those with a heading of their own come last: a heading holds for all arguments after it.
    #[command(flatten)]
    strategy: StrategyArgs,
    #[command(flatten)]
    scale: ScaleArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rollout")]
struct StrategyArgs {
    /// How many regions are worked on at once [default: 1]
    #[arg(long, value_name = "N|all", value_parser = request::parse_max_parallel)]
    max_parallel: Option<MaxParallel>,
    /// Regions that come first; all of them must succeed before another begins
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    first: Vec<RegionName>,
    /// What happens when a region has failed; `pause` asks a person [default: stop]
    #[arg(long, value_name = "stop|continue|pause", value_parser = request::parse_on_failure)]
    on_failure: Option<OnFailure>,
    /// When users are moved: all at once, wave by wave, in place where there is no room for two revisions, or a growing share [default: fleet]
    #[arg(long, value_name = "fleet|wave|in-place|canary", value_parser = request::parse_switch)]
    switch: Option<Switch>,
    /// The shares of users in percent that a canary takes, each after the soak of the one before [default: 1,10,50,100]
    #[arg(long, value_name = "1,10,..", value_delimiter = ',')]
    canary: Vec<Percent>,
    /// The keys of users who get a canary from its first step on
    #[arg(long, value_name = "USER,..", value_delimiter = ',')]
    allow: Vec<String>,
    /// Further attempts for a region that failed [default: 2]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// An attempt without progress for this long has failed [default: 10m]
    #[arg(long, value_name = "DURATION")]
    progress_deadline: Option<Span>,
    /// Go on without regions that cannot be reached, if at least so many remain [default: all listed]
    #[arg(long, value_name = "N")]
    min_regions: Option<u32>,
    /// How long the new version is watched after each move of users [default: 60s]
    #[arg(long, value_name = "DURATION")]
    soak: Option<Span>,
    /// How long the old version stays warm after the soak [default: 10m]
    #[arg(long, value_name = "DURATION")]
    standby: Option<Span>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Scale")]
struct ScaleArgs {
    /// Replicas in each region, whatever is asked of them [default: 1]
    #[arg(long, value_name = "N", conflicts_with_all = ["min_replicas", "max_replicas", "target_in_flight", "scale_down_after"])]
    replicas: Option<u32>,
    /// The fewest replicas in a region whose number follows demand; 0: none while nobody asks [default: 1]
    #[arg(long, value_name = "N")]
    min_replicas: Option<u32>,
    /// The most replicas in a region; makes their number follow demand
    #[arg(long, value_name = "N")]
    max_replicas: Option<u32>,
    /// Requests in flight for each replica, waiting ones included: more of them start another replica [default: 2]
    #[arg(long, value_name = "N")]
    target_in_flight: Option<u32>,
    /// Replicas that were not needed for so long are ended [default: 10m]
    #[arg(long, value_name = "DURATION")]
    scale_down_after: Option<Span>,
    /// Time on cores that each replica may take (0: all there is)
    #[arg(long, value_name = "CORES")]
    cpu: Option<Cpu>,
    /// Memory that each replica may take, such as 512MiB; one that takes more is started anew (0B: all there is)
    #[arg(long, value_name = "SIZE")]
    memory: Option<Memory>,
    /// Threads that one inference may use (0: what --cpu is worth) [default: what --cpu is worth, or 1]
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Inferences that each replica runs side by side [default: 1]
    #[arg(long, value_name = "N")]
    instances: Option<u32>,
    /// Most rows of one inference for several requests; 1: one by one (0: as the bundle says)
    #[arg(long, value_name = "N")]
    max_batch_rows: Option<u32>,
    /// Most requests in flight for each replica; what is beyond goes to regions with room (0: found out by gateways)
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let started = Instant::now();
    let format = args.output.format;
    let mut wanted = request::assemble(&args)?;
    let (model, local) = match wanted.model.clone() {
        request::Model::Registered(name) => (name, None),
        request::Model::Pushed(source) => {
            let published = push::push(session, &source, args.name.clone(), None, format).await?;
            wanted.request.version = Some(published.version.version);
            (published.version.name, Some(PathBuf::from(source)))
        }
    };
    let answer = session.client.deploy(&model, &wanted.request).await.map_err(|error| unknown(error.into(), &model))?;
    if format == Format::Table {
        let version = session.client.version(&model, answer.plan.version).await?;
        terminal::print(&plan::head(&version, &answer.plan))?;
    }
    let soaking = match answer.rollout {
        None if args.wait => soaking(session, &answer).await?,
        _ => None,
    };
    let Some(rollout) = answer.rollout.or(soaking) else { return plan::end_without_rollout(&answer, format) };
    if args.detach {
        return detach(&answer, rollout, format);
    }
    let until = if args.wait { Until::SoakVerdict } else { Until::Monitoring };
    let view = watch(session, &model, rollout, until, format).await?;
    conclude(session, &view, local.as_deref(), format, started).await
}

/// Brings a version of the registry to regions and stays until users get it. Programs are told nothing of it.
pub(super) async fn bring(
    session: &Session,
    model: &ModelName,
    version: VersionNumber,
    regions: Vec<RegionName>,
    format: Format,
) -> Result<(), Failure> {
    let started = Instant::now();
    let request = DeployRequest { version: Some(version), regions: Some(regions), ..DeployRequest::default() };
    let answer = session.client.deploy(model, &request).await?;
    if format == Format::Table {
        terminal::print(&plan::head(&session.client.version(model, version).await?, &answer.plan))?;
    }
    match (answer.rollout, format) {
        (None, Format::Json) => Ok(()),
        (None, Format::Table) => plan::end_without_rollout(&answer, format),
        (Some(rollout), Format::Json) => {
            let view = watch(session, model, rollout, Until::Monitoring, format).await?;
            verdict::failure(&view).map_or(Ok(()), Err)
        }
        (Some(rollout), Format::Table) => follow_to_monitoring(session, model, rollout, format, started).await,
    }
}

/// Stays with a rollout that somebody else began until users get it and monitoring is active.
pub(super) async fn follow_to_monitoring(
    session: &Session,
    model: &ModelName,
    rollout: RolloutNumber,
    format: Format,
    started: Instant,
) -> Result<(), Failure> {
    let view = watch(session, model, rollout, Until::Monitoring, format).await?;
    conclude(session, &view, None, format, started).await
}

async fn watch(
    session: &Session,
    model: &ModelName,
    rollout: RolloutNumber,
    until: Until,
    format: Format,
) -> Result<RolloutView, Failure> {
    let mut progress = Progress::new(format);
    let end = follow::follow(&session.client, model, rollout, until, &mut progress).await;
    progress.close();
    match end? {
        End::Detached => Err(verdict::detached(model)),
        End::Reached(view) => Ok(*view),
    }
}

/// The rollout whose verdict is still to come of what runs already.
async fn soaking(session: &Session, answer: &DeployAnswer) -> Result<Option<RolloutNumber>, Failure> {
    let newest = session.client.rollout(&answer.plan.model, "latest").await?;
    let soaks = newest.revision == answer.plan.revision && newest.soak == Soak::Running;
    Ok((answer.plan.unchanged && soaks).then_some(newest.rollout))
}

/// A name that the registry does not have may be a directory here.
fn unknown(failure: Failure, model: &ModelName) -> Failure {
    if failure.is_not_found() && Path::new(model.as_str()).is_dir() {
        return failure.hint(format!("to deploy the directory of that name: tradewind deploy ./{model}"));
    }
    failure
}

fn detach(answer: &DeployAnswer, rollout: RolloutNumber, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return terminal::print_json(answer);
    }
    let model = &answer.plan.model;
    terminal::say(&format!("\n  rollout {rollout} is under way. Follow it: tradewind status {model} --watch"))
}

async fn conclude(
    session: &Session,
    view: &RolloutView,
    local: Option<&Path>,
    format: Format,
    started: Instant,
) -> Result<(), Failure> {
    if format == Format::Json {
        terminal::print_json(view)?;
    }
    if let Some(failure) = verdict::failure(view) {
        return Err(failure);
    }
    match format {
        Format::Json => Ok(()),
        Format::Table => terminal::print(&verdict::success(session, view, local, started.elapsed()).await),
    }
}
