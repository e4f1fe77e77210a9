//! What agents ask and tell.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{Json, Response},
};
use futures_util::stream;
use tokio::sync::watch;
use tradewind_api::{
    Code, Problem,
    agent::{AgentEvent, AgentReport, EVENTS_LIMIT, RegionAssignments, ReportReceipt},
    ndjson::CHECK_INTERVAL,
};
use tradewind_core::{RegionName, Timestamp, assignment::Assignment, event::EventRecord, region::MemberRole};
use tradewind_store::Txn;

use super::{Result, Shared, auth::MemberRegion, extract, regions::check_exists};
use crate::{
    app::App,
    events::{self, MESSAGE_LIMIT},
    keys, repository,
};

/// The largest report, in bytes.
pub(super) const REPORT_LIMIT: usize = 8 << 20;
/// Events that are written in one transaction.
const EVENTS_BATCH: usize = 100;
/// The longest name that an agent gives itself, and the longest address.
const TEXT_LIMIT: usize = 255;

/// What the agent's region should run, as NDJSON: the whole of it in every message, now and after every change.
#[utoipa::path(get, path = "/v1/agent/assignments", tag = "agents",
    responses(
        (status = 200, body = RegionAssignments, content_type = "application/x-ndjson"),
        (status = 404, body = Problem),
    ))]
pub(super) async fn assignments(State(app): Shared, MemberRegion(region): MemberRegion) -> Result<Response> {
    check_exists(&app, &region).await?;
    let changes = app.assignments.of(&region);
    let first = read(&app, &region).await?;
    let follower = Follower { app: app.clone(), region, changes, known: first.assignments.clone() };
    let rest = stream::unfold(follower, |mut follower| async move {
        let assignments = follower.next().await?;
        Some((assignments, follower))
    });
    app.stream(futures_util::StreamExt::chain(stream::iter([first]), rest))
}

struct Follower {
    app: Arc<App>,
    region: RegionName,
    changes: watch::Receiver<u64>,
    known: Vec<Assignment>,
}

impl Follower {
    /// The next state that differs from the last one; none when it cannot be read, and the agent connects again.
    async fn next(&mut self) -> Option<RegionAssignments> {
        loop {
            // Also without a change, should one not have been told.
            if let Ok(Err(_)) = tokio::time::timeout(CHECK_INTERVAL, self.changes.changed()).await {
                return None;
            }
            match read(&self.app, &self.region).await {
                Ok(state) if state.assignments == self.known => {}
                Ok(state) => {
                    self.known = state.assignments.clone();
                    return Some(state);
                }
                Err(error) => {
                    let (error, region) = (&error as &dyn std::error::Error, &self.region);
                    tracing::warn!(error, %region, "a stream of assignments ends");
                    return None;
                }
            }
        }
    }
}

async fn read(app: &App, region: &RegionName) -> repository::Result<RegionAssignments> {
    let listed = app.repository.list::<Assignment>(keys::assignments(region)).await?;
    Ok(RegionAssignments {
        region: region.clone(),
        incarnation: app.incarnation.to_string(),
        revision: listed.revision.get(),
        mesh_token: app.mesh_token.clone(),
        assignments: listed.values(),
    })
}

/// Takes an agent's report. What it tells of its replicas stays in memory; its events are stored.
#[utoipa::path(post, path = "/v1/agent/report", tag = "agents", request_body = AgentReport,
    responses((status = 200, body = ReportReceipt), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn report(
    State(app): Shared,
    MemberRegion(region): MemberRegion,
    extract::Json(mut report): extract::Json<AgentReport, REPORT_LIMIT>,
) -> Result<Json<ReportReceipt>> {
    check_region(&region, &report.region)?;
    check_address(&report.address)?;
    check_exists(&app, &region).await?;
    check_instance(&report.instance)?;
    if report.events.len() > EVENTS_LIMIT {
        return Err(Problem::new(Code::TooLarge, format!("a report has at most {EVENTS_LIMIT} events")));
    }
    let told = std::mem::take(&mut report.events);
    let instance = report.instance.clone();
    app.members.note(&region, MemberRole::Agent, &report.address).await?;
    app.hub.report_agent(report, Timestamp::now());
    Ok(Json(ReportReceipt { events_stored: store_events(&app, &region, &instance, told).await? }))
}

/// Stores each event once: its key says where it comes from, so that one that is told again is the same one.
async fn store_events(app: &Arc<App>, region: &RegionName, instance: &str, told: Vec<AgentEvent>) -> Result<u64> {
    let mut stored = 0;
    let now = Timestamp::now();
    for batch in told.chunks(EVENTS_BATCH) {
        let puts = batch.iter().map(|event| {
            let unique = format!("agent/{region}/{instance}/{}", event.sequence);
            let record = adopt(event, region, now);
            events::record(record.at, &unique, &record)
        });
        app.repository.commit(puts.fold(Txn::new(), Txn::then)).await?;
        stored = batch.iter().map(|event| event.sequence).fold(stored, u64::max);
    }
    Ok(stored)
}

/// An agent's clock may be wrong; the past begins with the epoch, and nothing has happened in the future.
fn adopt(event: &AgentEvent, region: &RegionName, now: Timestamp) -> EventRecord {
    let mut message = event.message.clone();
    if message.len() > MESSAGE_LIMIT {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
    }
    EventRecord {
        at: event.at.clamp(Timestamp::UNIX_EPOCH, now),
        severity: event.severity,
        kind: event.kind,
        region: Some(region.clone()),
        model: event.model.clone(),
        message,
    }
}

pub(super) fn check_region(token: &RegionName, report: &RegionName) -> Result<()> {
    if token == report {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, format!("a member of {token} cannot report for {report}")))
}

/// `host:port`
pub(super) fn check_address(address: &str) -> Result<()> {
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if !host.is_empty() && address.len() <= TEXT_LIMIT && host.chars().all(plain) && port.parse::<u16>().is_ok() {
        return Ok(());
    }
    Err(Problem::new(Code::Invalid, "`address` is not host:port"))
}

fn check_instance(instance: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !instance.is_empty() && instance.len() <= TEXT_LIMIT && instance.chars().all(plain) {
        return Ok(());
    }
    Err(Problem::new(Code::Invalid, "`instance` has letters, digits, `.`, `_` and `-`"))
}
