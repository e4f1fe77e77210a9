//! What the gateway answers itself.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use prost::Message;
use tradewind_api::{
    gateway::{EDITION_PATH, EXPLAIN_PATH, GatewaySnapshot, PEER_PATH, PIN_TABLES_PATH, PeerState, config::Edition},
    grpc::{self, frame, message},
    http::bearer_token,
    metrics::{Format, Page},
};
use tradewind_core::Digest;

use crate::{
    body::Answer,
    explain,
    gateway::Gateway,
    headers::{is_grpc, same_token},
    message::{Request, Response},
    metrics,
    proxy::STATISTICS_PATH,
    reply::{Dialect, Reply},
    server::Incoming,
    worker::Worker,
    world::Serving,
};

const NAME: &str = "tradewind";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The extensions of the Open Inference Protocol that requests pass through with.
const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
const INDEX_PATH: &str = "/v2/repository/index";
const NOT_LOADED_HERE: &str = "models are not loaded or unloaded through a gateway; deploy and undeploy them";

pub(super) async fn answer(worker: &Worker, request: &Request<Incoming>) -> Response<Answer> {
    if is_grpc(&request.head.headers) {
        return of_grpc(&worker.gateway, request.head.path.path());
    }
    of_rest(&worker.gateway, request).await.respond(Dialect::Rest)
}

async fn of_rest(gateway: &Arc<Gateway>, request: &Request<Incoming>) -> Reply {
    let path = request.head.path.path();
    if path == INDEX_PATH {
        return index_in_json(gateway, request);
    }
    if path.starts_with("/v2/repository") {
        return Reply::error(StatusCode::FORBIDDEN, NOT_LOADED_HERE);
    }
    if path == STATISTICS_PATH {
        let message = "name a model, as in /v2/models/NAME/stats: one of its replicas answers; of all tells /metrics";
        return Reply::error(StatusCode::NOT_FOUND, message);
    }
    let page: Option<fn(&Gateway) -> Reply> =
        match path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path) {
            "/v2" => Some(metadata),
            "/v2/health/live" => Some(live),
            "/v2/health/ready" => Some(ready_for_clients),
            "/healthz" => Some(alive),
            "/readyz" => Some(ready),
            "/metrics" => None,
            PEER_PATH => return for_holders_of_the_token(gateway, request, peer_state),
            EDITION_PATH => return for_holders_of_the_token(gateway, request, edition),
            EXPLAIN_PATH => return for_holders_of_the_token(gateway, request, explain::answer),
            path if path.starts_with(PIN_TABLES_PATH) => return for_holders_of_the_token(gateway, request, table),
            _ => return Reply::error(StatusCode::NOT_FOUND, "no such path; models are under /v2/models/"),
        };
    if !matches!(request.head.method, Method::GET | Method::HEAD) {
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path is only for GET");
    }
    match page {
        Some(page) => page(gateway),
        None => metrics(gateway, request).await,
    }
}

/// What is routed, whatever its state: that is told of each.
fn index_in_json(gateway: &Gateway, request: &Request<Incoming>) -> Reply {
    if request.head.method != Method::POST {
        return Reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path is only for POST");
    }
    let entry = |message::ModelIndex { name, version, state, reason }| serde_json::json!({ "name": name, "version": version, "state": state, "reason": reason });
    Reply::json(StatusCode::OK, &index(gateway).into_iter().map(entry).collect::<Vec<_>>())
}

fn index(gateway: &Gateway) -> Vec<message::ModelIndex> {
    let world = gateway.world.load();
    let Some(world) = world.as_ref() else { return Vec::new() };
    let entry = |(name, serving): (&str, &Serving)| {
        let (state, reason) = match world.eligible(name, serving) {
            true => ("READY", String::new()),
            false => ("UNAVAILABLE", world.why_not(name, serving)),
        };
        let (name, version) = (name.to_owned(), serving.state.version.to_string());
        message::ModelIndex { name, version, state: state.to_owned(), reason }
    };
    let routed = world.models.iter().filter_map(|(name, model)| Some((&**name, model.live()?)));
    let mut index: Vec<_> = routed.map(entry).collect();
    index.sort_by(|one, other| one.name.cmp(&other.name));
    index
}

fn metadata(_: &Gateway) -> Reply {
    let about = serde_json::json!({ "name": NAME, "version": VERSION, "extensions": EXTENSIONS });
    Reply::json(StatusCode::OK, &about)
}

/// Some clients of the protocol read the body.
fn live(_: &Gateway) -> Reply {
    Reply::json(StatusCode::OK, &serde_json::json!({ "live": true }))
}

fn ready_for_clients(gateway: &Gateway) -> Reply {
    let status = ready(gateway).status;
    Reply::json(status, &serde_json::json!({ "ready": status == StatusCode::OK }))
}

fn alive(_: &Gateway) -> Reply {
    Reply::text(StatusCode::OK, "ok\n")
}

