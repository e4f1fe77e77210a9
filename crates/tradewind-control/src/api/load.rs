//! Reading what a document is made of.

use std::collections::BTreeMap;

use tradewind_api::{Code, Problem};
use tradewind_core::{
    ModelName, RegionName, RevisionNumber, RolloutNumber, Slot, VersionNumber,
    deployment::{Deployment, Revision},
    rollout::{RegionRecord, Rollout},
    route::Route,
};

use super::{Result, models};
use crate::{
    app::App,
    keys,
    repository::Repository,
    view::{rollout::RolloutParts, status::StatusParts},
};

/// A deployment, its newest rollout, and what belongs to both.
pub(super) struct Deployed {
    pub(super) deployment: Deployment,
    pub(super) rollout: Rollout,
    records: BTreeMap<RegionName, RegionRecord>,
    route: Option<Route>,
    revisions: BTreeMap<RevisionNumber, Revision>,
}

impl Deployed {
    /// `None` when the deployment went while it was read.
    pub(super) async fn load(repository: &Repository, deployment: Deployment) -> Result<Option<Self>> {
        let model = &deployment.model;
        let number = deployment.latest_rollout;
        let Some(rollout) = repository.get::<Rollout>(keys::rollout(model, number)).await? else { return Ok(None) };
        let rollout = rollout.value;
        let held = Slot::BOTH.into_iter().filter_map(|slot| deployment.slots[slot]);
        let mut revisions = BTreeMap::new();
        for number in held.chain([rollout.revision]) {
            if let Some(revision) = repository.get::<Revision>(keys::revision(model, number)).await? {
                revisions.insert(number, revision.value);
            }
        }
        let records = records(repository, &rollout).await?;
        let route = route(repository, model).await?;
        Ok(Some(Self { deployment, rollout, records, route, revisions }))
    }

    pub(super) fn status_parts(&self) -> StatusParts<'_> {
        StatusParts {
            deployment: &self.deployment,
            rollout: &self.rollout,
            records: &self.records,
            route: self.route.as_ref(),
            revisions: &self.revisions,
        }
    }
}

/// A rollout and what belongs to it.
pub(super) struct LoadedRollout {
    pub(super) rollout: Rollout,
    version: VersionNumber,
    records: BTreeMap<RegionName, RegionRecord>,
    route: Option<Route>,
    is_latest: bool,
}

impl LoadedRollout {
    pub(super) async fn load(repository: &Repository, model: &ModelName, number: RolloutNumber) -> Result<Self> {
        let Some(rollout) = repository.get::<Rollout>(keys::rollout(model, number)).await? else {
            return Err(unknown_rollout(repository, model, number).await?);
        };
        let rollout = rollout.value;
        let deployment = repository.get::<Deployment>(keys::deployment(model)).await?;
        let revision = repository.get::<Revision>(keys::revision(model, rollout.revision)).await?;
        Ok(Self {
            version: revision.map_or_else(VersionNumber::default, |revision| revision.value.spec.version),
            records: records(repository, &rollout).await?,
            route: route(repository, model).await?,
            is_latest: deployment.is_some_and(|deployment| deployment.value.latest_rollout == number),
            rollout,
        })
    }

    pub(super) fn parts(&self) -> RolloutParts<'_> {
        RolloutParts {
            rollout: &self.rollout,
            version: self.version,
            records: &self.records,
            route: self.route.as_ref(),
            is_latest: self.is_latest,
        }
    }
}

async fn records(repository: &Repository, rollout: &Rollout) -> Result<BTreeMap<RegionName, RegionRecord>> {
    let key = keys::records(&rollout.model, rollout.records());
    let records = repository.list::<RegionRecord>(key).await?.values();
    Ok(records.into_iter().map(|record| (record.region.clone(), record)).collect())
}

async fn route(repository: &Repository, model: &ModelName) -> Result<Option<Route>> {
    Ok(repository.get::<Route>(keys::route(model)).await?.map(|kept| kept.value))
}

pub(super) async fn deployment(app: &App, model: &ModelName) -> Result<Deployment> {
    match app.repository.get::<Deployment>(keys::deployment(model)).await? {
        Some(deployment) => Ok(deployment.value),
        None => Err(not_deployed(&app.repository, model).await?),
    }
}

/// `latest` or a number.
pub(super) async fn rollout_number(app: &App, model: &ModelName, text: &str) -> Result<RolloutNumber> {
    match (text, text.parse()) {
        ("latest", _) => Ok(deployment(app, model).await?.latest_rollout),
        (_, Ok(number)) => Ok(number),
        _ => Err(Problem::new(Code::Invalid, format!("`{text}` is neither the number of a rollout nor `latest`"))),
    }
}

/// The answer to the name of a model that is not deployed: it may not even be a model's.
pub(super) async fn not_deployed(repository: &Repository, model: &ModelName) -> Result<Problem> {
    let head = repository.get::<tradewind_core::bundle::ModelHead>(keys::model(model)).await?;
    if head.is_none() {
        return models::unknown_model(repository, model).await;
    }
    let problem = Problem::new(Code::NotFound, format!("{model} is not deployed"));
    Ok(problem.hint(format!("deploy it: tradewind deploy --regions REGION,REGION {model}")))
}

async fn unknown_rollout(repository: &Repository, model: &ModelName, number: RolloutNumber) -> Result<Problem> {
    let rollouts = repository.list::<Rollout>(keys::rollouts(model)).await?.values();
    let Some(newest) = rollouts.last() else { return not_deployed(repository, model).await };
    let problem = Problem::new(Code::NotFound, format!("{model} has no rollout {number}"));
    Ok(problem.hint(format!("its newest is {}; see `tradewind rollout list {model}`", newest.number)))
}
