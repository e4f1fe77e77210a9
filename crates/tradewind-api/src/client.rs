//! The client of the control API, used by the CLI, the agents and the gateways alike.

use std::{sync::Once, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use reqwest::{Body, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use tradewind_core::{
    Digest, ModelName, ReceiverName, RegionName, VersionNumber,
    alert::silence::Silence,
    bundle::{BundleIndex, Lineage, ModelVersion},
    event::Event,
    region::Region,
    trace::TraceParent,
};

use crate::{
    agent::{self, AgentReport, DemandReport, Endpoints, LogQuery, RegionAssignments, ReportReceipt},
    deploy::{
        DecisionRequest, DeployAnswer, DeployRequest, DiffQuery, DiffView, History, MoveAnswer, PinList, PinRequest,
        PromoteRequest, RollbackRequest, RolloutList, RolloutView, ScaleAnswer, ScaleRequest, SwitchRequest,
        UnpinRequest,
    },
    drain::{DrainAnswer, DrainRequest, UndrainRequest},
    drill::{DrillAnswer, DrillList, DrillRequest, DrillView},
    gateway::{self, GatewayReport, RouteExplanation, RouteQuery, config::ConfigMessage},
    http::TRACE_HEADER,
    models::{MissingBlobs, ModelDetail, ModelList, PublishRequest, Published},
    monitoring::{
        AlertList, AlertQuery, MonitorList, MonitorQuery, ReceiverList, ReceiverRequest, ReceiverView, SilenceList,
        SilenceRequest,
    },
    ndjson,
    problem::Problem,
    status::{AddRegion, DeploymentStatus, EventList, EventQuery, RegionList, WorldStatus},
};

/// Connecting to another process takes at most this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A short request is answered within this time. Publishing a version, which loads the model, has no such bound.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without a request is kept this long: less than a server keeps it, which might close it just as the
/// next request is sent.
pub const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read whole.
pub const ANSWER_LIMIT: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer from {url}")]
    Unreachable { url: String, source: reqwest::Error },
    #[error(transparent)]
    Problem(#[from] Problem),
    #[error("{url} does not speak Tradewind's API: {detail}")]
    Protocol { url: String, detail: String },
    #[error("{url} takes too long to answer")]
    Silent { url: String },
    #[error("the connection to {url} broke off")]
    Broken { url: String, source: reqwest::Error },
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Problem(problem) => problem.retryable,
            Self::Protocol { .. } => false,
        }
    }
}

/// A builder of HTTP clients with what all of Tradewind's clients share.
pub fn http_client() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that a provider is there already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_LIMIT)
        .no_proxy()
        .tcp_nodelay(true)
}

/// A handle to one control plane. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    trace: Option<TraceParent>,
}

impl Client {
    /// `base` is `http://host:port`, without a path.
    pub fn new(base: &str, token: Option<String>) -> Self {
        let http = http_client().build().expect("the client's settings are constant");
        Self { http, base: base.trim_end_matches('/').to_owned(), token, trace: None }
    }

    /// What is asked from now on belongs to this trace.
    #[must_use]
    pub fn traced(self, trace: TraceParent) -> Self {
        Self { trace: Some(trace), ..self }
    }

