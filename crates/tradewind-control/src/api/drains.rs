//! Draining regions.

use axum::{extract::State, response::Json};
use tradewind_api::{
    Problem,
    drain::{DrainAnswer, DrainRequest, UndrainRequest},
};
use tradewind_core::{RegionName, Timestamp, region::Region};

use super::{
    Result, Shared,
    extract::{self, Path},
    regions,
};
use crate::{app::App, drains, keys, repository::Kept};

/// Takes a region's users away, or says what would happen. Where they do not fit elsewhere it is refused.
#[utoipa::path(post, path = "/v1/regions/{region}/drain", tag = "regions", request_body = DrainRequest,
    params(("region" = RegionName, Path)),
    responses(
        (status = 200, body = DrainAnswer), (status = 404, body = Problem), (status = 409, body = Problem),
    ))]
pub(super) async fn drain(
    State(app): Shared,
    Path(name): Path<RegionName>,
    extract::Json(request): extract::Json<DrainRequest>,
) -> Result<Json<DrainAnswer>> {
    let region = load(&app, &name).await?;
    Ok(Json(drains::drain(&app, region, &request, Timestamp::now()).await?))
}

/// Lets users back into a region.
#[utoipa::path(post, path = "/v1/regions/{region}/undrain", tag = "regions", request_body = UndrainRequest,
    params(("region" = RegionName, Path)),
    responses(
        (status = 200, body = DrainAnswer), (status = 404, body = Problem), (status = 409, body = Problem),
    ))]
pub(super) async fn undrain(
    State(app): Shared,
    Path(name): Path<RegionName>,
    extract::Json(request): extract::Json<UndrainRequest>,
) -> Result<Json<DrainAnswer>> {
    let region = load(&app, &name).await?;
    Ok(Json(drains::undrain(&app, region, &request, Timestamp::now()).await?))
}

async fn load(app: &App, name: &RegionName) -> Result<Kept<Region>> {
    match app.repository.get::<Region>(keys::region(name)).await? {
        Some(region) => Ok(region),
        None => Err(regions::unknown(app, name).await?),
    }
}
