//! Watching a rollout to its end, through restarts of control, until somebody leaves.

use tokio::time;
use tradewind_api::{Client, Code, client, deploy::RolloutView, ndjson};
use tradewind_core::{
    ModelName, RolloutNumber,
    rollout::{RolloutState, Soak},
};

use super::progress::Progress;
use crate::{
    failure::Failure,
    outage::{GIVE_UP_AFTER, Next, Outage, SAY_AFTER},
};

/// How long the watching goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Users get the revision and monitoring is active.
    Monitoring,
    SoakVerdict,
}

impl Until {
    fn is_reached(self, view: &RolloutView) -> bool {
        let verdict = matches!(view.soak, Soak::Passed | Soak::Inconclusive | Soak::Failed);
        let everybody_has_it = view.state == RolloutState::Soaking && view.stage.is_last();
        view.state.is_final() || everybody_has_it && (self == Self::Monitoring || verdict) || view.paused.is_some()
    }
}

/// How the watching ended.
#[derive(Debug)]
pub(super) enum End {
    Reached(Box<RolloutView>),
    /// Somebody pressed Ctrl-C. The rollout goes on.
    Detached,
}

pub(super) async fn follow(
    client: &Client,
    model: &ModelName,
    rollout: RolloutNumber,
    until: Until,
    progress: &mut Progress,
) -> Result<End, Failure> {
    tokio::select! {
        view = watch(client, model, rollout, until, progress) => view.map(|view| End::Reached(Box::new(view))),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached),
    }
}

async fn watch(
    client: &Client,
    model: &ModelName,
    rollout: RolloutNumber,
    until: Until,
    progress: &mut Progress,
) -> Result<RolloutView, Failure> {
    let mut outage = Outage::default();
    let number = rollout.to_string();
    loop {
        let cause = match client.watch_rollout(model, &number).await {
            Ok(mut views) => loop {
                match views.next().await {
                    Ok(view) => {
                        if outage.over() {
                            progress.notice("control answers again")?;
                        }
                        progress.show(&view)?;
                        if until.is_reached(&view) {
                            return Ok(view);
                        }
                    }
                    Err(error) => break broken(error)?,
                }
            },
            Err(error) if error.retryable() => Failure::from(error).root().to_owned(),
            Err(error) => return Err(error.into()),
        };
        match outage.failed() {
            Next::Retry { after, say } => {
                if say {
                    let silent = SAY_AFTER.as_secs();
                    progress.notice(&format!(
                        "control has not answered for {silent} s; the rollout goes on. Trying again"
                    ))?;
                }
                time::sleep(after).await;
            }
            Next::GiveUp => return Err(gave_up(client, model, cause)),
        }
    }
}

/// Why a stream is over, unless trying again is of no use.
fn broken(error: ndjson::Error) -> Result<String, Failure> {
    match error {
        ndjson::Error::Malformed { source } => {
            Err(client::Error::Protocol { url: "control".to_owned(), detail: source.to_string() }.into())
        }
        error => Ok(error.to_string()),
    }
}

fn gave_up(client: &Client, model: &ModelName, cause: String) -> Failure {
    let waited = GIVE_UP_AFTER.as_secs();
    Failure::new(Code::Unreachable, format!("no answer from {} for {waited} s", client.base()))
        .cause(cause)
        .note("The rollout goes on.")
        .hint(format!("pick it up with `tradewind status {model} --watch`"))
}
