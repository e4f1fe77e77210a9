//! Replies of the gateway's own, in the words of whoever asked.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tradewind_api::grpc;

use crate::{body::Answer, message::Response};

/// When a refused request is worth another try.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// How a request is spoken, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Rest,
    Grpc,
}

/// A status and what goes with it. gRPC's codes are made from HTTP's.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// For people.
    Error(String),
    Page {
        content_type: &'static str,
        body: Bytes,
    },
}

impl Reply {
    pub(crate) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, content: Content::Error(message.into()) }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::error(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("replies have string keys");
        Self::page(status, "application/json", body)
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::page(status, "text/plain; charset=utf-8", text)
    }

    pub(crate) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content: Content::Page { content_type, body: body.into() } }
    }

    pub(crate) fn respond(self, dialect: Dialect) -> Response<Answer> {
        let status = self.status;
        let mut response = match (dialect, self.content) {
            (Dialect::Grpc, Content::Error(message)) => {
                let headers = grpc::Status::new(grpc::Code::from_http(status), message).headers();
                Response { status: StatusCode::OK, headers: headers.into(), body: Answer::own(Bytes::new()) }
            }
            (Dialect::Rest, Content::Error(message)) => {
                let body = serde_json::json!({ "error": message }).to_string();
                page(status, "application/json", body.into())
            }
            (_, Content::Page { content_type, body }) => page(status, content_type, body),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers.insert(&header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

fn page(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(status, Answer::own(body));
    response.headers.insert(&header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
