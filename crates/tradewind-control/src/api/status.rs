//! What runs, and how it is.

use axum::{extract::State, response::Json};
use tradewind_api::{
    Problem, SCHEMA_VERSION,
    status::{DeploymentStatus, WorldStatus},
};
use tradewind_core::{ModelName, deployment::Deployment, route::Route};

use super::{Result, Shared, load};
use crate::{api::extract::Path, drills, keys, view};

/// Every deployment and every region.
#[utoipa::path(get, path = "/v1/status", tag = "deployments", responses((status = 200, body = WorldStatus)))]
pub(super) async fn world(State(app): Shared) -> Result<Json<WorldStatus>> {
    let deployments = app.repository.list::<Deployment>(keys::DEPLOYMENTS).await?.values();
    let mut deployed = Vec::with_capacity(deployments.len());
    for deployment in deployments {
        deployed.extend(load::Deployed::load(&app.repository, deployment).await?);
    }
    let routes = app.repository.list::<Route>(keys::ROUTES).await?.values();
    let (regions, members) = (app.regions().await?, app.members.all());
    let drill = drills::under_way(&app.repository).await?;
    let status = app.study(&regions, |sight| WorldStatus {
        schema_version: SCHEMA_VERSION,
        models: deployed.iter().map(|deployed| view::status::view(&deployed.status_parts(), sight)).collect(),
        regions: view::regions::view(&members, &routes, drill.as_ref(), sight),
        drill: drill.clone(),
    });
    Ok(Json(status))
}

/// One deployment: the tracker of its newest rollout, and what its users get now.
#[utoipa::path(get, path = "/v1/deployments/{model}/status", tag = "deployments",
    params(("model" = ModelName, Path)),
    responses((status = 200, body = DeploymentStatus), (status = 404, body = Problem)))]
pub(super) async fn deployment(State(app): Shared, Path(model): Path<ModelName>) -> Result<Json<DeploymentStatus>> {
    let deployment = load::deployment(&app, &model).await?;
    let Some(deployed) = load::Deployed::load(&app.repository, deployment).await? else {
        return Err(load::not_deployed(&app.repository, &model).await?);
    };
    let regions = app.regions().await?;
    Ok(Json(app.study(&regions, |sight| view::status::view(&deployed.status_parts(), sight))))
}
