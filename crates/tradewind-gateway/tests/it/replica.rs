//! Replicas that answer as a test wants, and can be killed.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::StreamExt;
use tradewind_api::agent::Endpoint;
use tradewind_core::{RevisionNumber, Slot, VersionNumber, bundle, probe::Probe};

use crate::{
    process::{Process, listener},
    world::{DEADLINE, model, policy},
};

/// How inferences are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// With this status instead.
    Fails(StatusCode),
}

/// What a replica was asked, and how it behaves.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) slot: Slot,
    pub(crate) revision: u64,
    concurrency: Option<u32>,
    probe: Probe,
    asked: Asked,
    process: Arc<Mutex<Process>>,
    address: SocketAddr,
}

/// What the process of a replica shares with its test.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    delay: Duration,
    mood: Arc<Mutex<Mood>>,
    pub(crate) served: Arc<AtomicU64>,
    pub(crate) last_headers: Arc<Mutex<HeaderMap>>,
}

impl std::ops::Deref for Replica {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.asked
    }
}

impl Replica {
    pub(crate) fn start(id: &str, slot: Slot, revision: u64, delay: Duration) -> Self {
        let asked = Asked::new(delay);
        let (name, to) = (id.to_owned(), asked.clone());
        let infer = move |headers: HeaderMap, body: Body| {
            let (name, to) = (name.clone(), to.clone());
            async move { to.answer(&name, slot, headers, body).await }
        };
        let router = Router::new().route("/v2/models/{*rest}", any(infer));
        let mut replica = Self::serving(id, router);
        (replica.slot, replica.revision, replica.asked) = (slot, revision, asked);
        replica
    }

    /// One of the first revision with inferences of its own making.
    pub(crate) fn serving(id: &str, router: Router) -> Self {
        let router = router
            .route("/v2/health/ready", get(|| async { StatusCode::OK }))
            .route("/own/health", get(|| async { StatusCode::NO_CONTENT }))
            .layer(axum::extract::DefaultBodyLimit::disable());
        Self::of(id, Process::start(listener(), router))
    }

    pub(crate) fn of(id: &str, process: Process) -> Self {
        Self {
            id: id.to_owned(),
            slot: Slot::Blue,
            revision: 1,
            concurrency: None,
            probe: Probe::default(),
            asked: Asked::new(Duration::ZERO),
            address: process.address,
            process: Arc::new(Mutex::new(process)),
        }
    }

    /// With so many requests in flight at most.
    pub(crate) fn limited(mut self, concurrency: u32) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// A server of somebody's own, which says in another way whether it is ready.
    pub(crate) fn probed(mut self, probe: &str) -> Self {
        self.probe = probe.to_owned().into();
        self
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kill(&self) {
        self.process.lock().unwrap().kill();
    }

    pub(crate) fn behave(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn last_header(&self, name: &str) -> Option<String> {
        let headers = self.last_headers.lock().unwrap();
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    /// From now on its socket accepts connections and nobody answers them.
    pub(crate) fn freeze(&self) -> TcpListener {
        self.kill();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => return listener,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            id: self.id.clone(),
            model: model(),
            slot: self.slot,
            revision: RevisionNumber(self.revision),
            version: VersionNumber(self.revision),
            address: self.address.to_string(),
            ready: true,
            suspect: false,
            health: policy(),
            desired: 0,
            concurrency: self.concurrency,
            runtime: if self.probe == Probe::default() { Default::default() } else { bundle::Runtime::Command },
            probe: self.probe.clone(),
        }
    }

    /// Another process in the same place, as an agent restarts one.
    pub(crate) fn successor(&self, id: &str) -> Self {
        Self {
            concurrency: self.concurrency,
            probe: self.probe.clone(),
            ..Self::start(id, self.slot, self.revision, self.delay)
        }
    }
}

impl Asked {
    fn new(delay: Duration) -> Self {
        Self { delay, mood: Arc::new(Mutex::new(Mood::Well)), served: Arc::default(), last_headers: Arc::default() }
    }

    async fn answer(&self, name: &str, slot: Slot, headers: HeaderMap, body: Body) -> Response {
        let mut size = 0;
        let mut body = body.into_data_stream();
        while let Some(chunk) = body.next().await {
            let Ok(chunk) = chunk else { return StatusCode::BAD_REQUEST.into_response() };
            size += chunk.len();
        }
        *self.last_headers.lock().unwrap() = headers;
        // Stands for the time that a model takes.
        tokio::time::sleep(self.delay).await;
        self.served.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Json(serde_json::json!({ "replica": name, "slot": slot, "size": size })).into_response(),
            Mood::Fails(status) => (status, "as told").into_response(),
        }
    }
}