/// Ready when every routed model has an eligible region.
fn ready(gateway: &Gateway) -> Reply {
    let world = gateway.world.load();
    let Some(world) = world.as_ref() else {
        return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet\n");
    };
    match world.unserved() {
        unserved if unserved.is_empty() => Reply::text(StatusCode::OK, "ready\n"),
        unserved => Reply::text(StatusCode::SERVICE_UNAVAILABLE, unserved.join("\n") + "\n"),
    }
}

/// With many models and regions it takes some milliseconds to write them, for which no user waits: another thread does
/// it, one page at a time.
async fn metrics(gateway: &Arc<Gateway>, request: &Request<Incoming>) -> Reply {
    let format = Format::accepted(request.head.headers.get(&header::ACCEPT).unwrap_or_default());
    let _turn = gateway.metrics.page.lock().await;
    let shown = Arc::clone(gateway);
    let written = tokio::task::spawn_blocking(move || {
        let mut page = Page::new(format);
        metrics::write(&mut page, &shown);
        page.finish()
    });
    match written.await {
        Ok((content_type, text)) => Reply::page(StatusCode::OK, content_type, text),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only at the end of the runtime.
        Err(_) => Reply::unavailable("the gateway is stopping"),
    }
}

fn for_holders_of_the_token(
    gateway: &Gateway,
    request: &Request<Incoming>,
    page: impl FnOnce(&Gateway, &crate::world::World, &Request<Incoming>) -> Reply,
) -> Reply {
    let world = gateway.world.load();
    let Some(world) = world.as_ref() else {
        return Reply::unavailable("no configuration yet");
    };
    let authorization = request.head.headers.get(&header::AUTHORIZATION).unwrap_or_default();
    let token = bearer_token(authorization).unwrap_or_default();
    if !same_token(token.as_bytes(), world.snapshot.mesh_token.as_bytes()) {
        return Reply::error(StatusCode::UNAUTHORIZED, "this path is for Tradewind's own processes");
    }
    page(gateway, world, request)
}

fn peer_state(gateway: &Gateway, world: &crate::world::World, _: &Request<Incoming>) -> Reply {
    if world.drilled {
        return Reply::unavailable("a drill takes this region for lost");
    }
    let state = PeerState {
        region: gateway.region.clone(),
        ready: world.capacity(),
        incarnation: world.snapshot.incarnation.clone(),
        config_revision: world.snapshot.revision,
    };
    Reply::json(StatusCode::OK, &state)
}

fn edition(_: &Gateway, world: &crate::world::World, _: &Request<Incoming>) -> Reply {
    Reply::json(StatusCode::OK, &Edition::new(GatewaySnapshot::clone(&world.snapshot)))
}

/// A table of pinned users, for a gateway that control does not reach.
fn table(_: &Gateway, world: &crate::world::World, request: &Request<Incoming>) -> Reply {
    let digest = request.head.path.path().strip_prefix(PIN_TABLES_PATH).and_then(|digest| digest.parse().ok());
    match digest.and_then(|digest: Digest| world.tables.get(&digest)) {
        Some(table) => Reply::page(StatusCode::OK, "application/octet-stream", table.bytes().to_vec()),
        None => Reply::error(StatusCode::NOT_FOUND, "no such table of users is in use here"),
    }
}

/// The methods that are about the server and not about a model.
fn of_grpc(gateway: &Gateway, path: &str) -> Response<Answer> {
    match grpc::Method::from_path(path) {
        Some(grpc::Method::ServerLive) => said(&message::ServerLiveResponse { live: true }),
        Some(grpc::Method::ServerReady) => {
            said(&message::ServerReadyResponse { ready: ready(gateway).status == StatusCode::OK })
        }
        Some(grpc::Method::ServerMetadata) => said(&message::ServerMetadataResponse {
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }),
        Some(grpc::Method::RepositoryIndex) => said(&message::RepositoryIndexResponse { models: index(gateway) }),
        Some(grpc::Method::RepositoryModelLoad | grpc::Method::RepositoryModelUnload) => {
            Reply::error(StatusCode::FORBIDDEN, NOT_LOADED_HERE).respond(Dialect::Grpc)
        }
        _ => Reply::error(StatusCode::METHOD_NOT_ALLOWED, "no such method here; name a model with x-tradewind-model")
            .respond(Dialect::Grpc),
    }
}

/// A whole answer: one message, and the status in the trailers.
fn said(message: &impl Message) -> Response<Answer> {
    let length = u32::try_from(message.encoded_len()).expect("a page about the server is short");
    let mut body = Vec::with_capacity(frame::HEADER_BYTES + length as usize);
    body.extend_from_slice(&frame::Header::plain(length).write());
    message.encode(&mut body).expect("a vector grows");
    let status = grpc::Status::OK;
    let mut response = Response::new(StatusCode::OK, Answer::with_trailers(body, status.trailers()));
    response.headers.insert(&header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    response
}
