//! `tradewind rollback MODEL`

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tradewind_api::deploy::{MoveAnswer, RollbackRequest};
use tradewind_core::{ModelName, RevisionNumber};

use super::{deploy, moves};
use crate::{
    failure::Failure,
    session::{Session, requested_by},
    terminal::{self, Format, OutputArgs},
};

/// Move all users back to what served them before
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tradewind rollback digits
  tradewind rollback digits --to 3")]
pub(crate) struct Args {
    /// The model
    model: ModelName,
    /// The revision to go to [default: the newest one before that has served and is not bad]
    #[arg(long, value_name = "REVISION")]
    to: Option<RevisionNumber>,
    /// Go there although it was rolled back from
    #[arg(long, requires = "to")]
    allow_bad: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Whoever goes back does not want to hear that somebody else is writing at this moment.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let (began, format) = (Instant::now(), args.output.format);
    let request = RollbackRequest { to: args.to, allow_bad: args.allow_bad, requested_by: requested_by() };
    let answer = go_back(session, &args.model, &request).await?;
    let Some(rollout) = answer.rollout.filter(|_| !answer.warm) else {
        moves::conclude(session, &answer, format, began).await?;
        return match answer.from.filter(|from| *from > answer.revision && format == Format::Table) {
            Some(from) => {
                terminal::say(&format!("  revision {from} is remembered as bad; deploying it again takes --allow-bad"))
            }
            None => Ok(()),
        };
    };
    if format == Format::Table {
        terminal::say(&format!(
            "version {} is not warm any more: it is brought up and verified again, as revision {}",
            answer.version, answer.revision
        ))?;
    }
    deploy::follow_to_monitoring(session, &args.model, rollout, format, began).await
}

async fn go_back(session: &Session, model: &ModelName, request: &RollbackRequest) -> Result<MoveAnswer, Failure> {
    let began = Instant::now();
    loop {
        match session.client.rollback(model, request).await {
            Err(error) if error.retryable() && began.elapsed() < PATIENCE => sleep(RETRY_INTERVAL).await,
            answer => return Ok(answer?),
        }
    }
}
