//! Regions, and what their agents keep.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Json, Response},
};
use futures_util::StreamExt;
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    agent::{LOGS_PATH, LogQuery},
    status::{AddRegion, RegionList},
};
use tradewind_core::{
    ModelName, RegionName, RevisionNumber, Timestamp,
    bundle::ModelHead,
    catalogue,
    event::{EventKind, EventRecord, Severity},
    region::{Location, Region},
    route::Route,
};
use tradewind_store::{Compare, Txn};

use super::{
    Result, Shared,
    extract::{self, Path, Query},
    models,
};
use crate::{
    app::App,
    drills, events, keys,
    repository::{Repository, put},
    suggest, view,
};

/// The most regions of a world.
const REGIONS_LIMIT: usize = 5000;

/// All regions and their members, sorted by name.
#[utoipa::path(get, path = "/v1/regions", tag = "regions", responses((status = 200, body = RegionList)))]
pub(super) async fn list(State(app): Shared) -> Result<Json<RegionList>> {
    let routes = app.repository.list::<Route>(keys::ROUTES).await?.values();
    let (regions, members) = (app.regions().await?, app.members.all());
    let drill = drills::under_way(&app.repository).await?;
    let regions = app.study(&regions, |sight| view::regions::view(&members, &routes, drill.as_ref(), sight));
    Ok(Json(RegionList { schema_version: SCHEMA_VERSION, regions }))
}

/// Adds a region. Its place is looked up in the catalogue of cloud regions unless it is told.
#[utoipa::path(post, path = "/v1/regions", tag = "regions", request_body = AddRegion,
    responses((status = 201, body = Region), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn add(
    State(app): Shared,
    extract::Json(request): extract::Json<AddRegion>,
) -> Result<(StatusCode, Json<Region>)> {
    if let Some(location) = request.location {
        check_location(location)?;
    }
    if app.regions().await?.len() >= REGIONS_LIMIT {
        return Err(Problem::new(Code::Refused, format!("a world has at most {REGIONS_LIMIT} regions")));
    }
    let region = describe(request.name, request.location);
    if !create(&app.repository, &region, Timestamp::now()).await? {
        return Err(Problem::new(Code::Refused, format!("there is a region {} already", region.name))
            .hint("see `tradewind regions list`"));
    }
    Ok((StatusCode::CREATED, Json(region)))
}

fn check_location(location: Location) -> Result<()> {
    // Not a number is in no range.
    if (-90.0..=90.0).contains(&location.latitude) && (-180.0..=180.0).contains(&location.longitude) {
        return Ok(());
    }
    Err(Problem::new(Code::Invalid, "a latitude is between -90 and 90, a longitude between -180 and 180"))
}

/// A region as it is before anything happens there.
pub(crate) fn describe(name: RegionName, location: Option<Location>) -> Region {
    let location = location.or_else(|| catalogue::location(name.as_str()));
    Region { name, location, drained: false }
}

/// `false` if it is there already.
pub(crate) async fn create(
    repository: &Repository,
    region: &Region,
    now: Timestamp,
) -> crate::repository::Result<bool> {
    let (key, name) = (keys::region(&region.name), &region.name);
    let event = EventRecord {
        region: Some(name.clone()),
        ..events::of(EventKind::RegionAdded, Severity::Info, now, format!("region {name} was added"))
    };
    let txn = Txn::new().when(Compare::absent(&key)).then(put(&key, region)).then(events::record(
        now,
        &format!("region/{name}/added"),
        &event,
    ));
    Ok(repository.commit(txn).await?.is_some())
}

/// The answer unless there is such a region.
pub(super) async fn check_exists(app: &App, name: &RegionName) -> Result<()> {
    if app.repository.get::<Region>(keys::region(name)).await?.is_some() {
        return Ok(());
    }
    Err(unknown(app, name).await?)
}

/// The answer to the name of no region.
pub(super) async fn unknown(app: &App, name: &RegionName) -> Result<Problem> {
    let regions = app.regions().await?;
    let known: Vec<&str> = regions.keys().map(RegionName::as_str).collect();
    Ok(suggest::unknown("region", name.as_str(), &known))
}

/// The text of a model's replicas' logs, as the region's agent has it.
#[utoipa::path(get, path = "/v1/regions/{region}/logs", tag = "regions",
    params(
        ("region" = RegionName, Path),
        ("model" = ModelName, Query),
        ("revision" = Option<RevisionNumber>, Query),
        ("lines" = Option<u32>, Query, description = "The last so many lines of each replica"),
        ("follow" = Option<bool>, Query, description = "Goes on with what is written from now on"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = Problem), (status = 502, body = Problem),
    ))]
pub(super) async fn logs(
    State(app): Shared,
    Path(region): Path<RegionName>,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    check_exists(&app, &region).await?;
    if app.repository.get::<ModelHead>(keys::model(&query.model)).await?.is_none() {
        return Err(models::unknown_model(&app.repository, &query.model).await?);
    }
    let Some(address) = app.members.agent_address(&region) else {
        let problem = Problem::new(Code::Unreachable, format!("{region} has no agent"));
        return Err(problem.hint(format!("start one: tradewind agent --region {region}")));
    };
    let request = app.http.get(format!("http://{address}{LOGS_PATH}")).bearer_auth(&app.mesh_token).query(&query);
    let response = request.send().await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, %region, "an agent does not answer");
        Problem::new(Code::Unreachable, format!("the agent of {region} does not answer"))
            .hint(format!("see how it is with `tradewind regions show {region}`"))
    })?;
    if !response.status().is_success() {
        return Err(passed_on(response, &region).await);
    }
    let permit = app.stream_permit()?;
    let until = app.shutdown.clone().cancelled_owned();
    let text = response.bytes_stream().take_until(until).map(move |bytes| {
        let _ = &permit;
        bytes
    });
    let mut answer = Body::from_stream(text).into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(answer)
}

/// The longest refusal of an agent that is passed on, in bytes.
const REFUSAL_LIMIT: usize = 64 << 10;

/// An agent's own problem, if that is what it answered.
async fn passed_on(mut response: reqwest::Response, region: &RegionName) -> Problem {
    let (status, mut body) = (response.status(), Vec::new());
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > REFUSAL_LIMIT {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let other = || Problem::new(Code::Unreachable, format!("the agent of {region} answered with status {status}"));
    serde_json::from_slice(&body).unwrap_or_else(|_| other())
}
