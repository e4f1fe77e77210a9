//! The routes of REST that tell; `rest` holds the one that works. What speaks gRPC goes to `grpc` instead.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tradewind_api::{
    grpc::{is_grpc, message::ModelIndex},
    metrics::Page,
    replica::LoadedModel,
    server,
};

use super::{
    Server,
    body::{self, Plan, QUESTION_BYTES_LIMIT},
    failure::Failure,
    grpc, rest,
};
use crate::{
    engine::Engine,
    metrics::{Now, Reason},
};

/// What Triton calls a model of this kind; clients show it.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";

/// What of the protocol is optional and served here.
pub(super) const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];

/// REST and gRPC on one port.
pub(super) fn service(
    server: Arc<Server>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let rest = server::routes(router(Arc::clone(&server)));
    service_fn(move |request: Request<Incoming>| {
        let (server, rest) = (Arc::clone(&server), rest.clone());
        async move {
            if is_grpc(request.headers()) {
                return Ok(grpc::answer(server, request.map(Body::new)).await);
            }
            rest.call(request).await
        }
    })
}

fn router(server: Arc<Server>) -> Router {
    let model = Router::new()
        .route("/", get(metadata))
        .route("/ready", get(model_ready))
        .route("/config", get(config))
        .route("/stats", get(model_statistics))
        .route("/infer", post(rest::infer));
    Router::new()
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(statistics))
        .route("/v2/models/{model}/tradewind", get(loaded))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such route"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "the route has no such method"))
        .with_state(server)
}

/// The model, and the version if any, that a path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

fn refuse(status: StatusCode, message: &str) -> Failure {
    Failure::new(status, Reason::Invalid, message)
}

fn ready_status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let ready = server.is_ready();
    (ready_status(ready), Json(json!({ "ready": ready }))).into_response()
}

/// 404 for a model that is not served here, where Triton answers 400.
async fn model_ready(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named.model, named.version.as_deref())?;
    let ready = server.is_ready();
    Ok((ready_status(ready), Json(json!({ "name": server.model, "ready": ready }))).into_response())
}

async fn server_metadata() -> Response {
    Json(json!({ "name": "tradewind", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS })).into_response()
}

async fn metadata(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named.model, named.version.as_deref())?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    let body = json!({
        "name": server.model,
        "versions": [server.version_text],
        "platform": PLATFORM,
        "inputs": engine.signature().inputs,
        "outputs": engine.signature().outputs,
    });
    Ok(Json(body).into_response())
}

async fn config(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named.model, named.version.as_deref())?;
    Ok(Json(server.config_json()?).into_response())
}

async fn statistics(State(server): State<Arc<Server>>) -> Response {
    Json(server.statistics()).into_response()
}

async fn model_statistics(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named.model, named.version.as_deref())?;
    Ok(Json(server.statistics()).into_response())
}

/// What a request about the repository may say in its body, if it has one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct About {
    ready: bool,
    parameters: BTreeMap<String, IgnoredAny>,
}

impl About {
    async fn read(request: Request<Body>) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        let plan = Plan { limit: QUESTION_BYTES_LIMIT, aligned_at: 0 };
        let body = body::read(&head.headers, body, plan, |_| Ok(())).await?;
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&body)
            .map_err(|error| refuse(StatusCode::BAD_REQUEST, &format!("the request is not valid: {error}")))
    }
}

async fn index(State(server): State<Arc<Server>>, request: Request<Body>) -> Result<Response, Failure> {
    let ready_only = About::read(request).await?.ready;
    let entry = |ModelIndex { name, version, state, reason }| json!({ "name": name, "version": version, "state": state, "reason": reason });
    Ok(Json(server.index(ready_only).map(entry).into_iter().collect::<Vec<_>>()).into_response())
}

async fn load(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
    request: Request<Body>,
) -> Result<(), Failure> {
    let overrides = !About::read(request).await?.parameters.is_empty();
    server.load(&named.model, overrides)
}

async fn unload(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<(), Failure> {
    server.unload(&named.model)
}

async fn loaded(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named.model, named.version.as_deref())?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    let loaded = LoadedModel {
        replica: server.id.clone(),
        model: server.model.clone(),
        version: server.version,
        files: engine.files.clone(),
        signature: engine.signature().clone(),
    };
    Ok(Json(loaded).into_response())
}

async fn metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Page {
    let now = Now {
        model: &server.model,
        version: server.version,
        ready: server.is_ready(),
        loaded_in: server.loaded_in.get().copied(),
        in_flight: server.places.taken(),
        bytes: server.places.bytes(),
        queued: server.engine.get().map_or(0, Engine::queued),
        batches: server.engine.get().is_some_and(Engine::batches),
        executions: server.engine.get().map_or(0, Engine::executions),
    };
    let mut page = Page::asked(&headers);
    server.metrics.write(&mut page, &now);
    page
}
