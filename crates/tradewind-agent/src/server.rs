//! What the agent answers: endpoints and logs to the holders of the mesh token, health and metrics to everyone.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Code, Problem,
    agent::{DEMAND_LIMIT, DEMAND_PATH, DemandReport, ENDPOINTS_PATH, Endpoints, LOGS_PATH, LogQuery},
    http::bearer,
    metrics::Page,
    ndjson::{self, CHECK_INTERVAL},
    server::{self, Limits},
};

use crate::{Error, agent::Context, logs::Selection, metrics};

/// The most connections at once: the gateways of one region, those who read logs, monitoring.
const CONNECTIONS_LIMIT: usize = 1024;
/// Answers that were begun before the shutdown are finished within this time. All of them are short, or end with it.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
struct Server {
    context: Arc<Context>,
    shutdown: CancellationToken,
}

pub(crate) async fn run(
    context: Arc<Context>,
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let listener = TcpListener::from_std(listener).map_err(|source| Error::Serve { source })?;
    let router = router(Server { context, shutdown: shutdown.clone() });
    server::run(listener, server::routes(router), Limits::new(CONNECTIONS_LIMIT, DRAIN_LIMIT), shutdown).await;
    Ok(())
}

fn router(state: Server) -> Router {
    let protected = Router::new()
        .route(ENDPOINTS_PATH, get(endpoints))
        .route(LOGS_PATH, get(logs))
        .route(DEMAND_PATH, post(demand))
        .route_layer(middleware::from_fn_with_state(state.clone(), require_mesh_token));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(protected)
        .fallback(async || Problem::new(Code::NotFound, "there is no such route"))
        .layer(middleware::from_fn(server::in_context))
        .with_state(state)
}

/// Before control has said once what the token is, nobody has the right one.
async fn require_mesh_token(State(server): State<Server>, request: Request, next: Next) -> Response {
    let expected = server.context.desired.current().map(|desired| blake3::hash(desired.mesh_token.as_bytes()));
    let presented = bearer(request.headers()).map(|token| blake3::hash(token.as_bytes()));
    // Hashes are compared in constant time.
    match expected.zip(presented) {
        Some((expected, presented)) if expected == presented => next.run(request).await,
        _ => {
            let problem = Problem::new(Code::Unauthorized, "this route wants the mesh token");
            let mut response = problem.into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

async fn endpoints(State(server): State<Server>) -> Response {
    if !server.context.settled.load(Ordering::Acquire) {
        return Problem::new(Code::Unavailable, "this agent does not know yet what runs here").into_response();
    }
    let board = server.context.board.endpoints();
    let items = stream::unfold((board, false), |(mut board, told)| async move {
        // Also without a change, should a gateway have lost one.
        if told && let Ok(Err(_)) = timeout(CHECK_INTERVAL, board.changed()).await {
            return None;
        }
        let endpoints = Endpoints::clone(&board.borrow_and_update());
        Some((endpoints, (board, true)))
    });
    ndjson::respond(items.take_until(server.shutdown.cancelled_owned()))
}

/// What a gateway of this region has in flight.
async fn demand(State(server): State<Server>, body: Body) -> Result<StatusCode, Problem> {
    let body = to_bytes(body, DEMAND_LIMIT).await;
    let body = body.map_err(|_| Problem::new(Code::TooLarge, format!("a report has at most {DEMAND_LIMIT} bytes")))?;
    let report: DemandReport =
        serde_json::from_slice(&body).map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
    report.check().map_err(|problem| Problem::new(Code::Invalid, problem))?;
    match server.context.demand.take(report) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Code::Refused, "this region has as many gateways as there may be")),
    }
}

async fn logs(State(server): State<Server>, Query(query): Query<LogQuery>) -> Result<Response, Problem> {
    let held = server.context.board.slots();
    let revisions = match query.revision {
        Some(revision) => vec![revision],
        None => {
            held.iter().filter(|((model, _), _)| *model == query.model).map(|(_, view)| view.status.revision).collect()
        }
    };
    let directory = server.context.home.model_logs(&query.model);
    let selection = Selection { directory, revisions, lines: query.lines };
    let tail = tokio::task::spawn_blocking(move || selection.tail()).await;
    let (tail, follow) = tail.map_err(|error| Problem::from_error(Code::Internal, &error))?;
    let body = match query.follow {
        false => Body::from(tail),
        true => {
            let lines = stream::iter([tail]).chain(follow.stream()).take_until(server.shutdown.cancelled_owned());
            Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>))
        }
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

async fn readyz(State(server): State<Server>) -> Response {
    match server.context.settled.load(Ordering::Acquire) {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "waiting for control\n").into_response(),
    }
}

async fn metrics(State(server): State<Server>, headers: HeaderMap) -> Page {
    let mut page = Page::asked(&headers);
    metrics::write(&mut page, &server.context);
    page
}
