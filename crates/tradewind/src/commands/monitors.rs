//! `tradewind monitors export`

mod export;

use crate::{failure::Failure, session::Session};

/// What watches the world
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind monitors export --prometheus-rules > tradewind.rules.yml
  tradewind monitors export --grafana > tradewind.dashboard.json")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: MonitorsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MonitorsCommand {
    Export(export::Args),
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    match args.command {
        MonitorsCommand::Export(args) => export::run(args, session).await,
    }
}
