//! Deploying, and taking down. What is asked is checked and written by `admission`; the reconcilers do it.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Json,
};
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{
        DeployAnswer, DeployRequest, DiffQuery, DiffView, History, MoveAnswer, RollbackRequest, ScaleAnswer,
        ScaleRequest, SwitchRequest,
    },
    http,
};
use tradewind_core::{
    ModelName, RevisionNumber, Timestamp,
    deployment::{Deployment, Revision},
    rollout::Rollout,
};
use tradewind_traces::Kind;

use super::{
    Result, Shared,
    extract::{self, Path, Query},
    load,
};
use crate::{admission, app::App, keys, view};

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

/// What one revision fixes otherwise than another.
#[utoipa::path(get, path = "/v1/deployments/{model}/diff", tag = "deployments",
    params(("model" = ModelName, Path), ("from" = u64, Query, description = "A revision"),
        ("to" = Option<u64>, Query, description = "Another one; what users get unless told")),
    responses((status = 200, body = DiffView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn diff(
    State(app): Shared,
    Path(model): Path<ModelName>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<DiffView>> {
    let deployment = load::deployment(&app, &model).await?;
    let live = || {
        deployment.live.ok_or_else(|| {
            Problem::new(Code::Refused, format!("users get no revision of {model} yet"))
                .hint(format!("name two: tradewind diff {model} 1 2"))
        })
    };
    let to = query.to.map_or_else(live, Ok)?;
    let (before, after) = (revision(&app, &model, query.from).await?, revision(&app, &model, to).await?);
    let changes = after.spec.changes_since(Some(&before.spec));
    Ok(Json(DiffView { schema_version: SCHEMA_VERSION, model, from: query.from, to, changes }))
}

async fn revision(app: &App, model: &ModelName, number: RevisionNumber) -> Result<Revision> {
    let kept = app.repository.get::<Revision>(keys::revision(model, number)).await?;
    Ok(kept.ok_or_else(|| admission::unknown_revision(model, number))?.value)
}

/// Moves users back to what served them before.
#[utoipa::path(post, path = "/v1/deployments/{model}/rollback", tag = "deployments",
    params(("model" = ModelName, Path)), request_body = RollbackRequest,
    responses((status = 200, body = MoveAnswer), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn rollback(
    State(app): Shared,
    Path(model): Path<ModelName>,
    headers: HeaderMap,
    extract::Json(request): extract::Json<RollbackRequest>,
) -> Result<Json<MoveAnswer>> {
    let trace = http::trace(&headers);
    admission::rollback(&app.repository, &app.hub, &model, &request, trace, Timestamp::now()).await.map(Json)
}

/// Moves users to what the other slot holds.
#[utoipa::path(post, path = "/v1/deployments/{model}/switch", tag = "deployments",
    params(("model" = ModelName, Path)), request_body = SwitchRequest,
    responses((status = 200, body = MoveAnswer), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn switch(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<SwitchRequest>,
) -> Result<Json<MoveAnswer>> {
    admission::switch(&app.repository, &app.hub, &model, &request, Timestamp::now()).await.map(Json)
}

/// Sets the number of a region's replicas by hand, or gives it back.
#[utoipa::path(post, path = "/v1/deployments/{model}/scale", tag = "deployments",
    params(("model" = ModelName, Path)), request_body = ScaleRequest,
    responses(
        (status = 200, body = ScaleAnswer),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    ))]
pub(super) async fn scale(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<ScaleRequest>,
) -> Result<Json<ScaleAnswer>> {
    let deployment = load::deployment(&app, &model).await?;
    admission::scale(&app.repository, &deployment, &request, Timestamp::now()).await.map(Json)
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
    let deployment = deployment.map(|kept| kept.value);
    let revisions = view::history::view(&revisions, &rollouts, deployment.as_ref());
    Ok(Json(History { schema_version: SCHEMA_VERSION, model, revisions }))
}
