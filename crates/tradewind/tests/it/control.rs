//! A control plane that answers from a script, over the real API, to the holders of the token.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post, put},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{DeployRequest, RolloutView},
    drain::DrainRequest,
    gateway,
    models::{MissingBlobs, PublishRequest, Published},
    ndjson,
    status::{DeploymentStatus, EventQuery, RegionList},
};
use tradewind_core::{
    Digest, ModelName, RegionName, VersionNumber,
    bundle::{Manifest, ModelVersion},
};

use crate::fixtures;

pub(crate) const TOKEN: &str = "tw1.admin.test";

/// One connection to the watch of a rollout: its views, then the stream ends, or stays open.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) views: Vec<RolloutView>,
    pub(crate) stays_open: bool,
}

/// What the control plane answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Each connection takes the first that is left; without one, control is `unavailable`.
    pub(crate) watches: VecDeque<Watch>,
    /// Refuses every deploy with this.
    pub(crate) deploy_problem: Option<Problem>,
    /// Exactly what is asked for runs already.
    pub(crate) unchanged: bool,
    /// The newest rollout; without one, it has failed.
    pub(crate) newest: Option<RolloutView>,
    pub(crate) empty: bool,
    /// Users ask for nothing, and the latest rollout has failed.
    pub(crate) quiet: bool,
}

/// What was asked of it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) deploys: Vec<DeployRequest>,
    pub(crate) blobs: Vec<Digest>,
    pub(crate) undeployed: Vec<ModelName>,
}

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
    address: SocketAddr,
}

impl Shared {
    fn status(&self) -> DeploymentStatus {
        if self.script.lock().unwrap().quiet { fixtures::quiet_status() } else { fixtures::status() }
    }
}

pub(crate) struct Control {
    shared: Shared,
    /// Dropping it ends every task.
    _runtime: Runtime,
}