    pub fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(trace) = self.trace {
            request = request.header(TRACE_HEADER, trace.to_string());
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| Error::Unreachable { url: self.base.clone(), source })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(Error::Problem(problem)),
            Err(_) => Err(self.protocol(format!("status {status} without a problem document"))),
        }
    }

    fn protocol(&self, detail: String) -> Error {
        Error::Protocol { url: self.base.clone(), detail }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        // What is announced, so that a large answer is not copied again and again as it grows.
        let announced = response.content_length().unwrap_or(0).min(ANSWER_LIMIT as u64);
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
        let broken = |source| Error::Broken { url: self.base.clone(), source };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(self.protocol(format!("an answer longer than {ANSWER_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let body = self.read(self.send(request).await?).await?;
        serde_json::from_slice(&body).map_err(|error| self.protocol(error.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(self.request(Method::GET, path).timeout(REQUEST_TIMEOUT)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        self.json(self.request(Method::POST, path).json(body).timeout(REQUEST_TIMEOUT)).await
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        self.send(self.request(Method::DELETE, path).timeout(REQUEST_TIMEOUT)).await.map(drop)
    }

    /// Opens a stream; the answer's head must come as soon as any line of it would have to.
    async fn stream<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<ndjson::Reader<T>, Error> {
        match tokio::time::timeout(ndjson::DEAD_AFTER, self.send(request)).await {
            Ok(response) => Ok(ndjson::Reader::new(response?)),
            Err(_) => Err(Error::Silent { url: self.base.clone() }),
        }
    }

    // The registry.

    pub async fn models(&self) -> Result<ModelList, Error> {
        self.get("/v1/models").await
    }

    pub async fn model(&self, name: &ModelName) -> Result<ModelDetail, Error> {
        self.get(&format!("/v1/models/{name}")).await
    }

    pub async fn version(&self, name: &ModelName, version: VersionNumber) -> Result<ModelVersion, Error> {
        self.get(&format!("/v1/models/{name}/versions/{version}")).await
    }

    pub async fn remove_version(&self, name: &ModelName, version: VersionNumber) -> Result<(), Error> {
        self.delete(&format!("/v1/models/{name}/versions/{version}")).await
    }

    /// Those of the digests that control's store lacks.
    pub async fn missing_blobs(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, Error> {
        let missing: MissingBlobs = self.post("/v1/blobs/missing", &MissingBlobs { digests }).await?;
        Ok(missing.digests)
    }

    pub async fn put_blob(&self, digest: &Digest, size: u64, body: Body) -> Result<(), Error> {
        let request = self.request(Method::PUT, &format!("/v1/blobs/{}", digest.to_hex()));
        self.send(request.header(header::CONTENT_LENGTH, size).body(body)).await.map(drop)
    }

    /// The blob's content from `offset` on.
    pub async fn get_blob(&self, digest: &Digest, offset: u64) -> Result<Response, Error> {
        let request = self.request(Method::GET, &format!("/v1/blobs/{}", digest.to_hex()));
        if offset == 0 {
            return self.send(request).await;
        }
        let response = self.send(request.header(header::RANGE, format!("bytes={offset}-"))).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(self.protocol(format!("a range was asked for and answered with {}", response.status())));
        }
        Ok(response)
    }

    /// Puts a table of pinned users there, so that a pin can name it.
    pub async fn put_pin_table(&self, digest: &Digest, table: Vec<u8>) -> Result<(), Error> {
        let request = self.request(Method::PUT, &format!("/v1/pins/{}", digest.to_hex()));
        self.send(request.body(table)).await.map(drop)
    }

    /// A table of pinned users, as control and gateways give it to gateways. What it holds is not checked here.
    pub async fn pin_table(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let path = format!("{}{}", gateway::PIN_TABLES_PATH, digest.to_hex());
        self.read(self.send(self.request(Method::GET, &path)).await?).await
    }

    pub async fn publish(
        &self,
        name: &ModelName,
        index: BundleIndex,
        lineage: Option<Lineage>,
    ) -> Result<Published, Error> {
        let request = self.request(Method::POST, &format!("/v1/models/{name}/versions"));
        self.json(request.json(&PublishRequest { index, lineage })).await
    }

    // Deployments.

    pub async fn deploy(&self, model: &ModelName, request: &DeployRequest) -> Result<DeployAnswer, Error> {
        self.post(&format!("/v1/deployments/{model}"), request).await
    }

    pub async fn undeploy(&self, model: &ModelName) -> Result<(), Error> {
        self.delete(&format!("/v1/deployments/{model}")).await
    }

    pub async fn deployment_status(&self, model: &ModelName) -> Result<DeploymentStatus, Error> {
        self.get(&format!("/v1/deployments/{model}/status")).await
    }

    pub async fn rollouts(&self, model: &ModelName) -> Result<RolloutList, Error> {
        self.get(&format!("/v1/deployments/{model}/rollouts")).await
    }

    /// `rollout` is a number or `latest`.
    pub async fn rollout(&self, model: &ModelName, rollout: &str) -> Result<RolloutView, Error> {
        self.get(&format!("/v1/deployments/{model}/rollouts/{rollout}")).await
    }

    /// The rollout as it is now, then again whenever it changes, until it is final.
    pub async fn watch_rollout(&self, model: &ModelName, rollout: &str) -> Result<ndjson::Reader<RolloutView>, Error> {
        self.stream(self.request(Method::GET, &format!("/v1/deployments/{model}/rollouts/{rollout}/watch"))).await
    }

    pub async fn pins(&self, model: &ModelName) -> Result<PinList, Error> {
        self.get(&format!("/v1/routes/{model}/pins")).await
    }

    pub async fn pin(&self, model: &ModelName, request: &PinRequest) -> Result<PinList, Error> {
        self.post(&format!("/v1/routes/{model}/pins"), request).await
    }

    pub async fn unpin(&self, model: &ModelName, request: &UnpinRequest) -> Result<PinList, Error> {
        self.post(&format!("/v1/routes/{model}/unpin"), request).await
    }

    pub async fn abort_rollout(&self, model: &ModelName, request: &DecisionRequest) -> Result<RolloutView, Error> {
        self.post(&format!("/v1/deployments/{model}/rollouts/latest/abort"), request).await
    }

    pub async fn pause_rollout(&self, model: &ModelName, request: &DecisionRequest) -> Result<RolloutView, Error> {
        self.post(&format!("/v1/deployments/{model}/rollouts/latest/pause"), request).await
    }

    pub async fn resume_rollout(&self, model: &ModelName, request: &DecisionRequest) -> Result<RolloutView, Error> {
        self.post(&format!("/v1/deployments/{model}/rollouts/latest/resume"), request).await
    }

    pub async fn promote_rollout(&self, model: &ModelName, request: &PromoteRequest) -> Result<RolloutView, Error> {
        self.post(&format!("/v1/deployments/{model}/rollouts/latest/promote"), request).await
    }

    pub async fn rollback(&self, model: &ModelName, request: &RollbackRequest) -> Result<MoveAnswer, Error> {
        self.post(&format!("/v1/deployments/{model}/rollback"), request).await
    }

    pub async fn switch(&self, model: &ModelName, request: &SwitchRequest) -> Result<MoveAnswer, Error> {
        self.post(&format!("/v1/deployments/{model}/switch"), request).await
    }

    pub async fn scale(&self, model: &ModelName, request: &ScaleRequest) -> Result<ScaleAnswer, Error> {
        self.post(&format!("/v1/deployments/{model}/scale"), request).await
    }

    pub async fn diff(&self, model: &ModelName, query: &DiffQuery) -> Result<DiffView, Error> {
        let path = format!("/v1/deployments/{model}/diff");
        self.json(self.request(Method::GET, &path).query(query).timeout(REQUEST_TIMEOUT)).await
    }

    pub async fn history(&self, model: &ModelName) -> Result<History, Error> {
        self.get(&format!("/v1/deployments/{model}/history")).await
    }

    /// Where a request would go now, as a gateway of the user's region says.
    pub async fn explain_route(&self, model: &ModelName, query: &RouteQuery) -> Result<RouteExplanation, Error> {
        let request = self.request(Method::GET, &format!("/v1/routes/{model}/explain")).query(query);
        self.json(request.timeout(REQUEST_TIMEOUT)).await
    }

    /// The text of the replicas' logs in one region; with `follow` it goes on until dropped.
    pub async fn logs(&self, region: &RegionName, query: &LogQuery) -> Result<Response, Error> {
        self.send(self.request(Method::GET, &format!("/v1/regions/{region}/logs")).query(query)).await
    }

    // The world.

    pub async fn world(&self) -> Result<WorldStatus, Error> {
        self.get("/v1/status").await
    }

    pub async fn regions(&self) -> Result<RegionList, Error> {
        self.get("/v1/regions").await
    }

    pub async fn add_region(&self, request: &AddRegion) -> Result<Region, Error> {
        self.post("/v1/regions", request).await
    }

    pub async fn drain(&self, region: &RegionName, request: &DrainRequest) -> Result<DrainAnswer, Error> {
        self.post(&format!("/v1/regions/{region}/drain"), request).await
    }

    pub async fn undrain(&self, region: &RegionName, request: &UndrainRequest) -> Result<DrainAnswer, Error> {
        self.post(&format!("/v1/regions/{region}/undrain"), request).await
    }

    pub async fn begin_drill(&self, request: &DrillRequest) -> Result<DrillAnswer, Error> {
        self.post("/v1/drills", request).await
    }

    pub async fn drills(&self) -> Result<DrillList, Error> {
        self.get("/v1/drills").await
    }

    /// `drill` is a number or `latest`.
    pub async fn drill(&self, drill: &str) -> Result<DrillView, Error> {
        self.get(&format!("/v1/drills/{drill}")).await
    }

    /// Lets the region back at once.
    pub async fn stop_drill(&self, drill: &str) -> Result<DrillView, Error> {
        self.post(&format!("/v1/drills/{drill}/stop"), &()).await
    }

    pub async fn events(&self, query: &EventQuery) -> Result<EventList, Error> {
        self.json(self.request(Method::GET, "/v1/events").query(query).timeout(REQUEST_TIMEOUT)).await
    }

    pub async fn follow_events(&self, query: &EventQuery) -> Result<ndjson::Reader<Event>, Error> {
        let query = EventQuery { follow: true, ..query.clone() };
        self.stream(self.request(Method::GET, "/v1/events").query(&query)).await
    }

    // Monitoring.

    pub async fn monitors(&self, query: &MonitorQuery) -> Result<MonitorList, Error> {
        self.json(self.request(Method::GET, "/v1/monitors").query(query).timeout(REQUEST_TIMEOUT)).await
    }

    pub async fn alerts(&self, query: &AlertQuery) -> Result<AlertList, Error> {
        self.json(self.request(Method::GET, "/v1/alerts").query(query).timeout(REQUEST_TIMEOUT)).await
    }

    pub async fn silences(&self) -> Result<SilenceList, Error> {
        self.get("/v1/silences").await
    }

    pub async fn silence(&self, request: &SilenceRequest) -> Result<Silence, Error> {
        self.post("/v1/silences", request).await
    }

    pub async fn unsilence(&self, id: &str) -> Result<(), Error> {
        self.delete(&format!("/v1/silences/{id}")).await
    }

    pub async fn receivers(&self) -> Result<ReceiverList, Error> {
        self.get("/v1/receivers").await
    }

    pub async fn put_receiver(&self, name: &ReceiverName, request: &ReceiverRequest) -> Result<ReceiverView, Error> {
        let put = self.request(Method::PUT, &format!("/v1/receivers/{name}")).json(request);
        self.json(put.timeout(REQUEST_TIMEOUT)).await
    }

    pub async fn remove_receiver(&self, name: &ReceiverName) -> Result<(), Error> {
        self.delete(&format!("/v1/receivers/{name}")).await
    }

    /// Sends it a message that is no alert.
    pub async fn test_receiver(&self, name: &ReceiverName) -> Result<(), Error> {
        let request = self.request(Method::POST, &format!("/v1/receivers/{name}/test"));
        self.send(request.timeout(REQUEST_TIMEOUT)).await.map(drop)
    }

    // Agents and gateways. Their scope names their region.

    pub async fn watch_assignments(&self) -> Result<ndjson::Reader<RegionAssignments>, Error> {
        self.stream(self.request(Method::GET, agent::ASSIGNMENTS_PATH)).await
    }

    pub async fn report_agent(&self, report: &AgentReport) -> Result<ReportReceipt, Error> {
        self.json(self.request(Method::POST, agent::REPORT_PATH).json(report).timeout(CONNECT_TIMEOUT)).await
    }

    pub async fn watch_config(&self) -> Result<ndjson::Reader<ConfigMessage>, Error> {
        self.stream(self.request(Method::GET, gateway::SNAPSHOT_PATH)).await
    }

    /// Of an agent, with the mesh token; `base` is then the agent's.
    pub async fn watch_endpoints(&self) -> Result<ndjson::Reader<Endpoints>, Error> {
        self.stream(self.request(Method::GET, agent::ENDPOINTS_PATH)).await
    }

    /// Tells an agent what is asked for, with the mesh token; `base` is then the agent's.
    pub async fn report_demand(&self, report: &DemandReport) -> Result<(), Error> {
        self.send(self.request(Method::POST, agent::DEMAND_PATH).json(report).timeout(CONNECT_TIMEOUT)).await.map(drop)
    }

    pub async fn report_gateway(&self, report: &GatewayReport) -> Result<(), Error> {
        self.send(self.request(Method::POST, gateway::REPORT_PATH).json(report).timeout(CONNECT_TIMEOUT))
            .await
            .map(drop)
    }

    /// Whether the process answers and says that it is ready.
    pub async fn ready(&self) -> bool {
        self.send(self.request(Method::GET, "/readyz").timeout(CONNECT_TIMEOUT)).await.is_ok()
    }
}

/// The bytes of a streaming answer, for those who write them on.
pub fn body_stream(response: Response) -> impl futures_util::Stream<Item = Result<Bytes, reqwest::Error>> {
    response.bytes_stream()
}
