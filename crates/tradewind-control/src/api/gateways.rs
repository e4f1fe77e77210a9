//! What gateways ask and tell.

use axum::{extract::State, http::StatusCode, response::Response};
use futures_util::stream;
use tradewind_api::{
    Problem,
    gateway::{GatewayReport, config::ConfigMessage},
};
use tradewind_core::{Digest, Timestamp, region::MemberRole};

use super::{
    Result, Shared,
    agents::{REPORT_LIMIT, check_address, check_region},
    auth::MemberRegion,
    blobs,
    extract::{self, Path},
    regions::check_exists,
};
use crate::fleet::Follower;

/// Everything that a gateway needs to know, as NDJSON: the whole of it now, then what changes, each change with the digest
/// of what it is a change to and of what it leads to.
#[utoipa::path(get, path = "/v1/gateway/snapshot", tag = "gateways",
    responses(
        (status = 200, body = ConfigMessage, content_type = "application/x-ndjson"),
        (status = 404, body = Problem),
    ))]
pub(super) async fn snapshot(State(app): Shared, MemberRegion(region): MemberRegion) -> Result<Response> {
    check_exists(&app, &region).await?;
    let follower = Follower::new(app.published.clone());
    app.stream(stream::unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Some((message, follower))
    }))
}

/// A table of pinned users, whole.
#[utoipa::path(get, path = "/v1/gateway/pins/{digest}", tag = "gateways",
    params(("digest" = Digest, Path)),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem),
    ))]
pub(super) async fn table(State(app): Shared, Path(digest): Path<Digest>) -> Result<Response> {
    let blob = app.tables.read(&digest, ..).await.map_err(|error| blobs::problem(&error))?;
    Ok(blobs::sent(blob))
}

/// Takes a gateway's report, which stays in memory.
#[utoipa::path(post, path = "/v1/gateway/report", tag = "gateways", request_body = GatewayReport,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn report(
    State(app): Shared,
    MemberRegion(region): MemberRegion,
    extract::Json(report): extract::Json<GatewayReport, REPORT_LIMIT>,
) -> Result<StatusCode> {
    check_region(&region, &report.region)?;
    check_address(&report.address)?;
    check_exists(&app, &region).await?;
    app.members.note(&region, MemberRole::Gateway, &report.address).await?;
    app.hub.report_gateway(report, Timestamp::now());
    Ok(StatusCode::NO_CONTENT)
}
