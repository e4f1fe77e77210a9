//! Errors of the control API: `application/problem+json` (RFC 9457) with a stable code, its causes and a hint.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tradewind_core::causes::causes;
use utoipa::ToSchema;

pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, in a word that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request itself is wrong.
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    /// The request is right but not now, or not without a further word such as `--prune`.
    Refused,
    TooLarge,
    /// The bundle or model is not one that can be served.
    InvalidBundle,
    DiskFull,
    /// Another process does not answer.
    Unreachable,
    /// This process cannot answer now; the same request may do later.
    Unavailable,
    Internal,
}

impl Code {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::InvalidBundle => StatusCode::UNPROCESSABLE_ENTITY,
            Self::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The exit code of a command that ends with this error.
    pub fn exit(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Unreachable | Self::Unavailable => 4,
            Self::Refused | Self::Unauthorized | Self::Forbidden | Self::InvalidBundle | Self::TooLarge => 5,
            Self::DiskFull | Self::Internal => 1,
        }
    }

    pub fn retryable(self) -> bool {
        matches!(self, Self::Unreachable | Self::Unavailable)
    }
}

/// One error, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    pub code: Code,
    /// One sentence, lower case, no final period.
    pub detail: String,
    /// Outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default)]
    pub retryable: bool,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), causes: Vec::new(), hint: None, retryable: code.retryable() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// An error with its chain of sources as causes.
    pub fn from_error(code: Code, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = causes(error).skip(1).map(ToString::to_string);
        Self { causes: causes.collect(), ..Self::new(code, error.to_string()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem has string keys");
        let mut response = (self.code.status(), body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    }
}
