//! Users who read tokens one by one, a stream after the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;

/// A stream takes some seconds.
const TOKENS: usize = 60;
const DELAY_MS: u32 = 50;
/// A user waits no longer for the next token.
const PATIENCE: Duration = Duration::from_secs(15);
/// Users of a region, who begin one after the other.
const USERS: u32 = 3;

pub(super) struct Stream {
    pub(super) region: String,
    /// The region that answered.
    pub(super) server: String,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// Why it did not come to its end.
    pub(super) cut: Option<String>,
}

pub(super) struct Streams {
    streams: Arc<Mutex<Vec<Stream>>>,
    stop: CancellationToken,
    users: JoinSet<()>,
}

impl Streams {
    pub(super) fn start(gateways: &[(RegionName, String)]) -> Result<Self> {
        let (streams, stop, mut users) = (Arc::default(), CancellationToken::new(), JoinSet::new());
        let http = tradewind_api::client::http_client().build()?;
        for (region, gateway) in gateways {
            for number in 0..USERS {
                let url = format!("{gateway}/models/tokens/v1/completions");
                let (region, streams) = (region.to_string(), Arc::clone(&streams));
                let user = User { region, url, http: http.clone(), streams };
                users.spawn(user.keep_reading(Duration::from_secs(1) * number, stop.clone()));
            }
        }
        Ok(Self { streams, stop, users })
    }

    /// Lets every user read to the end of the stream that it has open.
    pub(super) async fn stop(mut self) -> Result<Vec<Stream>> {
        self.stop.cancel();
        while let Some(ended) = self.users.join_next().await {
            ended?;
        }
        Ok(std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

struct User {
    region: String,
    url: String,
    http: reqwest::Client,
    streams: Arc<Mutex<Vec<Stream>>>,
}

impl User {
    async fn keep_reading(self, first: Duration, stop: CancellationToken) {
        let first = tokio::time::Instant::now() + first;
        stop.run_until_cancelled(tokio::time::interval_at(first, PATIENCE).tick()).await;
        while !stop.is_cancelled() {
            let (began, mut server) = (Instant::now(), String::new());
            let cut = self.read(&mut server).await.err().map(|error| format!("{error:#}"));
            let (region, ended) = (self.region.clone(), Instant::now());
            let stream = Stream { region, server, began, ended, cut };
            self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
    }

    async fn read(&self, server: &mut String) -> Result<()> {
        let body = json!({"prompt": "over the", "max_tokens": TOKENS, "delay_ms": DELAY_MS, "stream": true});
        let mut response = tokio::time::timeout(PATIENCE, self.http.post(&self.url).body(body.to_string()).send())
            .await
            .context("no head came")??;
        let region = response.headers().get("x-tradewind-region").context("no region")?;
        region.to_str()?.clone_into(server);
        ensure!(response.status().is_success(), "{}", response.status());
        let mut text = String::new();
        loop {
            let tokens = || text.matches("\"token\"").count();
            match tokio::time::timeout(PATIENCE, response.chunk()).await {
                Err(_) => bail!("silent after {} tokens", tokens()),
                Ok(Err(error)) => bail!("cut after {} tokens: {error:?}", tokens()),
                Ok(Ok(Some(chunk))) => text += std::str::from_utf8(&chunk)?,
                Ok(Ok(None)) => {
                    ensure!(
                        text.ends_with("data: [DONE]\n\n") && tokens() == TOKENS,
                        "ended after {} tokens",
                        tokens()
                    );
                    return Ok(());
                }
            }
        }
    }
}
