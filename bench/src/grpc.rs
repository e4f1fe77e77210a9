//! A gRPC call over h2c, and what comes of it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::grpc::{SERVICE_PREFIX, frame::Header};

pub(crate) use tradewind_api::grpc::CONTENT_TYPE;

const METHOD: &str = "ModelInfer";
/// What gRPC calls it when a server has no such method.
const UNIMPLEMENTED: &str = "12";

/// The path of the call.
pub(crate) fn path() -> String {
    format!("{SERVICE_PREFIX}{METHOD}")
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).expect("it is short");
    let mut bytes = BytesMut::new();
    bytes.put_slice(&Header::plain(length).write());
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub status: StatusCode,
    pub content_type: String,
    pub grpc_status: Option<String>,
    /// A framed message.
    pub answer: Bytes,
}

impl Outcome {
    /// Whether whoever answered has the method at all.
    pub(crate) fn speaks_grpc(&self) -> bool {
        self.content_type.starts_with(CONTENT_TYPE) && self.grpc_status.as_deref() != Some(UNIMPLEMENTED)
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status == StatusCode::OK && self.grpc_status.as_deref() == Some("0")
    }
}

/// Calls on a new connection, with a framed message.
pub(crate) async fn call(address: SocketAddr, request: Bytes) -> Result<Outcome> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let request = Request::post(format!("http://{address}{}", path()))
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .header(header::TE, "trailers")
        .body(Full::new(request))?;
    let response = sender.send_request(request).await.context("no answer came")?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?;
    let text = |headers: &HeaderMap, name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let in_trailers = body.trailers().and_then(|trailers| text(trailers, "grpc-status"));
    Ok(Outcome {
        status: head.status,
        content_type: text(&head.headers, "content-type").unwrap_or_default(),
        grpc_status: in_trailers.or_else(|| text(&head.headers, "grpc-status")),
        answer: body.to_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_grpc_is_told_from_a_call_that_failed() {
        let outcome = |content_type: &str, grpc_status: &str| Outcome {
            status: StatusCode::OK,
            content_type: content_type.to_owned(),
            grpc_status: Some(grpc_status.to_owned()),
            answer: Bytes::new(),
        };
        assert!(!outcome("application/json", "0").speaks_grpc());
        assert!(!outcome(CONTENT_TYPE, UNIMPLEMENTED).speaks_grpc());
        let unavailable = outcome(CONTENT_TYPE, "14");
        assert!(unavailable.speaks_grpc() && !unavailable.succeeded());
        assert!(outcome(CONTENT_TYPE, "0").succeeded());
    }
}
