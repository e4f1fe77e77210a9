//! `tradewind scale MODEL --region R`

use tradewind_api::deploy::{ScaleAnswer, ScaleRequest};
use tradewind_core::{ModelName, RegionName};

use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs},
};

/// Set the number of replicas in a region by hand, until it is given back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind scale digits --region us-east1 --replicas 5
  tradewind scale digits --region us-east1 --auto")]
#[group(id = "number", required = true, multiple = false, args = ["replicas", "auto"])]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// The region
    #[arg(long)]
    region: RegionName,
    /// So many from now on, also beyond the bounds of the revision and across revisions
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// As the revision says again: its number, or what demand asks for within its bounds
    #[arg(long)]
    auto: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let request = ScaleRequest { region: args.region, replicas: args.replicas, requested_by: requested_by() };
    let answer = session.client.scale(&args.model, &request).await?;
    match args.output.format {
        Format::Json => terminal::print_json(&answer),
        Format::Table => terminal::say(&words(&answer)),
    }
}

fn words(answer: &ScaleAnswer) -> String {
    let ScaleAnswer { model, region, replicas, before, revision_says, .. } = answer;
    match (replicas, before) {
        (Some(now), Some(before)) if now == before => format!("{model} has {now} by hand in {region} already"),
        (Some(now), _) => format!(
            "{model} has {now} in {region} from now on; the revision says {revision_says}. To give it back: tradewind \
             scale {model} --region {region} --auto"
        ),
        (None, Some(before)) => {
            format!("{model} had {before} by hand in {region}; it is as the revision says again: {revision_says}")
        }
        (None, None) => format!("nothing is set by hand in {region}: the revision says {revision_says}"),
    }
}
