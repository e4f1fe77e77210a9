//! `POST .../infer`: JSON, with or without binary tensors behind it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tradewind_api::{compression::Coding, gateway::TIMEOUT_HEADER, replica::INFERENCE_LIMIT};
use tradewind_core::duration::Span;

use super::{
    Server,
    body::{BODY_BYTES_LIMIT, Plan},
    coding::Codings,
    failure::Failure,
    infer::{self, Protocol},
    places::Place,
    routes::Named,
    served::{Target, Visit},
};
use crate::{
    engine::Outputs,
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
    let mut visit = server.visit(&head.headers);
    let rest = Rest::of(&server, &named, &head.headers, &mut visit).inspect_err(|failure| visit.failed(failure))?;
    let received = infer::receive(&server, &head.headers, body, rest.plan());
    let Answer { encoded, coding } = infer::infer(&server, rest, &head.headers, visit, received).await?;
    let mut response = encoded.body.into_response();
    let content_type = if encoded.header_length.is_some() { BINARY } else { JSON };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Some(length) = encoded.header_length {
        headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    Ok(response)
}

#[derive(Debug, Clone)]
struct Rest {
    target: Target,
    limit: Duration,
    header_length: Option<usize>,
    codings: Codings,
}

/// The body compressed, where it says so.
struct Answer {
    encoded: Encoded,
    coding: Option<Coding>,
}

impl Rest {
    fn of(server: &Server, named: &Named, headers: &HeaderMap, visit: &mut Visit) -> Result<Self, Failure> {
        let served = server.find(&named.model, named.version.as_deref())?;
        visit.is_to(served);
        let (limit, header_length) = (limit(headers)?, header_length(headers)?);
        Ok(Self { limit, header_length, codings: Codings::of_rest(headers)?, target: Target::of(served)? })
    }

    fn plan(&self) -> Plan {
        Plan { limit: BODY_BYTES_LIMIT, aligned_at: self.header_length.unwrap_or_default() }
    }
}

/// The client's limit counts where it is shorter.
fn limit(headers: &HeaderMap) -> Result<Duration, RequestError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(INFERENCE_LIMIT) };
    let span = value.to_str().ok().and_then(|text| text.parse::<Span>().ok());
    Ok(span.ok_or(RequestError::Timeout)?.duration().min(INFERENCE_LIMIT))
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, RequestError> {
    let mut values = headers.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok()).filter(|_| values.next().is_none());
    length.map(Some).ok_or(RequestError::HeaderMalformed)
}

impl Protocol for Rest {
    type Answer = Answer;

    fn limit(&self) -> Duration {
        self.limit
    }

    fn parse_cost(&self, body: &Bytes) -> usize {
        let json = self.header_length.unwrap_or(body.len()).min(body.len());
        self.codings.parse_cost(body, json + (body.len() - json) / RAW_BYTES_PER_JSON_BYTE)
    }

    fn parse(&self, _: &Server, body: Bytes, place: &mut Place) -> Result<(Target, Inference), Failure> {
        let body = self.codings.decompress(body, |bytes| place.hold(bytes))?;
        let inference = request::json::parse(body, self.header_length, self.target.engine().signature())?;
        Ok((self.target.clone(), inference))
    }

    fn compresses(&self) -> bool {
        self.codings.answer.is_some()
    }

    fn encode(&self, answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Answer, ResponseError> {
        let Encoded { body, header_length } = response::json::encode(answering, asked, outputs)?;
        let (body, coding) = self.codings.compress(body);
        Ok(Answer { encoded: Encoded { body, header_length }, coding })
    }
}
