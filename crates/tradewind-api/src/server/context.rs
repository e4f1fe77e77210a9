//! What is logged while a request is answered says which request it was.

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};
use tracing::{Instrument, field};

use crate::{gateway::REQUEST_ID_HEADER, http};

/// A longer id of the client's own is not taken over.
const ID_LIMIT: usize = 128;

/// A layer of routes: lines of the log carry the id of the request, which the answer says too, and of its trace.
pub async fn in_context(request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID_HEADER).and_then(|id| id.to_str().ok());
    let sane = |id: &&str| (1..=ID_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let id = given.filter(sane).map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned);
    let span = tracing::info_span!("request", request_id = id, trace_id = field::Empty);
    if let Some(parent) = http::trace(request.headers()) {
        span.record("trace_id", field::display(parent.trace));
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = async {
        let response = next.run(request).await;
        tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
        response
    };
    let mut response = answer.instrument(span).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, id);
    }
    response
}
