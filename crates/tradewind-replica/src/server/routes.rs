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
    served::Target,
};
use crate::metrics::{self, Reason};

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
        .route("/metrics", get(measured))
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
    let served = server.find(&named.model, named.version.as_deref())?;
    let ready = served.ready().is_ok() && !server.shutdown.is_cancelled();
    Ok((ready_status(ready), Json(json!({ "name": served.name(), "ready": ready }))).into_response())
}

async fn server_metadata() -> Response {
    Json(json!({ "name": "tradewind", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS })).into_response()
}

async fn metadata(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    let target = server.target(&named)?;
    let body = json!({
        "name": target.served.name(),
        "versions": [target.served.version],
        "platform": PLATFORM,
        "inputs": target.engine().signature().inputs,
        "outputs": target.engine().signature().outputs,
    });
    Ok(Json(body).into_response())
}

async fn config(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    Ok(Json(server.target(&named)?.config_json()).into_response())
}

async fn statistics(State(server): State<Arc<Server>>) -> Response {
    Json(server.statistics(None)).into_response()
}

async fn model_statistics(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    let served = server.find(&named.model, named.version.as_deref())?;
    Ok(Json(server.statistics(Some(served))).into_response())
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
    Ok(Json(server.index(ready_only).into_iter().map(entry).collect::<Vec<_>>()).into_response())
}

async fn load(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
    request: Request<Body>,
) -> Result<(), Failure> {
    let overrides = !About::read(request).await?.parameters.is_empty();
    server.load(&named.model, overrides).await
}

async fn unload(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<(), Failure> {
    server.unload(&named.model).await
}

async fn loaded(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    let target = server.target(&named)?;
    let loaded = LoadedModel {
        replica: server.id.clone(),
        model: target.served.options.model.clone(),
        version: target.served.options.version,
        files: target.engine().files.clone(),
        signature: target.engine().signature().clone(),
    };
    Ok(Json(loaded).into_response())
}

async fn measured(State(server): State<Arc<Server>>, headers: HeaderMap) -> Page {
    let stopping = server.shutdown.is_cancelled();
    let models: Vec<_> = server.models.iter().map(|served| (&served.metrics, served.now(stopping))).collect();
    let mut page = Page::asked(&headers);
    metrics::write(&mut page, server.places.bytes(), &models);
    page
}

impl Server {
    fn target(&self, named: &Named) -> Result<Target, Failure> {
        Target::of(self.find(&named.model, named.version.as_deref())?)
    }
}
