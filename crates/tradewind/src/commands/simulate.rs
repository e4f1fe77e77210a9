//! `tradewind simulate`: a deployment file's rollout played through on a virtual clock, with what may go wrong. It needs no
//! control plane.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tradewind_api::SCHEMA_VERSION;
use tradewind_core::{
    ModelName, RegionName,
    simulate::{
        self, Broken, Ending, HORIZON, Moment, Outcome, STEPS_LIMIT, Scenario, Story,
        faults::{self, Misunderstood},
        people, seed,
    },
};

use super::deploy::file::DeploymentFile;
use crate::{
    failure::Failure,
    terminal::{self, Format, OutputArgs},
};

mod page;

/// Play a rollout through with what may go wrong, on a virtual clock and without a control plane
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind simulate -f deployment.toml --faults region-down:europe-west1@30s,slow:us-east1
  tradewind simulate -f deployment.toml --decide pause@10s,resume@5m")]
pub(crate) struct Args {
    /// The deployment, in a file as `deploy` takes it
    #[arg(short, long, value_name = "deployment.toml", required_unless_present = "seed")]
    file: Option<PathBuf>,
    /// What goes wrong, and when since the beginning: region-down:R@30s-2m, slow:RxN, fails:R#N, wrong:R, bad:R@1m,
    /// unclear, gateway-deaf:R@30s-2m, cut:R@30s-2m, control-down@30s-2m
    #[arg(long, value_name = "FAULT,FAULT", requires = "file")]
    faults: Option<String>,
    /// What people tell the rollout, and when: pause@10s, resume@5m, promote@1m, promote-full@1m, abort@2m
    #[arg(long, value_name = "DECISION,DECISION", requires = "file")]
    decide: Option<String>,
    /// Nothing serves before
    #[arg(long, requires = "file")]
    first: bool,
    /// Have random things go wrong, the same ones for the same number; without a file, the whole scenario is random
    #[arg(long, value_name = "N", conflicts_with = "faults")]
    seed: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The document of `-o json`.
#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    model: &'a ModelName,
    strategy: String,
    faults: Vec<String>,
    decisions: Vec<String>,
    timeline: Vec<Line<'a>>,
    ending: &'a Ending,
    /// In one sentence.
    users: String,
    /// What must never happen, and has.
    broken: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    region: Option<&'a RegionName>,
    text: &'a str,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let scenario = match (&args.file, args.seed) {
        (Some(file), _) => scenario(args, file)?,
        (None, seed) => Scenario::of_seed(seed.unwrap_or_default()),
    };
    let story = simulate::simulate(&scenario);
    match args.output.format {
        Format::Json => terminal::print_json(&document(&scenario, &story))?,
        Format::Table => terminal::print(&page::page(&scenario, &story))?,
    }
    conclude(&story)
}

fn scenario(args: &Args, path: &Path) -> Result<Scenario, Failure> {
    let file = DeploymentFile::read(path)?;
    let model = file.model.as_deref().map_or("model", named);
    let model = model.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let request = file.request();
    let strategy = request.strategy();
    let named = request.regions.filter(|regions| !regions.is_empty());
    let regions = named.ok_or_else(|| {
        Failure::usage("the deployment file names no regions").hint("add `regions = [\"us-east1\", \"europe-west1\"]`")
    })?;
    strategy
        .check(&regions)
        .map_err(|problem| Failure::usage(problem).hint("strategies are written as in docs/deploying.md"))?;
    let regions = strategy.in_order(&regions);
    let faults = match (&args.faults, args.seed) {
        (Some(written), _) => faults::parse(written, &regions).map_err(misunderstood)?,
        (None, Some(seed)) => seed::faults(seed, &regions),
        (None, None) => Vec::new(),
    };
    let mut decisions = match &args.decide {
        Some(written) => people::parse(written).map_err(misunderstood)?,
        None => Vec::new(),
    };
    decisions.sort_by_key(|told| told.at);
    Ok(Scenario { replaces: !args.first, faults, decisions, ..Scenario::new(model, regions, strategy) })
}

/// The name of a model that is given as a name, `name:version` or a path.
fn named(model: &str) -> &str {
    let last = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    last.split(':').next().unwrap_or(last).trim_end_matches(".onnx")
}

fn misunderstood(error: Misunderstood) -> Failure {
    Failure::usage(error.problem).hint(error.hint)
}

fn document<'a>(scenario: &'a Scenario, story: &'a Story) -> Document<'a> {
    let line =
        |moment: &'a Moment| Line { at_ms: moment.at.as_millis(), region: moment.region.as_ref(), text: &moment.text };
    Document {
        schema_version: SCHEMA_VERSION,
        model: &scenario.model,
        strategy: scenario.strategy.summary(),
        faults: scenario.faults.iter().map(ToString::to_string).collect(),
        decisions: scenario.decisions.iter().map(ToString::to_string).collect(),
        timeline: story.timeline.iter().map(line).collect(),
        ending: &story.ending,
        users: story.ending.sentence(),
        broken: story.broken.as_ref().map(told),
    }
}

fn told(Broken { at, promise, detail }: &Broken) -> String {
    format!("after {at} a promise is broken: {promise}: {detail}")
}

/// What the exit code says of the story.
fn conclude(story: &Story) -> Result<(), Failure> {
    if let Some(broken) = &story.broken {
        let hint =
            "this is a fault of Tradewind, not of the deployment: please report it with the command and its file";
        return Err(Failure::failed(told(broken)).hint(hint));
    }
    let Ending { outcome, revision, failure, waits, .. } = &story.ending;
    let because = |why: &Option<String>| why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match outcome {
        Outcome::Succeeded | Outcome::Standby => Ok(()),
        Outcome::Failed => Err(Failure::failed(format!("revision {revision} would fail{}", because(failure)))),
        Outcome::RolledBack => {
            Err(Failure::failed(format!("revision {revision} would be rolled back{}", because(failure))))
        }
        Outcome::Waits => Err(Failure::waiting(format!("the rollout would wait for a person{}", because(waits)))),
        Outcome::Unfinished => Err(Failure::unfinished(format!(
            "the simulation was cut off: it goes on for {HORIZON} and {STEPS_LIMIT} steps at most"
        ))),
    }
}
