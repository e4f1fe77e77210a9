//! Drills.

use axum::{extract::State, http::StatusCode, response::Json};
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    drill::{DrillAnswer, DrillList, DrillRequest, DrillView},
};
use tradewind_core::{DrillNumber, Timestamp, drill::Drill};

use super::{
    Result, Shared,
    extract::{self, Path},
    regions,
};
use crate::{app::App, drills};

/// Takes a region for lost for a while, or says what would be expected. When something speaks against it, it is refused.
#[utoipa::path(post, path = "/v1/drills", tag = "drills", request_body = DrillRequest,
    responses(
        (status = 200, body = DrillAnswer, description = "What is expected; nothing was begun"),
        (status = 201, body = DrillAnswer),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    ))]
pub(super) async fn begin(
    State(app): Shared,
    extract::Json(request): extract::Json<DrillRequest>,
) -> Result<(StatusCode, Json<DrillAnswer>)> {
    regions::check_exists(&app, &request.region).await?;
    let status = if request.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(drills::begin(&app, request, Timestamp::now()).await?)))
}

/// All drills that are kept, newest first.
#[utoipa::path(get, path = "/v1/drills", tag = "drills", responses((status = 200, body = DrillList)))]
pub(super) async fn list(State(app): Shared) -> Result<Json<DrillList>> {
    Ok(Json(DrillList { schema_version: SCHEMA_VERSION, drills: drills::list(&app.repository).await? }))
}

/// One drill, by its number or as `latest`.
#[utoipa::path(get, path = "/v1/drills/{drill}", tag = "drills", params(("drill" = String, Path)),
    responses((status = 200, body = DrillView), (status = 404, body = Problem)))]
pub(super) async fn show(State(app): Shared, Path(drill): Path<String>) -> Result<Json<DrillView>> {
    Ok(document(find(&app, &drill).await?))
}

/// Ends a drill before its time: the region is let back at once.
#[utoipa::path(post, path = "/v1/drills/{drill}/stop", tag = "drills", params(("drill" = String, Path)),
    responses((status = 200, body = DrillView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn stop(State(app): Shared, Path(drill): Path<String>) -> Result<Json<DrillView>> {
    let drill = find(&app, &drill).await?;
    Ok(document(drills::stop(&app, drill.number, Timestamp::now()).await?))
}

fn document(drill: Drill) -> Json<DrillView> {
    Json(DrillView { schema_version: SCHEMA_VERSION, drill })
}

async fn find(app: &App, text: &str) -> Result<Drill> {
    let drills = drills::list(&app.repository).await?;
    let Some(newest) = drills.first() else {
        return Err(Problem::new(Code::NotFound, "there was no drill yet")
            .hint("begin one with `tradewind drill region-down REGION --for 30s`"));
    };
    if text == "latest" {
        return Ok(newest.clone());
    }
    let Ok(number) = text.parse::<DrillNumber>() else {
        return Err(Problem::new(Code::Invalid, format!("`{text}` is neither the number of a drill nor `latest`")));
    };
    drills.iter().find(|drill| drill.number == number).cloned().ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no drill {number}"))
            .hint(format!("the newest is {}; see `tradewind drill list`", newest.number))
    })
}
