//! `ModelStreamInfer`: requests come and answers go on one stream. Answers keep the order of the requests; a request
//! that is refused is told so in its turn, and the stream goes on. What breaks the stream itself, such as a frame that
//! makes no sense, ends it, after the answers to what came before.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::time::{Instant, timeout, timeout_at};
use tradewind_api::grpc::{
    Code, Status,
    frame::{HEADER_BYTES, Header},
    message::{ModelInferResponse, ModelStreamInferResponse},
};

use super::{
    Server,
    body::{self, BODY_BYTES_LIMIT, BODY_READ_LIMIT},
    coding::Codings,
    failure::Failure,
    grpc::{Grpc, framed},
    infer::{self, Protocol, Received},
};
use crate::{
    engine::{Engine, InferError, Outputs},
    metrics::Reason,
    request::{Inference, RequestError},
    response::{self, Answering, Asked, ResponseError},
};

/// Requests of one stream that are worked on at once; what else the client sends waits in its connection.
const UNDER_WAY_LIMIT: usize = 8;
/// A client that says nothing for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// The body of the answer. Dropping it cancels what is under way.
pub(super) fn converse(
    server: Arc<Server>,
    headers: HeaderMap,
    body: Body,
    codings: Codings,
    limit: Option<Duration>,
) -> Body {
    let headers = Arc::new(headers);
    let until = limit.map(|limit| Instant::now() + limit);
    let requests = requests(Requests { server: Arc::clone(&server), body, held: BytesMut::new(), over: false });
    let answers = requests.map(move |received| {
        let (server, headers) = (Arc::clone(&server), Arc::clone(&headers));
        async move { Ok(answer(&server, &headers, received?, codings).await) }
    });
    let frames = frames(answers.buffered(UNDER_WAY_LIMIT), until);
    Body::new(StreamBody::new(frames))
}

/// The answers, and the status in the trailers.
fn frames(
    answers: impl Stream<Item = Result<Vec<u8>, Failure>> + Send + 'static,
    until: Option<Instant>,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    stream::unfold(Some(Box::pin(answers)), move |answers| async move {
        let mut answers = answers?;
        let next = match until {
            None => Ok(answers.next().await),
            Some(until) => timeout_at(until, answers.next()).await,
        };
        let status = match next {
            Ok(Some(Ok(answer))) => return Some((Ok(Frame::data(Bytes::from(answer))), Some(answers))),
            Ok(Some(Err(failure))) => Status::new(Code::from_http(failure.status), failure.message),
            Ok(None) => Status::OK,
            Err(_) => Status::new(Code::DeadlineExceeded, "the stream took longer than its grpc-timeout"),
        };
        Some((Ok(Frame::trailers(status.trailers())), None))
    })
}

async fn answer(server: &Arc<Server>, headers: &HeaderMap, received: Received, codings: Codings) -> Vec<u8> {
    let request = received.body.clone();
    match infer::infer(server, Streamed(Grpc { codings }), headers, ready(Ok(received))).await {
        Ok(answer) => answer,
        Err(failure) => {
            // By this a client with many requests under way knows which one it was.
            let id = codings.message(request).ok().and_then(|message| Identified::decode(message).ok());
            let id = id.map(|identified| identified.id).unwrap_or_default();
            let infer_response = Some(ModelInferResponse { id, ..Default::default() });
            codings.frame(framed(&ModelStreamInferResponse { error_message: failure.message, infer_response }))
        }
    }
}

/// A `ModelInferRequest` of which only the id is read.
#[derive(Clone, PartialEq, Message)]
struct Identified {
    #[prost(string, tag = "3")]
    id: String,
}

/// One request of a conversation.
#[derive(Debug, Clone, Copy)]
struct Streamed(Grpc);

impl Protocol for Streamed {
    type Answer = Vec<u8>;

    fn parse_cost(self, body: &Bytes) -> usize {
        self.0.parse_cost(body)
    }

    fn parse(self, server: &Server, engine: &Engine, body: Bytes) -> Result<Inference, Failure> {
        self.0.parse(server, engine, body)
    }

    fn compresses(self) -> bool {
        self.0.compresses()
    }

    fn encode(self, answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
        Ok(self.0.codings.frame(response::grpc::encode_in_stream(answering, asked, outputs)?))
    }
}

/// What a client sends, frame by frame.
struct Requests {
    server: Arc<Server>,
    body: Body,
    held: BytesMut,
    over: bool,
}

/// Ends after the first failure.
fn requests(requests: Requests) -> impl Stream<Item = Result<Received, Failure>> + Send + 'static {
    stream::unfold(requests, |mut requests| async move {
        if requests.over {
            return None;
        }
        let next = requests.next().await.transpose()?;
        requests.over = next.is_err();
        Some((next, requests))
    })
}

impl Requests {
    /// The next request with its frame; `None` when the client has said all.
    async fn next(&mut self) -> Result<Option<Received>, Failure> {
        if self.server.shutdown.is_cancelled() {
            return Err(InferError::Stopping.into());
        }
        if !self.begins().await? {
            return Ok(None);
        }
        match timeout(BODY_READ_LIMIT, self.rest()).await {
            Ok(received) => received.map(Some),
            Err(_) => {
                let message = format!("a message was not sent within {} s", BODY_READ_LIMIT.as_secs());
                Err(Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message))
            }
        }
    }

    /// Waits for a request to begin; `false` at the end.
    async fn begins(&mut self) -> Result<bool, Failure> {
        while self.held.is_empty() {
            let piece = tokio::select! {
                biased;
                piece = timeout(SILENCE_LIMIT, body::piece(&mut self.body)) => piece,
                () = self.server.shutdown.cancelled() => return Err(InferError::Stopping.into()),
            };
            let silent = |_| {
                let message = format!("nothing was said for {} s", SILENCE_LIMIT.as_secs());
                Failure::new(StatusCode::REQUEST_TIMEOUT, Reason::Invalid, message)
            };
            match piece.map_err(silent)?? {
                // It may be empty, as the last one of some clients is.
                Some(piece) => self.held.extend_from_slice(&piece),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The rest of a request that has begun. A large one is read only when it has a place among those under way.
    async fn rest(&mut self) -> Result<Received, Failure> {
        let invalid = |message: &str| Failure::from(RequestError::Message(message.to_owned()));
        self.hold(HEADER_BYTES).await?;
        let header = self.held.first_chunk().ok_or_else(|| invalid("it is cut off within its frame"))?;
        let header = Header::read(*header).map_err(|error| invalid(&error.to_string()))?;
        let length = header.length as usize;
        if length > BODY_BYTES_LIMIT {
            let message = format!("the request has more than {BODY_BYTES_LIMIT} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, message));
        }
        let admission = Arc::clone(&self.server.admission);
        let place = admission.acquire_owned().await.map_err(|_| Failure::from(InferError::Stopping))?;
        self.hold(HEADER_BYTES + length).await?;
        Ok(Received { body: self.held.split_to(HEADER_BYTES + length).freeze(), place })
    }

    /// Reads until so many bytes are held.
    async fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        while self.held.len() < bytes {
            match body::piece(&mut self.body).await? {
                Some(piece) => self.held.extend_from_slice(&piece),
                None => return Err(RequestError::Message("it is shorter than its frame says".to_owned()).into()),
            }
        }
        Ok(())
    }
}
