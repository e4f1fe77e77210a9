//! `POST .../infer`: JSON, with or without binary tensors behind it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tradewind_api::{gateway::TIMEOUT_HEADER, replica::INFERENCE_LIMIT};
use tradewind_core::duration::Span;

use super::{
    Server,
    body::{BODY_BYTES_LIMIT, Plan},
    failure::Failure,
    infer::{self, Protocol},
    routes::Named,
};
use crate::{
    engine::{Engine, Outputs},
    metrics::Reason,
    request::{self, Inference, RequestError},
    response::{self, Answering, Asked, ResponseError, json::Encoded},
};

/// Bytes of the JSON, where binary tensors follow it.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// So many raw bytes take as long to make tensors of as one of JSON.
const RAW_BYTES_PER_JSON_BYTE: usize = 32;

pub(super) async fn infer(
    State(server): State<Arc<Server>>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, body) = request.into_parts();
    let rest = Rest::of(&server, &named, &head.headers).inspect_err(|failure| {
        server.came(&head.headers);
        server.failed(&head.headers, failure);
    })?;
    let Encoded { body, header_length } = infer::infer(&server, rest, &head.headers, body).await?;
    let mut response = body.into_response();
    let content_type = if header_length.is_some() { BINARY } else { JSON };
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    if let Some(length) = header_length {
        response.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

struct Rest {
    header_length: Option<usize>,
}

impl Rest {
    fn of(server: &Server, named: &Named, headers: &HeaderMap) -> Result<Self, Failure> {
        server.check_name(&named.model, named.version.as_deref())?;
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "compressed requests are not supported, send the request as it is";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, message));
        }
        Ok(Self { header_length: header_length(headers)? })
    }
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, RequestError> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok()).filter(|_| values.next().is_none());
    length.map(Some).ok_or(RequestError::HeaderMalformed)
}

impl Protocol for Rest {
    type Answer = Encoded;

    /// The client's limit counts where it is shorter.
    fn limit(headers: &HeaderMap) -> Result<Duration, Failure> {
        let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(INFERENCE_LIMIT) };
        let span = value.to_str().ok().and_then(|text| text.parse::<Span>().ok());
        Ok(span.ok_or(RequestError::Timeout)?.duration().min(INFERENCE_LIMIT))
    }

    fn plan(&self) -> Plan {
        Plan { limit: BODY_BYTES_LIMIT, aligned_at: self.header_length.unwrap_or_default() }
    }

    fn parse_cost(&self, body: &Bytes) -> usize {
        let json = self.header_length.unwrap_or(body.len()).min(body.len());
        json + (body.len() - json) / RAW_BYTES_PER_JSON_BYTE
    }

    fn parse(&self, _: &Server, engine: &Engine, body: Bytes) -> Result<Inference, Failure> {
        Ok(request::json::parse(body, self.header_length, &engine.signature)?)
    }

    fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Encoded, ResponseError> {
        response::json::encode(answering, asked, outputs)
    }
}
