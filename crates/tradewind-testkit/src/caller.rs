//! One user who asks now and then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tradewind_api::gateway::USER_HEADER;

/// A user gives up on an answer after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps its connections between requests.
#[derive(Debug, Clone)]
pub struct Caller {
    http: reqwest::Client,
}

/// An inference answer, and where it came from.
#[derive(Debug, Clone)]
pub struct Reply {
    pub region: String,
    pub revision: String,
    pub document: serde_json::Value,
    pub took: Duration,
}

impl Caller {
    pub fn new() -> Result<Self> {
        Ok(Self { http: tradewind_api::client::http_client().timeout(PATIENCE).build()? })
    }

    /// Whether a role says that it is ready.
    pub async fn is_ready(&self, address: &str) -> bool {
        let answer = self.http.get(format!("{address}/readyz")).send().await;
        answer.is_ok_and(|response| response.status().is_success())
    }

    pub async fn ask(&self, url: &str, body: &str) -> Result<Reply> {
        self.send(self.http.post(url).body(body.to_owned()), url).await
    }

    /// As somebody with that key.
    pub async fn ask_as(&self, user: &str, url: &str, body: &str) -> Result<Reply> {
        self.send(self.http.post(url).header(USER_HEADER, user).body(body.to_owned()), url).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: &str) -> Result<Reply> {
        let began = Instant::now();
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let took = began.elapsed();
        ensure!(status.is_success(), "{url} answered {status}: {text}");
        let header = |name: &str| -> Result<String> {
            Ok(headers.get(name).with_context(|| format!("{url} sent no {name}"))?.to_str()?.to_owned())
        };
        Ok(Reply {
            region: header("x-tradewind-region")?,
            revision: header("x-tradewind-revision")?,
            document: serde_json::from_str(&text)?,
            took,
        })
    }
}
