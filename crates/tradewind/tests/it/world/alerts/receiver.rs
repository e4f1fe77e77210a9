//! A receiver of alerts as they are in the world: it fails, is slow, and forgets that it took what it was sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tradewind_testkit::eventually_ok;

use super::SOON;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    Good,
    /// It takes nothing.
    Fails,
    /// It takes what it is sent and says that it failed.
    Forgets,
    /// It does not answer until it is in another temper.
    Slow,
}

/// What was taken, once for each id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) kind: String,
    pub(super) alert: Value,
    pub(super) signed: bool,
}

#[derive(Debug)]
struct Inner {
    temper: watch::Sender<Temper>,
    attempts: usize,
    /// In the order in which they came.
    told: Vec<(String, Told)>,
    seen: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    inner: Arc<Mutex<Inner>>,
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(super) async fn start() -> Result<Self> {
        let inner =
            Inner { temper: watch::Sender::new(Temper::Good), attempts: 0, told: Vec::new(), seen: BTreeMap::new() };
        let inner = Arc::new(Mutex::new(inner));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the listener is open");
        });
        Ok(Self { inner, url, task })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// From now on it behaves so.
    pub(super) fn set(&self, temper: Temper) {
        let mut inner = self.inner.lock().unwrap();
        inner.attempts = 0;
        inner.temper.send_replace(temper);
    }

    /// The alerts that it was told of, each once.
    pub(super) fn told(&self) -> Vec<Told> {
        self.inner.lock().unwrap().told.iter().map(|(_, told)| told.clone()).collect()
    }

    /// Waits until so much was tried since the last change of its temper.
    pub(super) async fn attempts(&self, least: usize) -> Result<()> {
        eventually_ok("the receiver is tried", SOON, || async {
            let attempts = self.inner.lock().unwrap().attempts;
            ensure!(attempts >= least, "{attempts}");
            Ok(())
        })
        .await
    }

    /// Waits until it has taken so many alerts.
    pub(super) async fn taken(&self, least: usize) -> Result<()> {
        eventually_ok("the receiver takes alerts", SOON, || async {
            let told = self.told();
            ensure!(told.len() >= least, "{told:?}");
            Ok(())
        })
        .await
    }
}

async fn take(State(inner): State<Arc<Mutex<Inner>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut temper = {
        let mut inner = inner.lock().unwrap();
        inner.attempts += 1;
        inner.temper.subscribe()
    };
    if *temper.borrow() == Temper::Fails {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let temper = *temper.wait_for(|temper| *temper != Temper::Slow).await.unwrap();
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let document: Value = serde_json::from_slice(&body).unwrap();
    let kind = document["type"].as_str().unwrap_or_default().to_owned();
    let mut inner = inner.lock().unwrap();
    *inner.seen.entry(id.clone()).or_default() += 1;
    let is_new = inner.seen[&id] == 1;
    if is_new && kind.starts_with("alert.") {
        let signed = headers.get("webhook-signature").is_some_and(|value| value.as_bytes().starts_with(b"v1,"));
        let told = Told { kind, alert: document["data"]["id"].clone(), signed };
        inner.told.push((id, told));
    }
    if temper == Temper::Forgets { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
}
