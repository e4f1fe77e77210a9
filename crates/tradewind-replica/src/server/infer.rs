//! An inference, whatever its protocol: admit, read, parse, run, write. Every failure is a status and a
//! [`Reason`](crate::metrics::Reason).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use tradewind_api::{gateway::PROBE_HEADER, http};
use tradewind_traces::{Kind, Span};

use super::{
    Server,
    body::{self, Plan},
    failure::Failure,
};
use crate::{
    engine::{Engine, InferError, Outputs, Terms},
    request::Inference,
    response::{self, Answering, Asked, ResponseError},
};

/// A request that costs no more than so many bytes of JSON is parsed where it was read: that takes less than handing it
/// over.
const INLINE_PARSE_LIMIT: usize = 32 << 10;
/// So is an answer written that costs no more than so many numbers in JSON.
const INLINE_WRITE_LIMIT: usize = 4 << 10;

/// What differs between REST and gRPC.
pub(super) trait Protocol: Send + 'static {
    type Answer: Send + 'static;

    /// How long the answer may take.
    fn limit(headers: &HeaderMap) -> Result<Duration, Failure>;

    fn plan(&self) -> Plan;

    /// How long it takes to parse `body`, in bytes of JSON.
    fn parse_cost(&self, body: &Bytes) -> usize;

    fn parse(&self, server: &Server, engine: &Engine, body: Bytes) -> Result<Inference, Failure>;

    fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Self::Answer, ResponseError>;
}

/// Dropping the future cancels the inference, wherever it is.
pub(super) async fn infer<P: Protocol>(
    server: &Arc<Server>,
    protocol: P,
    headers: &HeaderMap,
    body: Body,
) -> Result<P::Answer, Failure> {
    server.came(headers);
    let began = Instant::now();
    let mut span = tradewind_traces::child("inference", Kind::Server, http::trace(headers));
    let answer = answer(server, protocol, headers, body, &mut span).await;
    match &answer {
        Ok(_) => server.answered(headers, began.elapsed()),
        Err(failure) => {
            server.failed(headers, failure);
            if let Some(span) = &mut span {
                span.fail(failure.message.clone());
            }
        }
    }
    answer
}

async fn answer<P: Protocol>(
    server: &Arc<Server>,
    protocol: P,
    headers: &HeaderMap,
    body: Body,
    span: &mut Option<Span>,
) -> Result<P::Answer, Failure> {
    let due = Instant::now() + P::limit(headers)?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    let overloaded = |_| Failure::from(InferError::Overloaded);
    let _permit = server.admission.try_acquire().map_err(overloaded)?;
    let body = body::read(headers, body, protocol.plan()).await?;
    let inference = parse(server, engine, protocol, body).await?;
    let terms = Terms { due, urgency: inference.urgency };
    let (inputs, asked) = inference.split();
    let outputs = engine.infer(inputs, terms).await?;
    let answered_at = Instant::now();
    if !headers.contains_key(PROBE_HEADER) {
        server.metrics.inference(outputs.took);
    }
    let (queued, took, requests) = (outputs.queued, outputs.took, outputs.requests);
    let answer = encode::<P>(server, engine, asked, outputs).await;
    if let Some(span) = span {
        span.set("tradewind.queue_us", micros(queued));
        span.set("tradewind.inference_us", micros(took));
        span.set("tradewind.encode_us", micros(answered_at.elapsed()));
        span.set("tradewind.batch_requests", i64::try_from(requests).unwrap_or(i64::MAX));
    }
    answer
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

async fn parse<P: Protocol>(
    server: &Arc<Server>,
    engine: &Engine,
    protocol: P,
    body: Bytes,
) -> Result<Inference, Failure> {
    if protocol.parse_cost(&body) <= INLINE_PARSE_LIMIT {
        return protocol.parse(server, engine, body);
    }
    let server = Arc::clone(server);
    off_the_reactor(move || protocol.parse(&server, server.loaded_engine(), body)).await
}

async fn encode<P: Protocol>(
    server: &Arc<Server>,
    engine: &Engine,
    asked: Asked,
    outputs: Outputs,
) -> Result<P::Answer, Failure> {
    if response::cost(&asked, &outputs) <= INLINE_WRITE_LIMIT {
        return Ok(P::encode(server.answering(engine), &asked, &outputs)?);
    }
    let server = Arc::clone(server);
    let encoded = off_the_reactor(move || P::encode(server.answering(server.loaded_engine()), &asked, &outputs));
    Ok(encoded.await?)
}

async fn off_the_reactor<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Server {
    fn loaded_engine(&self) -> &Engine {
        self.engine.get().expect("a request is parsed and answered only after the model was loaded")
    }

    fn answering<'a>(&'a self, engine: &'a Engine) -> Answering<'a> {
        Answering { model: self.model.as_str(), version: &self.version_text, signature: &engine.signature }
    }
}
