//! For those who operate the control plane: whether it lives, whether it is ready, its numbers, its API.

use axum::{extract::State, http::HeaderMap, response::Json};
use tradewind_api::{Code, Problem, metrics::Page};

use super::{Result, Shared, metrics as numbers};

#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, body = String, description = "The process lives")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, body = String, description = "The store answers and the reconcilers run"),
    (status = 503, body = Problem),
))]
pub(super) async fn readyz(State(app): Shared) -> Result<&'static str> {
    let not_ready = |reason: &str| Problem::new(Code::Unavailable, format!("not ready: {reason}"));
    if app.shutdown.is_cancelled() {
        return Err(not_ready("stopping"));
    }
    if let Err(error) = app.repository.store().health().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the store does not answer");
        return Err(not_ready("the store does not answer"));
    }
    if !app.is_reconciling() {
        return Err(not_ready("the reconcilers do not run"));
    }
    Ok("ready\n")
}

#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String, description = "Prometheus' text format 0.0.4, or OpenMetrics 1.0 for those who accept it")))]
pub(super) async fn metrics(State(app): Shared, headers: HeaderMap) -> Page {
    let mut page = Page::asked(&headers);
    numbers::write(&mut page, &app).await;
    page
}

#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, body = Object, description = "This document")))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(super::openapi())
}
