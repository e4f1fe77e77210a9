//! `tradewind diff MODEL FROM [TO]`

use tradewind_api::deploy::DiffQuery;
use tradewind_core::{ModelName, RevisionNumber};

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, OutputArgs},
};

/// What one revision fixes otherwise than another
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind diff digits 1
  tradewind diff digits 2 3 -o json")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// A revision
    from: RevisionNumber,
    /// Another one [default: what users get]
    to: Option<RevisionNumber>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let query = DiffQuery { from: args.from, to: args.to };
    let diff = session.client.diff(&args.model, &query).await?;
    if args.output.format == Format::Json {
        return terminal::print_json(&diff);
    }
    terminal::say(&format!("{}, revision {} -> {}", diff.model, diff.from, diff.to))?;
    if diff.changes.is_empty() {
        return terminal::say("  nothing differs");
    }
    diff.changes.iter().try_for_each(|change| terminal::say(&format!("  {change}")))
}
