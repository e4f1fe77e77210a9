//! `tradewind status [MODEL] [--watch]`

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use serde::Serialize;
use tokio::time;
use tradewind_core::ModelName;

use crate::{
    failure::Failure,
    outage::{Next, Outage},
    session::Session,
    terminal::{self, Format, OutputArgs, Paint},
};

pub(super) mod model;
pub(super) mod world;

/// How often `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What users get now, and how each region is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind status --watch
  tradewind status digits -o json")]
pub(crate) struct Args {
    /// One model in full [default: all of them, a line each]
    model: Option<ModelName>,
    /// Look again every second until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    if args.watch {
        return tokio::select! {
            ended = watch(&args, session) => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
    }
    terminal::print(&look(&args, session).await?)
}

/// One look, rendered.
async fn look(args: &Args, session: &Session) -> Result<String, Failure> {
    let paint = Paint::for_stdout();
    Ok(match &args.model {
        Some(model) => {
            let status = session.client.deployment_status(model).await?;
            render(args.output.format, &status, || model::render(&status, paint))
        }
        None => {
            let world = session.client.world().await?;
            render(args.output.format, &world, || world::render(&world, paint))
        }
    })
}

fn render<T: Serialize>(format: Format, document: &T, table: impl FnOnce() -> String) -> String {
    let json = match format {
        Format::Table => return table(),
        Format::Json if io::stdout().is_terminal() => serde_json::to_string_pretty(document),
        Format::Json => serde_json::to_string(document),
    };
    json.expect("documents have string keys and finite numbers") + "\n"
}

/// On a terminal the picture is redrawn in place; elsewhere it is printed whenever it has changed.
async fn watch(args: &Args, session: &Session) -> Result<(), Failure> {
    let redraws = args.output.format == Format::Table && io::stdout().is_terminal();
    let mut outage = Outage::default();
    let mut last = String::new();
    loop {
        let mut pause = WATCH_INTERVAL;
        match look(args, session).await {
            Ok(picture) => {
                outage.over();
                if redraws {
                    terminal::print(&in_place(&picture))?;
                } else if picture != last {
                    terminal::print(&picture)?;
                }
                last = picture;
            }
            Err(failure) if failure.is_unreachable() && !last.is_empty() => match outage.failed() {
                Next::GiveUp => return Err(failure),
                Next::Retry { after, say } => {
                    pause = after;
                    if say {
                        terminal::complain("\ncontrol does not answer; users are served without it. Trying again\n");
                    }
                }
            },
            Err(failure) => return Err(failure),
        }
        time::sleep(pause).await;
    }
}

/// From the top left corner, each line and then the rest of the screen cleared, so that nothing flickers.
fn in_place(picture: &str) -> String {
    format!("\x1b[H{}\x1b[J", picture.replace('\n', "\x1b[K\n"))
}