impl Control {
    pub(crate) fn start(script: Script) -> Self {
        let runtime = Runtime::new().expect("an async runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("an ephemeral port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared { script: Arc::new(Mutex::new(script)), seen: Arc::default(), address };
        let app = router(shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { shared, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }
}

fn router(shared: Shared) -> Router {
    let control = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/models/{name}/versions", post(publish))
        .route("/v1/models/{name}/versions/{version}", get(version).delete(remove_version))
        .route("/v1/blobs/missing", post(missing))
        .route("/v1/blobs/{digest}", put(put_blob))
        .route("/v1/deployments/{model}", post(deploy).delete(undeploy))
        .route("/v1/deployments/{model}/status", get(deployment_status))
        .route("/v1/deployments/{model}/history", get(async || Json(fixtures::history())))
        .route("/v1/deployments/{model}/rollouts", get(async || Json(fixtures::rollouts())))
        .route("/v1/deployments/{model}/rollouts/{number}", get(rollout))
        .route("/v1/deployments/{model}/rollouts/{number}/watch", get(watch))
        .route("/v1/deployments/{model}/rollouts/{number}/abort", post(async || Json(fixtures::aborted())))
        .route("/v1/status", get(world))
        .route("/v1/regions", get(regions).post(add_region))
        .route("/v1/regions/{region}/logs", get(logs))
        .route("/v1/regions/{region}/drain", post(drain))
        .route("/v1/drills", get(async || Json(fixtures::drills())))
        .route("/v1/drills/{drill}", get(drill))
        .route("/v1/routes/{model}/explain", get(explain))
        .route("/v1/events", get(events))
        .layer(middleware::from_fn(authorize));
    // The fake is its own gateway, and a place on the web where models lie.
    control
        .route("/v2/models/{model}/infer", post(infer))
        .route("/files/digits.onnx", get(async || fixtures::model_file()))
        .route("/moved/digits.onnx", get(async || Redirect::temporary("/files/digits.onnx")))
        .route("/elsewhere/digits.onnx", get(async || Redirect::temporary("file:///etc/passwd")))
        .route("/gone/digits.onnx", get(async || StatusCode::NOT_FOUND))
        .with_state(shared)
}

async fn authorize(headers: HeaderMap, request: Request, next: Next) -> Response {
    if tradewind_api::http::bearer(&headers) == Some(TOKEN) {
        return next.run(request).await;
    }
    Problem::new(Code::Unauthorized, "this needs a token").into_response()
}

fn known(name: &str) -> Result<(), Problem> {
    if name == "digits" {
        return Ok(());
    }
    Err(Problem::new(Code::NotFound, format!("no model is called `{name}`")).hint("did you mean `digits`?"))
}

async fn models(State(shared): State<Shared>) -> Response {
    let empty = shared.script.lock().unwrap().empty;
    Json(if empty { json!({ "schema_version": 1, "models": [] }) } else { json!(fixtures::models()) }).into_response()
}

async fn model(Path(name): Path<String>) -> Result<Response, Problem> {
    known(&name)?;
    Ok(Json(fixtures::model()).into_response())
}

async fn version(Path((name, number)): Path<(String, u64)>) -> Result<Response, Problem> {
    known(&name)?;
    let lineage = (number == 2).then(fixtures::lineage);
    Ok(Json(ModelVersion { lineage, ..fixtures::version(number) }).into_response())
}

async fn remove_version(Path((name, number)): Path<(String, u64)>) -> Result<StatusCode, Problem> {
    known(&name)?;
    match number {
        1 => Ok(StatusCode::NO_CONTENT),
        _ => Err(Problem::new(Code::Refused, format!("{name}:{number} is needed by revision 2"))
            .hint("undeploy the model first")),
    }
}

async fn missing(State(shared): State<Shared>, Json(asked): Json<MissingBlobs>) -> Json<MissingBlobs> {
    let seen = shared.seen.lock().unwrap();
    Json(MissingBlobs { digests: asked.digests.into_iter().filter(|digest| !seen.blobs.contains(digest)).collect() })
}

async fn put_blob(State(shared): State<Shared>, Path(digest): Path<String>, body: Bytes) -> StatusCode {
    let digest: Digest = digest.parse().expect("a digest in the path");
    assert_eq!(blake3::hash(&body).as_bytes(), digest.as_bytes(), "the content is what its name says");
    shared.seen.lock().unwrap().blobs.push(digest);
    StatusCode::NO_CONTENT
}

async fn publish(Path(name): Path<ModelName>, Json(request): Json<PublishRequest>) -> Json<Published> {
    let digest = Digest::from_bytes(*blake3::hash(&serde_json::to_vec(&request.index).unwrap()).as_bytes());
    let mut version = fixtures::version(1);
    let created = name.as_str() == "digits";
    (version.name, version.digest, version.index) = (name, digest, request.index);
    version.lineage = request.lineage.filter(|_| created);
    version.manifest = Manifest::default();
    version.version = VersionNumber(if created { 1 } else { 7 });
    Json(Published { schema_version: SCHEMA_VERSION, created, version })
}

async fn deploy(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Json(request): Json<DeployRequest>,
) -> Result<Response, Problem> {
    known(&name)?;
    shared.seen.lock().unwrap().deploys.push(request.clone());
    let script = shared.script.lock().unwrap();
    if let Some(problem) = &script.deploy_problem {
        return Err(problem.clone());
    }
    Ok(Json(fixtures::answer(&request, script.unchanged)).into_response())
}

async fn undeploy(State(shared): State<Shared>, Path(name): Path<ModelName>) -> StatusCode {
    shared.seen.lock().unwrap().undeployed.push(name);
    StatusCode::NO_CONTENT
}

async fn deployment_status(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Response, Problem> {
    known(&name)?;
    Ok(Json(shared.status()).into_response())
}

async fn rollout(State(shared): State<Shared>) -> Json<RolloutView> {
    Json(shared.script.lock().unwrap().newest.clone().unwrap_or_else(fixtures::verification_failed))
}

async fn watch(State(shared): State<Shared>) -> Response {
    let Some(watch) = shared.script.lock().unwrap().watches.pop_front() else {
        return Problem::new(Code::Unavailable, "control is starting").into_response();
    };
    let views = futures_util::stream::iter(watch.views);
    if watch.stays_open {
        return ndjson::respond(views.chain(futures_util::stream::pending()));
    }
    ndjson::respond(views)
}

async fn world(State(shared): State<Shared>) -> Response {
    let models = if shared.script.lock().unwrap().empty { Vec::new() } else { vec![shared.status()] };
    Json(fixtures::world(&shared.address.to_string(), models)).into_response()
}

async fn regions(State(shared): State<Shared>) -> Json<RegionList> {
    let regions = fixtures::regions(&shared.address.to_string());
    Json(RegionList { schema_version: SCHEMA_VERSION, regions })
}

async fn add_region(Json(region): Json<Value>) -> Json<Value> {
    Json(json!({ "name": region["name"], "location": { "latitude": 52.5, "longitude": 13.4 }, "drained": false }))
}

async fn drain(Path(region): Path<RegionName>, Json(request): Json<DrainRequest>) -> Response {
    if region.as_str() == "us-east1" {
        return Json(fixtures::drained(request.dry_run)).into_response();
    }
    Problem::new(Code::Refused, format!("the users of {region} do not fit elsewhere"))
        .cause("there is room for 53 % of those of digits")
        .hint("add --force to drain it all the same")
        .into_response()
}

async fn drill(Path(drill): Path<String>) -> Json<Value> {
    let drills = fixtures::drills().drills;
    let found = drills.into_iter().find(|known| drill == "latest" || known.number.to_string() == drill);
    let mut document = json!(found.expect("the tests ask for drills that there are"));
    document["schema_version"] = json!(SCHEMA_VERSION);
    Json(document)
}

async fn logs(Query(query): Query<Value>) -> String {
    format!("loaded {}\nlistening\n", query["model"].as_str().unwrap_or_default())
}

async fn explain(Path(model): Path<String>, Query(query): Query<gateway::RouteQuery>) -> Response {
    if let Err(problem) = known(&model) {
        return problem.into_response();
    }
    match query.from.as_str() {
        "us-east1" => Json(fixtures::explanation(query.user.as_deref())).into_response(),
        "europe-west1" => Problem::new(Code::Unreachable, "europe-west1 has no gateway")
            .hint("start one: tradewind gateway --region europe-west1")
            .into_response(),
        other => tradewind_api::suggest::unknown("region", other, &["europe-west1", "us-east1"]).into_response(),
    }
}

async fn events(Query(query): Query<EventQuery>) -> Json<Value> {
    let events: Vec<_> = fixtures::events()
        .into_iter()
        .filter(|event| query.region.is_none() || event.record.region == query.region)
        .collect();
    Json(json!({ "schema_version": 1, "events": events }))
}

async fn infer(Path(model): Path<String>, body: Bytes) -> Response {
    if model != "digits" {
        return (StatusCode::NOT_FOUND, Json(json!({ "error": format!("no model is called `{model}`") })))
            .into_response();
    }
    let request: Value = serde_json::from_slice(&body).expect("the CLI sends JSON");
    if request["inputs"].is_null() {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "`inputs` is missing" }))).into_response();
    }
    let headers = [
        (gateway::REGION_HEADER, "us-east1"),
        (gateway::SLOT_HEADER, "green"),
        (gateway::REVISION_HEADER, "2"),
        (gateway::EPOCH_HEADER, "3"),
        (gateway::REQUEST_ID_HEADER, "r-1"),
    ];
    let outputs = json!([{ "name": "label", "datatype": "INT64", "shape": [1], "data": [7] }]);
    (headers, Json(json!({ "model_name": "digits", "model_version": "2", "outputs": outputs }))).into_response()
}
