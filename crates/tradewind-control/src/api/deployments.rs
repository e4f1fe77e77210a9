//! Deploying, and taking down. What is asked is checked and written by `admission`; the reconcilers do it.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Json,
};
use tradewind_api::{
    Problem, SCHEMA_VERSION,
    deploy::{DeployAnswer, DeployRequest, History},
    http,
};
use tradewind_core::{
    ModelName, Timestamp,
    deployment::{Deployment, Revision},
    rollout::Rollout,
};
use tradewind_traces::Kind;

use super::{
    Result, Shared,
    extract::{self, Path},
    load,
};
use crate::{admission, keys, view};

/// Begins a rollout, unless exactly this runs already; with `dry_run` it only says what it would do.
#[utoipa::path(post, path = "/v1/deployments/{model}", tag = "deployments",
    params(("model" = ModelName, Path)),
    request_body = DeployRequest,
    responses(
        (status = 200, body = DeployAnswer),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    ))]
pub(super) async fn deploy(
    State(app): Shared,
    Path(model): Path<ModelName>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<DeployRequest>,
) -> Result<Json<DeployAnswer>> {
    let trace = http::trace(&headers);
    let mut span = tradewind_traces::child("admit", Kind::Server, trace);
    let answer = admission::deploy(&app.repository, &app.hub, &model, request, trace, Timestamp::now()).await;
    if let Some(span) = &mut span {
        span.set("tradewind.model", model.to_string());
        if let Err(problem) = &answer {
            span.fail(problem.to_string());
        }
    }
    answer.map(Json)
}

/// Takes a model out of all regions.
#[utoipa::path(delete, path = "/v1/deployments/{model}", tag = "deployments",
    params(("model" = ModelName, Path)),
    responses((status = 202), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn undeploy(State(app): Shared, Path(model): Path<ModelName>) -> Result<StatusCode> {
    admission::undeploy(&app.repository, &app.hub, &model, Timestamp::now()).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The revisions of a deployment, newest first.
#[utoipa::path(get, path = "/v1/deployments/{model}/history", tag = "deployments",
    params(("model" = ModelName, Path)),
    responses((status = 200, body = History), (status = 404, body = Problem)))]
pub(super) async fn history(State(app): Shared, Path(model): Path<ModelName>) -> Result<Json<History>> {
    let deployment = app.repository.get::<Deployment>(keys::deployment(&model)).await?;
    let revisions = app.repository.list::<Revision>(keys::revisions(&model)).await?.values();
    if deployment.is_none() && revisions.is_empty() {
        return Err(load::not_deployed(&app.repository, &model).await?);
    }
    let rollouts = app.repository.list::<Rollout>(keys::rollouts(&model)).await?.values();
    let live = deployment.and_then(|deployment| deployment.value.live);
    let revisions = view::history::view(&revisions, &rollouts, live);
    Ok(Json(History { schema_version: SCHEMA_VERSION, model, revisions }))
}
