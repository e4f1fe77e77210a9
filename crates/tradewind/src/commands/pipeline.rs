//! `tradewind pipeline run/status`: from data to a verified, routed model.

mod file;
mod lineage;
mod plan;
mod progress;
mod publish;
mod run;
mod status;
mod timeline;
mod words;

use std::{error::Error, path::PathBuf};

use serde_json::Value;
use tradewind_core::{RegionName, causes::causes, resources::Memory};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{Format, OutputArgs},
};

/// Preprocess, train and evaluate batches of data in parallel; aggregate, publish and deploy the model
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind pipeline run pipeline.toml --plan
  tradewind pipeline run pipeline.toml --deploy us-east1,europe-west1")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: PipelineCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PipelineCommand {
    Run(Box<RunArgs>),
    Status(StatusArgs),
}

/// Run a pipeline; what an earlier run has done is not done again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind pipeline run pipeline.toml --workers 8 --set learning_rate=0.1
  tradewind pipeline run pipeline.toml --deploy us-east1,europe-west1")]
struct RunArgs {
    /// The pipeline's file
    #[arg(value_name = "FILE", default_value = "pipeline.toml")]
    file: PathBuf,
    /// Say what would run, what is done already and how long it may take, and run nothing
    #[arg(long)]
    plan: bool,
    /// Steps that run at the same time [default: as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Memory that steps which say how much they need may take together [default: what is available]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Memory>,
    /// A parameter instead of the file's; a value that is no JSON is a string
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_parameter)]
    set: Vec<(String, Value)>,
    /// Deploy the new version to these regions, separated by commas [default: those of the file]
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "no_publish")]
    deploy: Vec<RegionName>,
    /// Make the model and judge it by itself, and publish nothing; this needs no control plane
    #[arg(long)]
    no_publish: bool,
    /// Keep no more than this of what runs have made; what the newest run used is kept in any case
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    keep: Memory,
    /// Begin nothing while the disk has less than this left
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    min_free: Memory,
    /// The Python to make environments with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// How the newest run of a pipeline goes, or went
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind pipeline status pipeline.toml --watch
  tradewind pipeline status pipeline.toml --timeline workers.svg")]
struct StatusArgs {
    /// The pipeline's file
    #[arg(value_name = "FILE", default_value = "pipeline.toml")]
    file: PathBuf,
    /// Stay until the run has ended
    #[arg(long)]
    watch: bool,
    /// Draw what each worker did when, as SVG
    #[arg(long, value_name = "FILE.svg")]
    timeline: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(crate) fn format(&self) -> Format {
        match &self.command {
            PipelineCommand::Run(args) => args.output.format,
            PipelineCommand::Status(args) => args.output.format,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        PipelineCommand::Run(args) => Box::pin(run::run(*args, session)).await,
        PipelineCommand::Status(args) => status::run(&args).await,
    }
}

fn parse_parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

/// What went wrong, with its causes.
fn failed(error: &(dyn Error + 'static), hint: Option<&str>) -> Failure {
    let mut words = causes(error).map(|cause| cause.to_string());
    let failure = Failure::failed(words.next().unwrap_or_default());
    let failure = words.fold(failure, Failure::cause);
    hint.into_iter().fold(failure, |failure, hint| failure.hint(hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_json_or_strings() {
        for (text, name, value) in [
            ("rate=0.1", "rate", json!(0.1)),
            ("layers=[1,2]", "layers", json!([1, 2])),
            ("kind=linear", "kind", json!("linear")),
            ("note=a=b", "note", json!("a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(parse_parameter(text).unwrap(), (name.to_owned(), value));
        }
        assert!(parse_parameter("rate").is_err() && parse_parameter("=1").is_err());
    }
}
