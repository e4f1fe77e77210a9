//! `tradewind optimize MODEL`: a leaner version of a model, kept only if it is as good.

mod python;
mod quality;
mod words;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tradewind_api::SCHEMA_VERSION;
use tradewind_core::{ModelName, VersionNumber, batch::USUAL_ROWS, duration::Span, tune::Setup};

use self::quality::{Quality, Trials};
use super::models::push;
use crate::{
    failure::Failure,
    measure::{Local, Served},
    roles,
    session::{Session, parse_model},
    terminal::{self, Format, OutputArgs, Paint},
};

/// How both are measured: as they are usually run, by one client and by many.
const SETUP: Setup = Setup { replicas: 1, threads: 1, max_batch_rows: USUAL_ROWS };
const MANY_CLIENTS: u32 = 16;

/// Make a leaner version of a model, and keep it if it answers as well
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind optimize digits --graph
  tradewind optimize resnet:3 --graph --int8 --calibrate images.jsonl --evaluate labelled.jsonl --max-accuracy-loss 0.005")]
pub(crate) struct Args {
    /// The model, or MODEL:VERSION [default version: the newest]
    #[arg(value_name = "MODEL[:VERSION]", value_parser = parse_model)]
    model: (ModelName, Option<VersionNumber>),
    /// Optimise the graph: constants folded, operators joined
    #[arg(long, required_unless_present = "int8")]
    graph: bool,
    /// Make 8-bit integers of the weights
    #[arg(long)]
    int8: bool,
    /// Requests to calibrate int8 with, as JSON, one a line; then activations are integers by fixed scales
    #[arg(long, value_name = "FILE", requires = "int8")]
    calibrate: Option<PathBuf>,
    /// Golden cases to compare the accuracy by, as JSON, one a line
    #[arg(long, value_name = "FILE")]
    evaluate: Option<PathBuf>,
    /// How much worse the answers may be, as a part of all expected elements [default: 0.01]
    #[arg(long, value_name = "PART", requires = "evaluate", value_parser = roles::parse_part)]
    max_accuracy_loss: Option<f64>,
    /// How long each of the two is measured by each number of clients
    #[arg(long, value_name = "TIME", default_value = "1s")]
    duration: Span,
    /// The Python to make an environment with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    /// Say what would come of it, and publish nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Report {
    schema_version: u32,
    model: ModelName,
    version: VersionNumber,
    /// How activations were made integers: `static` or `dynamic`; null without `--int8`.
    int8: Option<String>,
    /// How many there are of each operator, before and after.
    operators: Value,
    before: Figures,
    after: Figures,
    /// Why it is not kept; empty if it is.
    refused: Vec<String>,
    /// The new version; absent if it is not kept, and with `--dry-run`.
    published: Option<VersionNumber>,
}

/// A model in numbers.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    /// Of the model's file.
    bytes: u64,
    /// Of a replica that has worked.
    memory_bytes: u64,
    /// With one client.
    p50_us: u64,
    p99_us: u64,
    per_second: f64,
    /// With 16 clients.
    per_second_of_many: f64,
    #[serde(flatten)]
    quality: Quality,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let (format, (name, version)) = (args.output.format, &args.model);
    let bar = terminal::spinner(format, "fetching");
    let trials = Trials::read(args.evaluate.as_deref())?;
    let local = Local::fetch(session, name, *version, &bar).await?;
    refuse_external_data(&local)?;
    let trials = trials.with_golden_cases(&local)?;
    bar.set_message("preparing Python (this takes a minute the first time)");
    let environment = python::Environment::prepare(&args.python).await?;
    let leaner =
        tempfile::tempdir().map_err(|error| Failure::failed("cannot make a directory").cause(error.to_string()))?;
    bar.set_message("optimising");
    copy(&local, leaner.path())?;
    let made = environment.optimise(&args, &local, &trials, leaner.path()).await?;
    bar.set_message("measuring it as it was");
    let before = figures(&args, &local, &local.directory, &trials).await?;
    bar.set_message("measuring it as it would be");
    let after = figures(&args, &local, leaner.path(), &trials).await?;
    bar.finish_and_clear();

    let refused = quality::refuse(&before.quality, &after.quality, args.max_accuracy_loss);
    let published = if refused.is_empty() && !args.dry_run {
        let source = leaner.path().to_string_lossy().into_owned();
        Some(push::push(session, &source, Some(name.clone()), None, format).await?.version.version)
    } else {
        None
    };
    let report = Report {
        schema_version: SCHEMA_VERSION,
        model: name.clone(),
        version: local.version.version,
        int8: made.int8,
        operators: made.operators,
        before,
        after,
        refused,
        published,
    };
    match format {
        Format::Json => terminal::print_json(&report)?,
        Format::Table => terminal::print(&words::describe(&report, Paint::for_stdout()))?,
    }
    match report.refused.first() {
        None => Ok(()),
        Some(reason) => Err(Failure::failed(format!("the leaner version of {name} is not kept")).cause(reason.clone()).hint(
            "int8 rounds: if its answers are good enough, expect the label alone in golden cases, or widen their tolerance",
        )),
    }
}

/// Weights beside the model would have to be written anew too.
fn refuse_external_data(local: &Local) -> Result<(), Failure> {
    if local.version.manifest.files.is_empty() {
        return Ok(());
    }
    let message = format!("{} {} keeps weights in files of their own", local.name(), local.version.version);
    Err(Failure::new(tradewind_api::Code::Refused, message).hint("save it as one file of at most 2 GiB first"))
}

fn copy(local: &Local, to: &Path) -> Result<(), Failure> {
    let copied = local.version.index.files.keys().try_for_each(|path| {
        let target = to.join(path);
        if let Some(directory) = target.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::copy(local.directory.join(path), target).map(drop)
    });
    copied.map_err(|error| Failure::failed("cannot copy the bundle").cause(error.to_string()))
}

async fn figures(args: &Args, local: &Local, directory: &Path, trials: &Trials) -> Result<Figures, Failure> {
    let model = directory.join(&local.version.manifest.model);
    let size =
        std::fs::metadata(&model).map_err(|error| Failure::failed("the model is gone").cause(error.to_string()))?;
    let served = Served::start(local, directory, SETUP).await?;
    let quality = trials.ask(&served, local.name()).await?;
    let (question, duration) = (local.question()?, args.duration.duration());
    let one = served.load(&question, 1, duration).await?;
    let many = served.load(&question, MANY_CLIENTS, duration).await?;
    Ok(Figures {
        bytes: size.len(),
        memory_bytes: served.memory(),
        p50_us: one.p50_us,
        p99_us: one.p99_us,
        per_second: one.throughput,
        per_second_of_many: many.throughput,
        quality,
    })
}
