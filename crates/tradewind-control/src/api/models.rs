//! The registry: models and their versions.

use axum::{extract::State, http::StatusCode, response::Json};
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    models::{ModelDetail, ModelList, ModelSummary, PublishRequest, Published},
};
use tradewind_core::{
    ModelName, Slot, Timestamp, VersionNumber,
    bundle::{ModelHead, ModelVersion},
    deployment::{Deployment, Revision},
    event::{EventKind, EventRecord, Severity},
};
use tradewind_store::{Compare, Op, Txn};

use super::{
    Result, Shared,
    extract::{self, Path},
};
use crate::{
    events, keys,
    repository::{Kept, Repository},
    suggest,
};

/// The largest request to publish, in bytes: an index of many files.
const PUBLISH_LIMIT: usize = 16 << 20;

/// Models, sorted by name; one whose versions were all removed is not among them.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses((status = 200, body = ModelList)))]
pub(super) async fn list(State(app): Shared) -> Result<Json<ModelList>> {
    let heads = app.repository.list::<ModelHead>(keys::MODELS).await?.values();
    let mut models = Vec::with_capacity(heads.len());
    for head in heads {
        let versions = app.repository.list::<ModelVersion>(keys::versions(&head.name)).await?.values();
        models.extend(versions.last().map(|latest| ModelSummary {
            name: head.name,
            latest: latest.version,
            versions: versions.len() as u64,
            digest: latest.digest,
            bytes: latest.index.bytes(),
            pushed_at: latest.pushed_at,
        }));
    }
    Ok(Json(ModelList { schema_version: SCHEMA_VERSION, models }))
}

/// A model and its versions, newest first.
#[utoipa::path(get, path = "/v1/models/{name}", tag = "models",
    params(("name" = ModelName, Path)),
    responses((status = 200, body = ModelDetail), (status = 404, body = Problem)))]
pub(super) async fn show(State(app): Shared, Path(name): Path<ModelName>) -> Result<Json<ModelDetail>> {
    let mut versions = app.repository.list::<ModelVersion>(keys::versions(&name)).await?.values();
    if versions.is_empty() {
        return Err(unknown_model(&app.repository, &name).await?);
    }
    versions.reverse();
    Ok(Json(ModelDetail { schema_version: SCHEMA_VERSION, name, versions }))
}

#[utoipa::path(get, path = "/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = ModelName, Path), ("version" = VersionNumber, Path)),
    responses((status = 200, body = ModelVersion), (status = 404, body = Problem)))]
pub(super) async fn show_version(
    State(app): Shared,
    Path((name, version)): Path<(ModelName, VersionNumber)>,
) -> Result<Json<ModelVersion>> {
    Ok(Json(version_of(&app.repository, &name, version).await?.value))
}

/// Makes a version of a bundle whose blobs are all there. The same content gives the version that has it already. The
/// name is the path's, whatever the bundle calls itself.
#[utoipa::path(post, path = "/v1/models/{name}/versions", tag = "models",
    params(("name" = ModelName, Path)),
    request_body = PublishRequest,
    responses(
        (status = 201, body = Published), (status = 200, body = Published, description = "There already"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 507, body = Problem),
    ))]
pub(super) async fn publish(
    State(app): Shared,
    Path(name): Path<ModelName>,
    extract::Json(request): extract::Json<PublishRequest, PUBLISH_LIMIT>,
) -> Result<(StatusCode, Json<Published>)> {
    let outcome = app.publisher.publish(&name, request).await?;
    let status = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    let published = Published { schema_version: SCHEMA_VERSION, created: outcome.created, version: outcome.version };
    Ok((status, Json(published)))
}

/// Removes a version that nothing runs. Its number is not given again.
#[utoipa::path(delete, path = "/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = ModelName, Path), ("version" = VersionNumber, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn remove_version(
    State(app): Shared,
    Path((name, number)): Path<(ModelName, VersionNumber)>,
) -> Result<StatusCode> {
    let version = version_of(&app.repository, &name, number).await?;
    let deployment = app.repository.get::<Deployment>(keys::deployment(&name)).await?;
    if let Some(deployment) = &deployment {
        refuse_if_used(&app.repository, deployment, number).await?;
    }
    let now = Timestamp::now();
    let message = format!("{name} {number} was removed");
    let event =
        EventRecord { model: Some(name.clone()), ..events::of(EventKind::ModelRemoved, Severity::Info, now, message) };
    // A deployment that begins meanwhile may have chosen this version.
    let unchanged = deployment
        .as_ref()
        .map_or_else(|| Compare::absent(keys::deployment(&name)), |deployment| deployment.unchanged());
    let txn = Txn::new()
        .when(version.unchanged())
        .when(unchanged)
        .then(Op::delete(&version.key))
        .then(Op::delete(keys::version_by_digest(&name, &version.value.digest)))
        .then(events::record(now, &format!("{name}/removed/{number}"), &event));
    match app.repository.commit(txn).await? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => {
            let mut problem = Problem::new(Code::Refused, format!("{name} was changed at the same time"));
            problem.retryable = true;
            Err(problem.hint("try again"))
        }
    }
}

async fn refuse_if_used(repository: &Repository, deployment: &Kept<Deployment>, version: VersionNumber) -> Result<()> {
    let deployment = &deployment.value;
    for (slot, number) in Slot::BOTH.into_iter().filter_map(|slot| Some((slot, deployment.slots[slot]?))) {
        let revision = repository.get::<Revision>(keys::revision(&deployment.model, number)).await?;
        if revision.is_some_and(|revision| revision.value.spec.version == version) {
            let model = &deployment.model;
            let detail = format!("{model} {version} is in use: revision {number} in slot {slot} runs it");
            return Err(Problem::new(Code::Refused, detail)
                .hint(format!("deploy another version first, or take the model down: tradewind undeploy {model}")));
        }
    }
    Ok(())
}

async fn version_of(repository: &Repository, name: &ModelName, number: VersionNumber) -> Result<Kept<ModelVersion>> {
    if let Some(version) = repository.get::<ModelVersion>(keys::version(name, number)).await? {
        return Ok(version);
    }
    let versions = repository.list::<ModelVersion>(keys::versions(name)).await?.values();
    if versions.is_empty() {
        return Err(unknown_model(repository, name).await?);
    }
    let known: Vec<String> = versions.iter().map(|version| version.version.to_string()).collect();
    let problem = Problem::new(Code::NotFound, format!("{name} has no version {number}"));
    Err(problem.hint(format!("its versions: {}", known.join(", "))))
}

/// The answer to the name of a model that has no versions.
pub(super) async fn unknown_model(repository: &Repository, name: &ModelName) -> Result<Problem> {
    let heads = repository.list::<ModelHead>(keys::MODELS).await?.values();
    // All versions of a model can be removed; its name is then known but of no use.
    let known: Vec<&str> =
        heads.iter().map(|head| head.name.as_str()).filter(|known| *known != name.as_str()).collect();
    Ok(suggest::unknown("model", name.as_str(), &known))
}
