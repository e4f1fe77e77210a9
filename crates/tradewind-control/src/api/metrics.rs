//! What the control plane shows: its requests, its store, and the world as it sees it.

mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use serde::Serialize;
use tradewind_api::metrics::{Buckets, Page, SECONDS, control as of, process};

use crate::app::{App, STREAMS_LIMIT};

/// Requests by method and route. Their number is bounded: a request without a route counts under `none`, and methods
/// are those that a route has.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    counts: Mutex<BTreeMap<Kind, Count>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    route: String,
    method: &'static str,
}

#[derive(Debug)]
struct Count {
    by_status: BTreeMap<u16, u64>,
    /// Until the answer's head; a stream's body goes on.
    durations: Buckets,
}

impl Default for Count {
    fn default() -> Self {
        Self { by_status: BTreeMap::new(), durations: Buckets::new(&SECONDS) }
    }
}

impl Requests {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<Kind, Count>> {
        // Whoever panicked has left the data whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = method(request.method());
    let started = Instant::now();
    let response = next.run(request).await;
    let took = started.elapsed();
    let mut counts = app.requests.counts();
    let count = counts.entry(Kind { route, method }).or_default();
    *count.by_status.entry(response.status().as_u16()).or_default() += 1;
    count.durations.record(took);
    drop(counts);
    response
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Puts everything on a page that is still empty. What cannot be read now is left out, and told in the log.
pub(super) async fn write(page: &mut Page, app: &App) {
    process::write(page, "control", None);
    page.one(&process::SPANS_DROPPED, tradewind_traces::dropped());
    requests(page, &app.requests);
    page.one(&of::RECONCILING, app.is_reconciling());
    page.one(&of::STREAMS, STREAMS_LIMIT - app.streams.available_permits());
    events(page, app);
    disk(page, app);
    match app.repository.store().stats().await {
        Ok(stats) => {
            page.one(&of::STORE_BYTES, stats.bytes);
            page.one(&of::STORE_TRANSACTIONS, stats.transactions);
        }
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the store does not tell its size"),
    }
    if let Err(error) = world::write(page, app).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the store does not tell what is deployed");
    }
}

fn requests(page: &mut Page, requests: &Requests) {
    let counts = requests.counts();
    let mut series = page.begin(&of::REQUESTS);
    for (Kind { route, method }, count) in counts.iter() {
        for (status, number) in &count.by_status {
            series.add([method, route, status], *number);
        }
    }
    let mut series = page.begin(&of::REQUEST_DURATION);
    for (Kind { route, method }, count) in counts.iter() {
        series.add([method, route], &count.durations.read());
    }
}

fn events(page: &mut Page, app: &App) {
    page.one(&of::EVENTS, app.events.count());
    let mut series = page.begin(&of::EVENTS_RECORDED);
    let seen = app.events.seen();
    let seen: BTreeMap<_, _> =
        seen.iter().map(|((kind, severity), number)| ((word(kind), word(severity)), *number)).collect();
    for ((kind, severity), number) in &seen {
        series.add([kind, severity], *number);
    }
}

fn disk(page: &mut Page, app: &App) {
    match tradewind_artifacts::room(&app.data_dir) {
        Ok(room) => {
            page.one(&of::DISK_SIZE, room.total_bytes);
            page.one(&of::DISK_AVAILABLE, room.free_bytes);
        }
        Err(error) => tracing::warn!(%error, directory = %app.data_dir.display(), "the disk does not tell its room"),
    }
}

/// The stable word of the API.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
