//! `POST .../infer`: admit, read, parse, run, write. Every failure is a status and a [`Reason`].

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Bytes, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use tradewind_api::gateway::PROBE_HEADER;

use super::{Server, failure::Failure, routes::Named};
use crate::{
    engine::{Engine, InferError, Outputs},
    metrics::Reason,
    request::{self, Inference, RequestError},
    response::{self, Answering, Asked},
};

/// The largest request.
const BODY_BYTES_LIMIT: usize = 64 << 20;
/// A client has this long to send its request.
const BODY_READ_LIMIT: Duration = Duration::from_secs(30);
/// A request up to this size is parsed where it was read: that takes less than handing it over.
const INLINE_BYTES_LIMIT: usize = 32 << 10;
/// So is an answer of this many elements written.
const INLINE_ELEMENTS_LIMIT: usize = 4 << 10;
/// Announces the protocol's binary tensors.
const BINARY_HEADER: &str = "inference-header-content-length";

pub(super) async fn infer(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, Failure> {
    let counted = !request.headers().contains_key(PROBE_HEADER);
    if counted {
        server.metrics.request();
    }
    match answer(&server, &named, request, counted).await {
        Ok(body) => Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response()),
        Err(failure) => {
            if counted {
                server.metrics.error(failure.reason);
            }
            Err(failure)
        }
    }
}

async fn answer(server: &Arc<Server>, named: &Named, request: Request, counted: bool) -> Result<Vec<u8>, Failure> {
    server.check_name(named)?;
    let engine = server.engine.get().ok_or_else(Failure::loading)?;
    check_headers(request.headers())?;
    let overloaded = |_| Failure::from(InferError::Overloaded);
    let _permit = server.admission.try_acquire().map_err(overloaded)?;
    let body = read(request).await?;
    let (inputs, asked) = parse(server, engine, body).await?.split();
    let outputs = engine.infer(inputs).await?;
    if counted {
        server.metrics.inference(outputs.took);
    }
    encode(server, engine, asked, outputs).await
}

fn check_headers(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(BINARY_HEADER) {
        return Err(RequestError::Binary.into());
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = "compressed requests are not supported, send the request as it is";
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, message))
        }
        _ => Ok(()),
    }
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    let too_large = || {
        let message = format!("the request has more than {BODY_BYTES_LIMIT} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message)
    };
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > BODY_BYTES_LIMIT as u64) {
        return Err(too_large());
    }
    let body = to_bytes(request.into_body(), BODY_BYTES_LIMIT);
    match tokio::time::timeout(BODY_READ_LIMIT, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_length_limit(&error) => Err(too_large()),
        Ok(Err(error)) => {
            let message = format!("the request's body broke off: {error}");
            Err(Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, message))
        }
        Err(_) => {
            let message = format!("the request was not sent within {} s", BODY_READ_LIMIT.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message))
        }
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

async fn parse(server: &Arc<Server>, engine: &Engine, body: Bytes) -> Result<Inference, Failure> {
    if body.len() <= INLINE_BYTES_LIMIT {
        return Ok(request::parse(&body, &engine.signature)?);
    }
    let server = Arc::clone(server);
    let parsed = off_the_reactor(move || request::parse(&body, &server.loaded_engine().signature));
    Ok(parsed.await?)
}

async fn encode(server: &Arc<Server>, engine: &Engine, asked: Asked, outputs: Outputs) -> Result<Vec<u8>, Failure> {
    if response::elements(&asked, &outputs) <= INLINE_ELEMENTS_LIMIT {
        return Ok(response::encode(server.answering(engine), &asked, &outputs)?);
    }
    let server = Arc::clone(server);
    let encoded = off_the_reactor(move || response::encode(server.answering(server.loaded_engine()), &asked, &outputs));
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
