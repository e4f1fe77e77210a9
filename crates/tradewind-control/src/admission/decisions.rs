//! What people tell a rollout on its way.

use std::sync::Arc;

use tradewind_api::{Code, Problem};
use tradewind_core::{
    ModelName, Timestamp,
    event::{EventKind, Severity},
    rollout::{
        Rollout,
        course::{Audience, Refusal},
    },
};
use tradewind_store::Txn;

use super::{CONFLICT_RETRIES, Existing, Loaded, conflict, event, not_deployed, person};
use crate::{
    hub::Hub,
    repository::{Repository, put},
};

/// Nothing new is begun.
pub async fn pause(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    by: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    let by = person(by);
    decide(repository, hub, model, now, |rollout| {
        rollout.pause(&by, now)?;
        Ok(format!("revision {} is paused by {by}", rollout.revision))
    })
    .await
}

/// It goes on, and tries once more what has failed.
pub async fn resume(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    by: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    decide(repository, hub, model, now, |rollout| {
        rollout.resume(now)?;
        Ok(format!("revision {} goes on, by {}", rollout.revision, person(by)))
    })
    .await
}

/// It goes on without what has failed, and without the rest of a soak; with `full`, to everybody at once.
pub async fn promote(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    full: bool,
    by: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    decide(repository, hub, model, now, |rollout| {
        let users = rollout.stage().users;
        rollout.promote(full, now)?;
        let from = match users {
            Audience::Share(share) => format!(" from {share} of users"),
            Audience::OfRegions => " from its first waves".to_owned(),
            Audience::Everyone => String::new(),
        };
        let to = if full { " to everybody" } else { "" };
        Ok(format!("revision {} is promoted{from}{to}, by {}", rollout.revision, person(by)))
    })
    .await
}

async fn decide(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    now: Timestamp,
    decision: impl Fn(&mut Rollout) -> Result<String, Refusal>,
) -> Result<(), Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Loaded::Whole(existing) = Existing::load(repository, model).await? else { continue };
        let existing = existing.ok_or_else(|| not_deployed(model))?;
        let mut rollout = existing.rollout.value.clone();
        let said = decision(&mut rollout).map_err(|refusal| {
            Problem::new(Code::Refused, format!("rollout {} of {model}: {refusal}", rollout.number))
                .hint(format!("see where it is with `tradewind rollout show {model}`"))
        })?;
        let Existing { deployment, rollout: kept, .. } = &*existing;
        // Written as it is: the reconciler looks again when its deployment has been written.
        let txn = Txn::new()
            .when(deployment.unchanged())
            .when(kept.unchanged())
            .then(put(&deployment.key, &deployment.value))
            .then(put(&kept.key, &rollout))
            .then(event(now, model, EventKind::RolloutDecided, Severity::Info, said));
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(());
        }
    }
    Err(conflict(model))
}
