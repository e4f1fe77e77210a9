//! Rollouts, and watching one.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{Json, Response},
};
use futures_util::stream;
use tokio::{sync::watch, time::Instant};
use tradewind_api::{
    Problem, SCHEMA_VERSION,
    deploy::{DecisionRequest, PromoteRequest, RolloutList, RolloutView},
};
use tradewind_core::{
    ModelName, RolloutNumber, Timestamp, VersionNumber,
    deployment::{Deployment, Revision},
    rollout::Rollout,
};

use super::{
    Result, Shared,
    extract::{self, Path},
    load,
};
use crate::{admission, app::App, changes::Changes, keys, view};

/// A watcher gets at most one message in so long.
const MESSAGE_SPACING: Duration = Duration::from_millis(30);

/// The rollouts of a model, newest first.
#[utoipa::path(get, path = "/v1/deployments/{model}/rollouts", tag = "rollouts",
    params(("model" = ModelName, Path)),
    responses((status = 200, body = RolloutList), (status = 404, body = Problem)))]
pub(super) async fn list(State(app): Shared, Path(model): Path<ModelName>) -> Result<Json<RolloutList>> {
    let rollouts = app.repository.list::<Rollout>(keys::rollouts(&model)).await?.values();
    let deployment = app.repository.get::<Deployment>(keys::deployment(&model)).await?;
    if rollouts.is_empty() && deployment.is_none() {
        return Err(load::not_deployed(&app.repository, &model).await?);
    }
    let revisions = app.repository.list::<Revision>(keys::revisions(&model)).await?.values();
    let version = |rollout: &Rollout| {
        let revision = revisions.iter().find(|revision| revision.number == rollout.revision);
        revision.map_or_else(VersionNumber::default, |revision| revision.spec.version)
    };
    let newest_first = rollouts.iter().rev();
    let rollouts = newest_first.map(|rollout| view::rollout::summary(rollout, version(rollout))).collect();
    Ok(Json(RolloutList { schema_version: SCHEMA_VERSION, rollouts }))
}

/// One rollout and its steps.
#[utoipa::path(get, path = "/v1/deployments/{model}/rollouts/{rollout}", tag = "rollouts",
    params(("model" = ModelName, Path), ("rollout" = String, Path, description = "A number, or `latest`")),
    responses((status = 200, body = RolloutView), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(app): Shared,
    Path((model, rollout)): Path<(ModelName, String)>,
) -> Result<Json<RolloutView>> {
    let number = load::rollout_number(&app, &model, &rollout).await?;
    Ok(Json(view_of(&app, &model, number).await?.0))
}

/// The rollout now and after every change, as NDJSON, until it has ended or its soak is decided.
#[utoipa::path(get, path = "/v1/deployments/{model}/rollouts/{rollout}/watch", tag = "rollouts",
    params(("model" = ModelName, Path), ("rollout" = String, Path, description = "A number, or `latest`")),
    responses(
        (status = 200, body = RolloutView, content_type = "application/x-ndjson"),
        (status = 404, body = Problem),
    ))]
pub(super) async fn watch(State(app): Shared, Path((model, rollout)): Path<(ModelName, String)>) -> Result<Response> {
    let number = load::rollout_number(&app, &model, &rollout).await?;
    let rollout = app.repository.get::<Rollout>(keys::rollout(&model, number)).await?;
    let records = rollout.map_or(number, |kept| kept.value.records());
    // Made before the first look, so that nothing falls in between.
    let prefixes =
        [keys::rollout(&model, number), keys::records(&model, records), keys::route(&model), keys::deployment(&model)];
    let changes = Changes::of(app.repository.store(), prefixes);
    let reports = app.hub.changes();
    let (first, is_final) = view_of(&app, &model, number).await?;
    let watcher = Watcher {
        app: app.clone(),
        model,
        number,
        changes,
        reports,
        last: first.clone(),
        is_final,
        sent: Instant::now(),
    };
    let rest = stream::unfold(watcher, |mut watcher| async move {
        let view = watcher.next().await?;
        Some((view, watcher))
    });
    app.stream(futures_util::StreamExt::chain(stream::iter([first]), rest))
}

