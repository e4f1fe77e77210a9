//! Setting the number of a region's replicas by hand. It stands in the assignment, beside what the revision says, and its
//! agent keeps it on disk: neither needs the other to be there.

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{ScaleAnswer, ScaleRequest},
};
use tradewind_core::{
    ModelName, Timestamp,
    assignment::Assignment,
    deployment::{Deployment, Revision},
    event::{EventKind, EventRecord, Severity},
    scale::REPLICAS_LIMIT,
    scaler::ByHand,
};
use tradewind_store::Txn;

use super::{CONFLICT_RETRIES, conflict};
use crate::{
    drains::who,
    events, keys,
    repository::{Repository, put},
};

pub async fn scale(
    repository: &Repository,
    deployment: &Deployment,
    request: &ScaleRequest,
    now: Timestamp,
) -> Result<ScaleAnswer, Problem> {
    let (model, region) = (&deployment.model, &request.region);
    check(request)?;
    let revision_says = revision_says(repository, deployment, request).await?;
    for _ in 0..=CONFLICT_RETRIES {
        let key = keys::assignment(region, model);
        let held = repository.get::<Assignment>(key).await?.filter(|kept| !kept.value.slots.is_empty());
        let Some(held) = held else {
            return Err(Problem::new(Code::NotFound, format!("{model} does not run in {region}"))
                .hint(format!("see where it does with `tradewind status {model}`")));
        };
        let before = held.value.by_hand.as_ref().map(|hand| hand.replicas);
        let answer = ScaleAnswer {
            schema_version: SCHEMA_VERSION,
            model: model.clone(),
            region: region.clone(),
            replicas: request.replicas,
            before,
            revision_says: revision_says.clone(),
        };
        if before == request.replicas {
            return Ok(answer);
        }
        let by = who(&request.requested_by).to_owned();
        let by_hand = request.replicas.map(|replicas| ByHand { replicas, by: by.clone(), at: now });
        let message = match request.replicas {
            Some(replicas) => format!("{by} set the replicas of {model} to {replicas}"),
            None => format!("{by} gave the number of replicas of {model} back: {revision_says}"),
        };
        let event = EventRecord {
            region: Some(region.clone()),
            model: Some(model.clone()),
            ..events::of(EventKind::Scaled, Severity::Info, now, message)
        };
        let generation = held.value.generation.next();
        let txn = Txn::new()
            .when(held.unchanged())
            .then(put(&held.key, &Assignment { by_hand, generation, ..held.value.clone() }))
            .then(events::record(now, &format!("scale/{region}/{model}"), &event));
        if repository.commit(txn).await?.is_some() {
            return Ok(answer);
        }
    }
    Err(conflict(model))
}

fn check(request: &ScaleRequest) -> Result<(), Problem> {
    match request.replicas {
        Some(0) => Err(Problem::new(Code::Invalid, "nobody would serve the region's users").hint(
            "to send them elsewhere: tradewind regions drain REGION; to have none while nobody asks: --min-replicas 0",
        )),
        Some(replicas) if replicas > REPLICAS_LIMIT => {
            let limits = format!("replicas are between 1 and {REPLICAS_LIMIT}, not {replicas}");
            Err(Problem::new(Code::Invalid, limits)
                .hint("what else a region can do for more users is in docs/scaling.md"))
        }
        _ => Ok(()),
    }
}

/// Of what users get, or else of what is being brought up.
async fn revision_says(
    repository: &Repository,
    deployment: &Deployment,
    request: &ScaleRequest,
) -> Result<String, Problem> {
    let number = deployment.live.unwrap_or(deployment.latest_revision);
    let model: &ModelName = &deployment.model;
    let revision = repository.get::<Revision>(keys::revision(model, number)).await?;
    Ok(revision.map(|kept| kept.value.spec.scale_of(&request.region).words()).unwrap_or_default())
}
