//! Where requests go. Gateways know; control asks one of them.

use std::time::Duration;

use axum::{body::Body, extract::State, http::StatusCode, response::Json};
use tokio::time::{Instant, timeout_at};
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{PinList, PinRequest, PinView, UnpinRequest},
    gateway::{EXPLAIN_PATH, ExplainQuery, Explanation, RouteExplanation, RouteQuery},
};
use tradewind_core::{
    Digest, ModelName, RegionName, Timestamp,
    bundle::ModelHead,
    pins::{Pin, table::TABLE_BYTES_LIMIT},
    route::Route,
};

use super::{
    Result, Shared, blobs,
    extract::{self, DeclaredLength, Path, Query},
    load, models,
    regions::check_exists,
};
use crate::{admission, app::App, keys, tables};

/// A gateway answers within this time, or the next one is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// All of them together have this time.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest answer of a gateway, in bytes.
const ANSWER_LIMIT: usize = 4 << 20;

/// The users of a model for whom somebody has chosen what they get.
#[utoipa::path(get, path = "/v1/routes/{model}/pins", tag = "routes",
    params(("model" = ModelName, Path)),
    responses((status = 200, body = PinList), (status = 404, body = Problem)))]
pub(super) async fn pins(State(app): Shared, Path(model): Path<ModelName>) -> Result<Json<PinList>> {
    let Some(route) = app.repository.get::<Route>(keys::route(&model)).await? else {
        return Err(load::not_deployed(&app.repository, &model).await?);
    };
    Ok(Json(pin_list(&app, &route.value)))
}

/// Chooses what users get, whatever all others get.
#[utoipa::path(post, path = "/v1/routes/{model}/pins", tag = "routes",
    params(("model" = ModelName, Path)), request_body = PinRequest,
    responses((status = 200, body = PinList), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn pin(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<PinRequest>,
) -> Result<Json<PinList>> {
    let route = admission::pin(&app.repository, &app.hub, &app.tables, &model, &request, Timestamp::now()).await?;
    Ok(Json(pin_list(&app, &route)))
}

/// Takes in a table of users, to be pinned together. It is kept if it is named by a pin soon.
#[utoipa::path(put, path = "/v1/pins/{digest}", tag = "routes",
    params(("digest" = Digest, Path), ("content-length" = u64, Header, description = "The table's size")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201), (status = 200, description = "There already"),
        (status = 400, body = Problem), (status = 413, body = Problem), (status = 507, body = Problem),
    ))]
pub(super) async fn put_table(
    State(app): Shared,
    Path(digest): Path<Digest>,
    DeclaredLength(size): DeclaredLength,
    body: Body,
) -> Result<StatusCode> {
    if size > TABLE_BYTES_LIMIT {
        return Err(tables::too_large(size));
    }
    blobs::take(&app.tables, &digest, size, body).await
}

/// Lets users get what all others get.
#[utoipa::path(post, path = "/v1/routes/{model}/unpin", tag = "routes",
    params(("model" = ModelName, Path)), request_body = UnpinRequest,
    responses((status = 200, body = PinList), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn unpin(
    State(app): Shared,
    Path(model): Path<ModelName>,
    extract::Json(request): extract::Json<UnpinRequest>,
) -> Result<Json<PinList>> {
    let route = admission::unpin(&app.repository, &app.hub, &model, &request, Timestamp::now()).await?;
    Ok(Json(pin_list(&app, &route)))
}

/// Of the pins that have not expired.
fn pin_list(app: &App, route: &Route) -> PinList {
    let now = Timestamp::now();
    let epoch = route.committed.as_ref().map(|state| state.epoch);
    let gateways = app.hub.look(now).gateways_at(&route.model, epoch.unwrap_or_default(), now);
    let lasting = route.pins.users.iter().filter(|(_, pin)| pin.until > now);
    let tables = route.pins.tables.iter().filter(|table| table.until > now);
    let view = |(user, pin): (&String, &Pin)| PinView { user: user.clone(), to: pin.to, until: pin.until };
    PinList {
        schema_version: SCHEMA_VERSION,
        model: route.model.clone(),
        epoch,
        pins: lasting.map(view).collect(),
        tables: tables.copied().collect(),
        acknowledged: gateways.committed,
        gateways: gateways.gateways,
    }
}

/// Where a request of that region's user would go now, and why: as a gateway of the region says.
#[utoipa::path(get, path = "/v1/routes/{model}/explain", tag = "routes",
    params(
        ("model" = ModelName, Path),
        ("from" = RegionName, Query, description = "The user's region"),
        ("user" = Option<String>, Query, description = "The user's key, if the request has one"),
    ),
    responses(
        (status = 200, body = RouteExplanation),
        (status = 404, body = Problem), (status = 502, body = Problem),
    ))]
