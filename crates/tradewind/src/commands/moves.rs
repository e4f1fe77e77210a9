//! Users who are moved in one epoch: who has to know of it, and how soon everybody does.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use tradewind_api::{
    Client,
    deploy::{MoveAnswer, RolloutView, RoutingView},
};
use tradewind_core::RolloutNumber;

use crate::{
    failure::Failure,
    session::Session,
    terminal::{self, Format, units},
};

/// Gateways that have not taken up an epoch by then are named.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells what has happened, once all gateways know.
pub(super) async fn conclude(
    session: &Session,
    answer: &MoveAnswer,
    format: Format,
    began: Instant,
) -> Result<(), Failure> {
    let MoveAnswer { model, revision, version, slot, .. } = answer;
    let (Some(rollout), Some(epoch)) = (answer.rollout, answer.epoch) else {
        return match format {
            Format::Json => terminal::print_json(answer),
            Format::Table => {
                terminal::say(&format!("users of {model} get revision {revision} (version {version}) already"))
            }
        };
    };
    let routing = timeout(PATIENCE, taken_up(&session.client, answer, rollout)).await;
    if format == Format::Json {
        terminal::print_json(answer)?;
    }
    let taken_up = routing.unwrap_or(Ok(None))?;
    let Some(RoutingView { acknowledged, gateways, skew_ms, .. }) = taken_up else {
        return Err(unfinished(session, answer).await);
    };
    if format == Format::Json {
        return Ok(());
    }
    let skew = skew_ms.map(|skew| format!(", skew {skew} ms")).unwrap_or_default();
    terminal::say(&format!(
        "users of {model} get revision {revision} (version {version}, slot {slot}) after {}",
        units::took(began.elapsed())
    ))?;
    terminal::say(&format!("  routing  epoch {epoch} acknowledged by {acknowledged} of {gateways} gateways{skew}"))
}

/// Waits until every gateway that control hears of has taken up what was committed; nothing if control went away meanwhile.
async fn taken_up(
    client: &Client,
    answer: &MoveAnswer,
    rollout: RolloutNumber,
) -> Result<Option<RoutingView>, Failure> {
    let mut views = client.watch_rollout(&answer.model, &rollout.to_string()).await?;
    while let Ok(RolloutView { routing, .. }) = views.next().await {
        if let Some(routing) = routing.filter(|routing| routing.acknowledged >= routing.gateways) {
            return Ok(Some(routing));
        }
    }
    Ok(None)
}

/// It is committed, and somebody has not heard of it.
async fn unfinished(session: &Session, answer: &MoveAnswer) -> Failure {
    let MoveAnswer { model, revision, .. } = answer;
    let regions = session.client.regions().await.map(|list| list.regions).unwrap_or_default();
    let behind = regions.iter().flat_map(|region| {
        let stale = region.gateways.iter().filter(|gateway| gateway.stale || !gateway.alive);
        stale.map(move |gateway| format!("{} in {}", gateway.address, region.name))
    });
    let failure = Failure::unfinished(format!("not every gateway has taken up revision {revision} of {model} yet"));
    let failure = behind.fold(failure, |failure, gateway| failure.cause(format!("the gateway {gateway} has not")));
    failure
        .note("It is committed: they take it up as soon as they hear of it.")
        .hint(format!("watch them with `tradewind rollout show {model}`"))
}
