//! Users who read tokens one by one, a stream after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;

use super::crowd::{Crowd, Notes};

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

/// Begins to read from every gateway.
pub(super) fn start(gateways: &[(RegionName, String)]) -> Result<Crowd<Stream>> {
    let mut crowd = Crowd::new();
    let http = tradewind_api::client::http_client().build()?;
    for (region, gateway) in gateways {
        for number in 0..USERS {
            let url = format!("{gateway}/models/tokens/v1/completions");
            let user = User { region: region.to_string(), url, http: http.clone() };
            crowd.join(|streams, stop| user.keep_reading(Duration::from_secs(1) * number, streams, stop));
        }
    }
    Ok(crowd)
}

struct User {
    region: String,
    url: String,
    http: reqwest::Client,
}

impl User {
    async fn keep_reading(self, first: Duration, streams: Notes<Stream>, stop: CancellationToken) {
        let first = tokio::time::Instant::now() + first;
        stop.run_until_cancelled(tokio::time::interval_at(first, PATIENCE).tick()).await;
        while !stop.is_cancelled() {
            let (began, mut server) = (Instant::now(), String::new());
            let cut = self.read(&mut server).await.err().map(|error| format!("{error:#}"));
            let (region, ended) = (self.region.clone(), Instant::now());
            streams.add(Stream { region, server, began, ended, cut });
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
