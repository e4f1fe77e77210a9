//! A request that is not answered as asked: what the client is told, and what is counted.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tradewind_api::compression::{ACCEPTED, DecompressError};

use crate::{engine::InferError, metrics::Reason, request::RequestError, response::ResponseError};

/// Seconds after which to ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    pub(super) fn loading() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Reason::Loading, "the model is still loading")
    }

    pub(super) fn unloaded(model: &str) -> Self {
        let message = format!("`{model}` is not loaded: POST /v2/repository/models/{model}/load");
        Self::new(StatusCode::BAD_REQUEST, Reason::Unloaded, message)
    }
}

impl IntoResponse for Failure {
    /// The protocol's form of an error. A 503 passes by itself, and says when to ask again; a 415 says what is taken.
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        response
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Reason::Invalid, error.to_string())
    }
}

impl From<InferError> for Failure {
    fn from(error: InferError) -> Self {
        let (status, reason) = match &error {
            InferError::Overloaded | InferError::Full | InferError::Hopeless => {
                (StatusCode::SERVICE_UNAVAILABLE, Reason::Overloaded)
            }
            InferError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, Reason::Stopping),
            InferError::Deadline => (StatusCode::GATEWAY_TIMEOUT, Reason::Deadline),
            InferError::Refused(_) => (StatusCode::BAD_REQUEST, Reason::Refused),
            InferError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, Reason::Inference),
        };
        Self::new(status, reason, error.to_string())
    }
}

impl From<DecompressError> for Failure {
    fn from(error: DecompressError) -> Self {
        let (status, reason) = match error {
            DecompressError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge),
            DecompressError::Malformed(_) => (StatusCode::BAD_REQUEST, Reason::Invalid),
        };
        Self::new(status, reason, format!("the request cannot be decompressed: {error}"))
    }
}

impl From<ResponseError> for Failure {
    fn from(error: ResponseError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Encoding, error.to_string())
    }
}
