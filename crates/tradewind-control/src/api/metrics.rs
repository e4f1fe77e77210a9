//! The control plane's own numbers, in Prometheus' text format 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use tradewind_core::Timestamp;

use crate::{
    app::{App, STREAMS_LIMIT},
    view::sight::{Regions, Sight},
};

/// Requests by method, route and status. Their number is bounded: a request without a route counts under `none`, and
/// methods are those that a route has.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    counts: Mutex<BTreeMap<Kind, Count>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    requests: u64,
    /// Until the answer's head; a stream's body goes on.
    duration: Duration,
}

pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = method(request.method());
    let started = Instant::now();
    let response = next.run(request).await;
    let kind = Kind { route, method, status: response.status().as_u16() };
    // Whoever panicked has left the data whole.
    let mut counts = app.requests.counts.lock().unwrap_or_else(PoisonError::into_inner);
    let count = counts.entry(kind).or_default();
    count.requests += 1;
    count.duration += started.elapsed();
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

pub(super) async fn render(app: &App) -> String {
    let mut text = String::new();
    requests(&mut text, &app.requests);
    let (agents, gateways) = {
        let (regions, seen) = (Regions::new(), app.hub.seen());
        let sight = Sight::new(&regions, &seen, Timestamp::now());
        let agents = seen.agents.keys().filter(|region| sight.is_reachable(region)).count();
        (agents, seen.gateways.values().filter(|gateway| sight.alive(gateway)).count())
    };
    gauge(&mut text, "agents", "Agents that report.", agents);
    gauge(&mut text, "gateways", "Gateways that report.", gateways);
    gauge(&mut text, "streams", "Streams that are open.", STREAMS_LIMIT - app.streams.available_permits());
    gauge(&mut text, "events", "Events that are kept.", app.events.count());
    gauge(&mut text, "reconciling", "1 while the reconcilers run.", u8::from(app.is_reconciling()));
    match app.repository.store().stats().await {
        Ok(stats) => {
            gauge(&mut text, "store_bytes", "Bytes that the store holds, history included.", stats.bytes);
            let help = "Transactions that changed something since the start.";
            metric(&mut text, "store_transactions_total", "counter", help, stats.transactions);
        }
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the store does not tell its size"),
    }
    text
}

fn requests(text: &mut String, requests: &Requests) {
    let counts = requests.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    head(text, "requests_total", "counter", "Requests that were answered.");
    for (kind, count) in &counts {
        line(text, "requests_total", kind, &count.requests);
    }
    head(text, "request_seconds_total", "counter", "Time until the head of the answers, in seconds.");
    for (kind, count) in &counts {
        line(text, "request_seconds_total", kind, &count.duration.as_secs_f64());
    }
}

fn line(text: &mut String, name: &str, kind: &Kind, value: &dyn std::fmt::Display) {
    let Kind { route, method, status } = kind;
    push(
        text,
        format_args!("tradewind_control_{name}{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}} {value}\n"),
    );
}

fn gauge(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    metric(text, name, "gauge", help, value);
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    head(text, name, kind, help);
    push(text, format_args!("tradewind_control_{name} {value}\n"));
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    push(text, format_args!("# HELP tradewind_control_{name} {help}\n# TYPE tradewind_control_{name} {kind}\n"));
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
