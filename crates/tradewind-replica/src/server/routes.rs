//! The routes that tell; `infer` holds the one that works.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tradewind_api::replica::LoadedModel;

use super::{Server, failure::Failure, infer};
use crate::{engine::QUEUE_LIMIT, metrics::Reason};

/// What Triton calls a model of this kind; clients show it.
const PLATFORM: &str = "onnxruntime_onnx";

pub(super) fn router(server: Arc<Server>) -> Router {
    let model =
        Router::new().route("/", get(metadata)).route("/ready", get(model_ready)).route("/infer", post(infer::infer));
    Router::new()
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v2", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}/tradewind", get(loaded))
        .nest("/v2/models/{model}", model.clone())
        .nest("/v2/models/{model}/versions/{version}", model)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there is no such route"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "the route has no such method"))
        .with_state(server)
}

/// The model, and the version if any, that a path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    model: String,
    version: Option<String>,
}

impl Server {
    /// A 404 unless the path names what this replica serves.
    pub(super) fn check_name(&self, named: &Named) -> Result<(), Failure> {
        let unknown = |message| Err(Failure::new(StatusCode::NOT_FOUND, Reason::UnknownModel, message));
        if named.model != self.model.as_str() {
            return unknown(format!("this replica serves `{}`, not `{}`", self.model, shorten(&named.model)));
        }
        match &named.version {
            Some(version) if *version != self.version_text => {
                unknown(format!("this replica serves version {}, not `{}`", self.version, shorten(version)))
            }
            _ => Ok(()),
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(tradewind_core::names::NAME_LIMIT).collect()
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
    server.check_name(&named)?;
    let ready = server.is_ready();
    Ok((ready_status(ready), Json(json!({ "name": server.model, "ready": ready }))).into_response())
}

async fn server_metadata() -> Response {
    Json(json!({ "name": "tradewind", "version": env!("CARGO_PKG_VERSION"), "extensions": [] })).into_response()
}

async fn metadata(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named)?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    let body = json!({
        "name": server.model,
        "versions": [server.version_text],
        "platform": PLATFORM,
        "inputs": engine.signature.inputs,
        "outputs": engine.signature.outputs,
    });
    Ok(Json(body).into_response())
}

async fn loaded(State(server): State<Arc<Server>>, Path(named): Path<Named>) -> Result<Response, Failure> {
    server.check_name(&named)?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    let loaded = LoadedModel {
        replica: server.id.clone(),
        model: server.model.clone(),
        version: server.version,
        files: engine.files.clone(),
        signature: engine.signature.clone(),
    };
    Ok(Json(loaded).into_response())
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let in_flight = QUEUE_LIMIT - server.admission.available_permits();
    let text = server.metrics.render(server.is_ready(), in_flight);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
