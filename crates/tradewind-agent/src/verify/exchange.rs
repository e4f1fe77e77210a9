//! The requests of a verification to one replica.

use std::{
    fmt,
    time::{Duration, Instant},
};

use http::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tradewind_api::replica::{INFERENCE_LIMIT, LoadedModel, loaded_path};
use tradewind_core::{
    ModelName,
    causes::causes,
    inference::{InferRequest, InferResponse},
    probe::Probe,
    verify::HttpRequest,
};

use crate::probe::{self, Answer};

/// Marks a request that is not a user's, so that it stays out of metrics, scaling and drift.
const PROBE_HEADER: &str = "x-tradewind-probe";
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 64 << 20;
/// Of an error's body, so much is shown, in characters.
const ERROR_SHOWN: usize = 300;

/// Why a request came to nothing, in a phrase for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// There was no answer, or one of a server that failed: it may be overloaded, or about to end.
    Unanswered(String),
    /// There was an answer, and not the one that was expected.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unanswered(phrase) | Self::Wrong(phrase)) = self;
        formatter.write_str(phrase)
    }
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        let (Trouble::Unanswered(phrase) | Trouble::Wrong(phrase)) = trouble;
        phrase
    }
}

/// One replica, asked.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    http: &'a reqwest::Client,
    model: &'a ModelName,
    pub(super) id: &'a str,
    address: &'a str,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(http: &'a reqwest::Client, model: &'a ModelName, id: &'a str, address: &'a str) -> Self {
        Self { http, model, id, address }
    }

    pub(super) async fn loaded(&self) -> Result<LoadedModel, Trouble> {
        self.answer(self.http.get(self.url(&loaded_path(self.model)))).await
    }

    pub(super) async fn is_ready(&self, probe: &Probe) -> bool {
        probe::ask(self.http, self.address, probe, INFERENCE_LIMIT).await == Answer::Ready
    }

    /// The model's metadata; what is not the signature is ignored.
    pub(super) async fn metadata<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        self.answer(self.http.get(self.url(&format!("/v2/models/{}", self.model)))).await
    }

    /// The answer and how long it took, without the time to build the request and to read the answer as JSON.
    pub(super) async fn infer(&self, request: &InferRequest) -> Result<(InferResponse, Duration), Trouble> {
        let request = self.http.post(self.url(&format!("/v2/models/{}/infer", self.model))).json(request);
        let begun = Instant::now();
        let body = self.body(request).await?;
        let took = begun.elapsed();
        Ok((parse(&body)?, took))
    }

    /// The status and the body of an answer, whatever they are, and how long it took to its end.
    pub(super) async fn send(&self, request: &HttpRequest) -> Result<(u16, Vec<u8>, Duration), Trouble> {
        let method = Method::from_bytes(request.method().as_bytes());
        let method = method.map_err(|error| Trouble::Unanswered(error.to_string()))?;
        let mut sent = self.http.request(method, self.url(&request.path));
        if let Some((body, kind)) = request.body() {
            if !request.headers.keys().any(|name| name.eq_ignore_ascii_case(header::CONTENT_TYPE.as_str())) {
                sent = sent.header(header::CONTENT_TYPE, kind);
            }
            sent = sent.body(body);
        }
        for (name, value) in &request.headers {
            sent = sent.header(name, value);
        }
        let begun = Instant::now();
        let (status, body) = self.read(sent).await?;
        Ok((status.as_u16(), body, begun.elapsed()))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Trouble> {
        parse(&self.body(request).await?)
    }

    async fn body(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Trouble> {
        let (status, body) = self.read(request).await?;
        if status.is_success() {
            return Ok(body);
        }
        let phrase = format!("answered with {status}: {}", error_text(&body));
        Err(if status.is_server_error() { Trouble::Unanswered(phrase) } else { Trouble::Wrong(phrase) })
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let silent = |error: reqwest::Error| {
            Trouble::Unanswered(match error.is_timeout() {
                true => format!("{} did not answer within {} s", self.id, INFERENCE_LIMIT.as_secs()),
                false => format!("{} did not answer: {}", self.id, root_cause(&error)),
            })
        };
        let request = request.header(PROBE_HEADER, "1").timeout(INFERENCE_LIMIT);
        let mut response = request.send().await.map_err(silent)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Trouble::Wrong(format!("the answer is longer than {ANSWER_LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// Inference errors are `{"error": "..."}`.
fn error_text(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refused {
        error: String,
    }
    let text = match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => refused.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(ERROR_SHOWN).collect()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Trouble> {
    serde_json::from_slice(body).map_err(|error| Trouble::Wrong(format!("the answer does not parse: {error}")))
}

fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