pub(super) async fn explain(
    State(app): Shared,
    Path(model): Path<ModelName>,
    Query(query): Query<RouteQuery>,
) -> Result<Json<RouteExplanation>> {
    if app.repository.get::<ModelHead>(keys::model(&model)).await?.is_none() {
        return Err(models::unknown_model(&app.repository, &model).await?);
    }
    check_exists(&app, &query.from).await?;
    let gateways = gateways_of(&app, &query.from);
    if gateways.is_empty() {
        let problem = Problem::new(Code::Unreachable, format!("{} has no gateway", query.from));
        return Err(problem.hint(format!("start one: tradewind gateway --region {}", query.from)));
    }
    let until = Instant::now() + SEARCH_TIMEOUT;
    let from = query.from.clone();
    let question = ExplainQuery { model, user: query.user, from: Some(query.from) };
    for address in &gateways {
        match timeout_at(until, ask(&app, address, &question)).await {
            Ok(Some(answer)) => {
                return answer
                    .map(|explanation| Json(RouteExplanation { schema_version: SCHEMA_VERSION, explanation }));
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    let problem = Problem::new(Code::Unreachable, format!("no gateway of {from} answers"));
    Err(problem.hint(format!("see how they are with `tradewind regions show {from}`")))
}

/// Those that report come first; one that lost sight of control serves too.
fn gateways_of(app: &App, region: &RegionName) -> Vec<String> {
    let now = Timestamp::now();
    let seen = app.hub.seen();
    let own = seen.gateways.iter().filter(|(_, gateway)| gateway.region == *region);
    let (reporting, silent): (Vec<_>, Vec<_>) = own.partition(|(_, gateway)| seen.leased(gateway, now));
    reporting.into_iter().chain(silent).map(|(address, _)| address.clone()).collect()
}

/// What a gateway says; `None` when it does not answer as a gateway does.
async fn ask(app: &App, address: &str, question: &ExplainQuery) -> Option<Result<Explanation>> {
    let request = app.http.get(format!("http://{address}{EXPLAIN_PATH}")).bearer_auth(&app.mesh_token).query(question);
    let answered = async {
        let mut response = request.timeout(ANSWER_TIMEOUT).send().await?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                body.clear();
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok::<_, reqwest::Error>((status, body))
    };
    let (status, body) = match answered.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, address, "a gateway does not answer");
            return None;
        }
    };
    if status == reqwest::StatusCode::NOT_FOUND {
        return Some(Err(not_routed(&question.model, &body)));
    }
    let explanation = serde_json::from_slice(&body).ok().filter(|_| status.is_success());
    if explanation.is_none() {
        tracing::warn!(%status, address, "a gateway does not answer with an explanation");
    }
    explanation.map(Ok)
}

/// The registry has the model, and the gateway does not.
fn not_routed(model: &ModelName, body: &[u8]) -> Problem {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    let problem = Problem::new(Code::NotFound, format!("users are not routed to {model}"))
        .hint(format!("see whether it is deployed with `tradewind status {model}`"));
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => problem.cause(refusal.error),
        Err(_) => problem,
    }
}
