//! `tradewind logs MODEL --region R`

use futures_util::StreamExt;
use tradewind_api::{Code, agent::LogQuery, client};
use tradewind_core::{ModelName, RegionName, RevisionNumber};

use crate::{failure::Failure, session::Session, terminal};

/// The log of a model's replicas in one region
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind logs digits --region us-east1
  tradewind logs digits --region us-east1 --revision 3 --lines 50 --follow")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// The region
    #[arg(long, value_name = "REGION")]
    region: RegionName,
    /// Only the replicas of this revision
    #[arg(long, value_name = "N")]
    revision: Option<RevisionNumber>,
    /// Only the last lines of each replica [default: all that is kept]
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u32>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let query = LogQuery { model: args.model, revision: args.revision, lines: args.lines, follow: args.follow };
    let mut text = std::pin::pin!(client::body_stream(session.client.logs(&args.region, &query).await?));
    while let Some(chunk) = text.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::new(Code::Unreachable, format!("the log of {} in {} broke off", query.model, args.region))
                .cause(error.to_string())
        })?;
        terminal::print_bytes(&chunk)?;
    }
    Ok(())
}