/// Ends the rollout that is under way. Everybody gets what served before it.
#[utoipa::path(post, path = "/v1/deployments/{model}/rollouts/latest/abort", tag = "rollouts",
    params(("model" = ModelName, Path)), request_body = DecisionRequest,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn abort(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<DecisionRequest>,
) -> Result<Json<RolloutView>> {
    let number = load::rollout_number(&app, &model, "latest").await?;
    admission::abort(&app.repository, &app.hub, &model, &request.requested_by, Timestamp::now()).await?;
    Ok(Json(view_of(&app, &model, number).await?.0))
}

/// Begins nothing new until it is told to go on. What soaks goes on being judged.
#[utoipa::path(post, path = "/v1/deployments/{model}/rollouts/latest/pause", tag = "rollouts",
    params(("model" = ModelName, Path)), request_body = DecisionRequest,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn pause(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<DecisionRequest>,
) -> Result<Json<RolloutView>> {
    admission::pause(&app.repository, &app.hub, &model, &request.requested_by, Timestamp::now()).await?;
    latest(&app, &model).await
}

/// Goes on with a rollout that waits, and tries once more what has failed.
#[utoipa::path(post, path = "/v1/deployments/{model}/rollouts/latest/resume", tag = "rollouts",
    params(("model" = ModelName, Path)), request_body = DecisionRequest,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn resume(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<DecisionRequest>,
) -> Result<Json<RolloutView>> {
    admission::resume(&app.repository, &app.hub, &model, &request.requested_by, Timestamp::now()).await?;
    latest(&app, &model).await
}

/// Goes on without what has failed, and without the rest of the soak.
#[utoipa::path(post, path = "/v1/deployments/{model}/rollouts/latest/promote", tag = "rollouts",
    params(("model" = ModelName, Path)), request_body = PromoteRequest,
    responses((status = 200, body = RolloutView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn promote(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<PromoteRequest>,
) -> Result<Json<RolloutView>> {
    let PromoteRequest { full, requested_by } = request;
    admission::promote(&app.repository, &app.hub, &model, full, &requested_by, Timestamp::now()).await?;
    latest(&app, &model).await
}

async fn latest(app: &App, model: &ModelName) -> Result<Json<RolloutView>> {
    let number = load::rollout_number(app, model, "latest").await?;
    Ok(Json(view_of(app, model, number).await?.0))
}

async fn view_of(app: &App, model: &ModelName, number: RolloutNumber) -> Result<(RolloutView, bool)> {
    let loaded = load::LoadedRollout::load(&app.repository, model, number).await?;
    let regions = app.regions().await?;
    let view = app.look(&regions, |sight| view::rollout::view(&loaded.parts(), sight));
    let is_final = view::rollout::is_final(&loaded.rollout) && !view::rollout::takes_users_back(&view, &loaded.rollout);
    Ok((view, is_final))
}

struct Watcher {
    app: Arc<App>,
    model: ModelName,
    number: RolloutNumber,
    changes: Changes,
    reports: watch::Receiver<u64>,
    last: RolloutView,
    is_final: bool,
    sent: Instant,
}

impl Watcher {
    /// The next view that differs from the last one; none after a final one, and when it can no longer be read.
    async fn next(&mut self) -> Option<RolloutView> {
        while !self.is_final {
            tokio::select! {
                open = self.changes.wait() => if !open { return None },
                changed = self.reports.changed() => changed.ok()?,
            }
            tokio::time::sleep_until(self.sent + MESSAGE_SPACING).await;
            self.sent = Instant::now();
            let (view, is_final) = view_of(&self.app, &self.model, self.number).await.ok()?;
            self.is_final = is_final;
            if view != self.last {
                self.last = view.clone();
                return Some(view);
            }
        }
        None
    }
}
