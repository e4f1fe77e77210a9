//! A fake control: hands out one desired state, versions and blobs, and keeps the last report and all events.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::StreamExt;
use tokio::{sync::watch, task::JoinHandle};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Code, Problem,
    agent::{ASSIGNMENTS_PATH, AgentEvent, AgentReport, REPORT_PATH, RegionAssignments, ReportReceipt},
    http::bearer,
    ndjson,
};
use tradewind_core::{Digest, bundle::ModelVersion};

pub(crate) const TOKEN: &str = "tw1.agent/us-east1.test";

#[derive(Debug)]
pub(crate) struct FakeControl {
    pub(crate) desired: watch::Sender<Option<RegionAssignments>>,
    pub(crate) reports: watch::Sender<Option<AgentReport>>,
    pub(crate) events: Mutex<Vec<AgentEvent>>,
    pub(crate) versions: Mutex<BTreeMap<(String, u64), ModelVersion>>,
    pub(crate) blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

/// The control while it runs; it keeps what it knows when it is stopped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl FakeControl {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            desired: watch::Sender::new(None),
            reports: watch::Sender::new(None),
            events: Mutex::default(),
            versions: Mutex::default(),
            blobs: Mutex::default(),
        })
    }

    pub(crate) async fn run(self: &Arc<Self>, address: SocketAddr) -> Running {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let state = (Arc::clone(self), stop.clone());
        let router = Router::new()
            .route(ASSIGNMENTS_PATH, get(assignments))
            .route(REPORT_PATH, post(report))
            .route("/v1/models/{name}/versions/{version}", get(version))
            .route("/v1/blobs/{digest}", get(blob))
            .with_state(state);
        let until = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(until).await.unwrap();
        });
        Running { address, stop, task }
    }
}

type Shared = State<(Arc<FakeControl>, CancellationToken)>;

fn check(headers: &HeaderMap) -> Result<(), Problem> {
    match bearer(headers) {
        Some(TOKEN) => Ok(()),
        _ => Err(Problem::new(Code::Unauthorized, "no")),
    }
}

async fn assignments(State((control, stop)): Shared, headers: HeaderMap) -> Result<Response, Problem> {
    check(&headers)?;
    let messages = WatchStream::new(control.desired.subscribe()).filter_map(async |message| message);
    Ok(ndjson::respond(messages.boxed().take_until(stop.cancelled_owned())))
}

async fn report(
    State((control, _)): Shared,
    headers: HeaderMap,
    Json(report): Json<AgentReport>,
) -> Result<Json<ReportReceipt>, Problem> {
    check(&headers)?;
    let mut events = control.events.lock().unwrap();
    let events_stored = report.events.iter().map(|event| event.sequence).max().unwrap_or(0);
    events.extend(report.events.iter().cloned());
    drop(events);
    control.reports.send_replace(Some(report));
    Ok(Json(ReportReceipt { events_stored }))
}

async fn version(
    State((control, _)): Shared,
    headers: HeaderMap,
    Path((name, version)): Path<(String, u64)>,
) -> Result<Json<ModelVersion>, Problem> {
    check(&headers)?;
    let known = control.versions.lock().unwrap().get(&(name, version)).cloned();
    known.map(Json).ok_or_else(|| Problem::new(Code::NotFound, "no such version"))
}

async fn blob(
    State((control, _)): Shared,
    headers: HeaderMap,
    Path(digest): Path<String>,
) -> Result<Response, Problem> {
    check(&headers)?;
    let digest: Digest = digest.parse().unwrap();
    let blob = control.blobs.lock().unwrap().get(&digest).cloned();
    let blob = blob.ok_or_else(|| Problem::new(Code::NotFound, "no such blob"))?;
    match headers.get(header::RANGE) {
        None => Ok(blob.into_response()),
        Some(range) => {
            let offset = range.to_str().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            Ok((StatusCode::PARTIAL_CONTENT, blob[offset..].to_vec()).into_response())
        }
    }
}
