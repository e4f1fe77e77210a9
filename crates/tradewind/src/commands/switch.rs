//! `tradewind switch MODEL --to SLOT`

use std::time::Instant;

use tradewind_api::deploy::SwitchRequest;
use tradewind_core::{ModelName, Slot};

use super::moves;
use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::OutputArgs,
};

/// Move all users to what the other slot holds, in one epoch
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind switch digits --to blue
  tradewind switch digits --to green -o json")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// The slot that users get from now on; what it holds has to be warm
    #[arg(long, value_name = "blue|green", value_parser = parse_slot)]
    to: Slot,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let began = Instant::now();
    let request = SwitchRequest { to: args.to, requested_by: requested_by() };
    let answer = session.client.switch(&args.model, &request).await?;
    moves::conclude(session, &answer, args.output.format, began).await
}

fn parse_slot(text: &str) -> Result<Slot, String> {
    let slot = Slot::named(text);
    slot.ok_or_else(|| "the slots are `blue` and `green`".to_owned())
}
