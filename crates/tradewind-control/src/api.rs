//! The HTTP API: one file per subject, one handler per route, each with its entry in the OpenAPI document.

mod agents;
mod auth;
pub(crate) mod blobs;
mod deployments;
mod drains;
mod drills;
mod events;
mod extract;
mod gateways;
mod load;
pub(crate) mod metrics;
mod models;
mod monitoring;
mod ops;
pub(crate) mod regions;
mod rollouts;
mod routes;
mod status;
mod targets;

use std::sync::Arc;

use axum::{Router, extract::State, http::Method, middleware};
use tradewind_api::{Code, Problem, server};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes as handlers};

use self::auth::Audience;
use crate::app::App;

type Shared = State<Arc<App>>;
type Result<T, E = Problem> = std::result::Result<T, E>;

/// The name of the security scheme in the document.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tradewind control API",
        description = "Carries machine-learning models to regions and keeps them serving. Errors are `application/problem+json`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&TokenScheme),
    components(schemas(Problem))
)]
struct Document;

struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A token by scope: `admin` for what people do, `monitoring` to find the metrics, `agent/REGION` and \
             `gateway/REGION` for those roles.",
        ));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme.build()));
    }
}

/// All routes, by who may use them.
fn grouped() -> Vec<(Audience, OpenApiRouter<Arc<App>>)> {
    let people = OpenApiRouter::new()
        .routes(handlers!(models::list))
        .routes(handlers!(models::show))
        .routes(handlers!(models::publish))
        .routes(handlers!(models::remove_version))
        .routes(handlers!(blobs::missing))
        .routes(handlers!(blobs::put_blob))
        .routes(handlers!(deployments::deploy, deployments::undeploy))
        .routes(handlers!(deployments::history))
        .routes(handlers!(deployments::diff))
        .routes(handlers!(deployments::rollback))
        .routes(handlers!(deployments::switch))
        .routes(handlers!(deployments::scale))
        .routes(handlers!(status::deployment))
        .routes(handlers!(status::world))
        .routes(handlers!(rollouts::list))
        .routes(handlers!(rollouts::show))
        .routes(handlers!(rollouts::watch))
        .routes(handlers!(rollouts::abort))
        .routes(handlers!(rollouts::pause))
        .routes(handlers!(rollouts::resume))
        .routes(handlers!(rollouts::promote))
        .routes(handlers!(regions::list, regions::add))
        .routes(handlers!(regions::logs))
        .routes(handlers!(drains::drain))
        .routes(handlers!(drains::undrain))
        .routes(handlers!(drills::list, drills::begin))
        .routes(handlers!(drills::show))
        .routes(handlers!(drills::stop))
        .routes(handlers!(routes::explain))
        .routes(handlers!(routes::pins, routes::pin))
        .routes(handlers!(routes::unpin))
        .routes(handlers!(routes::put_table))
        .routes(handlers!(events::list))
        .routes(handlers!(monitoring::monitors))
        .routes(handlers!(monitoring::alerts))
        .routes(handlers!(monitoring::silences, monitoring::silence))
        .routes(handlers!(monitoring::unsilence))
        .routes(handlers!(monitoring::receivers))
        .routes(handlers!(monitoring::put_receiver, monitoring::remove_receiver))
        .routes(handlers!(monitoring::test_receiver));
    let people_and_agents =
        OpenApiRouter::new().routes(handlers!(models::show_version)).routes(handlers!(blobs::get_blob));
    let monitoring = OpenApiRouter::new().routes(handlers!(targets::list));
    let agents = OpenApiRouter::new().routes(handlers!(agents::assignments)).routes(handlers!(agents::report));
    let gateways = OpenApiRouter::new()
        .routes(handlers!(gateways::snapshot))
        .routes(handlers!(gateways::report))
        .routes(handlers!(gateways::table));
    let everyone = OpenApiRouter::new()
        .routes(handlers!(ops::healthz))
        .routes(handlers!(ops::readyz))
        .routes(handlers!(ops::metrics))
        .routes(handlers!(ops::document));
    vec![
        (Audience::People, people),
        (Audience::PeopleAndAgents, people_and_agents),
        (Audience::Monitoring, monitoring),
        (Audience::Agents, agents),
        (Audience::Gateways, gateways),
        (Audience::Everyone, everyone),
    ]
}

/// The OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    for (audience, router) in grouped() {
        let mut part = router.into_openapi();
        if audience != Audience::Everyone {
            let requirement = SecurityRequirement::new(TOKEN, Vec::<String>::new());
            for operation in part.paths.paths.values_mut().flat_map(operations_mut) {
                operation.security = Some(vec![requirement.clone()]);
            }
        }
        document.merge(part);
    }
    document
}

fn operations_mut(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    let utoipa::openapi::PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().filter_map(Option::as_mut)
}

/// One route of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub method: Method,
    /// With `{name}` where a value stands.
    pub path: String,
    /// Whether anybody may use it, without a token.
    pub open: bool,
}

/// All routes.
pub fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for (audience, router) in grouped() {
        for (path, item) in router.into_openapi().paths.paths {
            let methods = [
                (Method::GET, item.get.is_some()),
                (Method::PUT, item.put.is_some()),
                (Method::POST, item.post.is_some()),
                (Method::DELETE, item.delete.is_some()),
            ];
            let open = audience == Audience::Everyone;
            let present = methods.into_iter().filter(|(_, present)| *present);
            routes.extend(present.map(|(method, _)| Route { method, path: path.clone(), open }));
        }
    }
    routes
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let mut all = Router::new();
    for (audience, router) in grouped() {
        let guard = middleware::from_fn_with_state((app.clone(), audience), auth::guard);
        all = all.merge(Router::from(router).route_layer(guard));
    }
    all.method_not_allowed_fallback(async || Problem::new(Code::Invalid, "this route does not have that method"))
        .fallback(async || Problem::new(Code::NotFound, "there is no such route").hint("see /openapi.json"))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::observe))
        .layer(middleware::from_fn(server::in_context))
        .with_state(app)
}

pub(crate) fn disk_full() -> Problem {
    Problem::new(Code::DiskFull, "the control plane's disk is full; nothing was changed")
        .hint("make room on the disk of the control plane's data directory")
}
