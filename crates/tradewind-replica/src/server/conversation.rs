//! `ModelStreamInfer`: requests come and answers go on one stream. Answers keep the order of the requests; a request
//! that is refused is told so in its turn, and the stream goes on. What breaks the stream itself, such as a frame that
//! makes no sense, ends it, after the answers to what came before.

mod requests;

use std::{convert::Infallible, future::ready, pin::pin, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::{
    grpc::{
        Code, Status,
        message::{ModelInferResponse, ModelStreamInferResponse},
    },
    replica::INFERENCE_LIMIT,
};

use super::{
    Server,
    coding::Codings,
    failure::Failure,
    grpc::{Grpc, framed},
    infer::{self, Protocol, Received},
    places::Place,
    served::Target,
};
use crate::{
    engine::Outputs,
    request::Inference,
    response::{self, Answering, Asked, ResponseError},
};
use requests::{Requests, requests};

/// Requests of one stream that are worked on, or whose answers wait for the client to take them; what else it sends
/// waits in its connection.
const UNDER_WAY_LIMIT: usize = 8;

/// The body of the answer. Dropping it cancels what is under way.
pub(super) fn converse(
    server: Arc<Server>,
    headers: HeaderMap,
    body: Body,
    codings: Codings,
    limit: Option<Duration>,
) -> Body {
    let until = limit.map(|limit| Instant::now() + limit);
    let (put, mut answers) = mpsc::channel(UNDER_WAY_LIMIT);
    let working = AbortOnDropHandle::new(tokio::spawn(work(server, Arc::new(headers), body, codings, put)));
    let answers = stream::poll_fn(move |cx| {
        let _until_the_end = &working;
        answers.poll_recv(cx)
    });
    let answers = answers.then(|answer: Result<AbortOnDropHandle<Vec<u8>>, Failure>| async {
        Ok(answer?.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    });
    Body::new(StreamBody::new(frames(answers, until)))
}

/// Takes requests and has each answered, in tasks of their own: a client that takes no answers must not hold the places
/// that others wait for.
async fn work(
    server: Arc<Server>,
    headers: Arc<HeaderMap>,
    body: Body,
    codings: Codings,
    put: mpsc::Sender<Result<AbortOnDropHandle<Vec<u8>>, Failure>>,
) {
    let requests = requests(Requests::new(body, server.places.clone(), server.shutdown.clone()));
    let mut requests = pin!(requests);
    // The room for the answer comes before the request.
    while let Ok(room) = put.reserve().await {
        let Some(received) = requests.next().await else { return };
        room.send(received.map(|received| {
            let (server, headers) = (Arc::clone(&server), Arc::clone(&headers));
            AbortOnDropHandle::new(tokio::spawn(async move { answer(&server, &headers, received, codings).await }))
        }));
    }
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
    // The client's limit is of the whole conversation.
    let streamed = Streamed(Grpc { codings, limit: INFERENCE_LIMIT });
    match infer::infer(server, streamed, headers, server.visit(headers), ready(Ok(received))).await {
        Ok(answer) => answer,
        Err(failure) => {
            // By this a client with many requests under way knows which one it was.
            let message = codings.message(request, |_| Ok::<_, Failure>(()));
            let id = message.ok().and_then(|message| Identified::decode(message).ok());
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

    fn limit(&self) -> Duration {
        self.0.limit()
    }

    fn parse_cost(&self, body: &Bytes) -> usize {
        self.0.parse_cost(body)
    }

    fn parse(&self, server: &Server, body: Bytes, place: &mut Place) -> Result<(Target, Inference), Failure> {
        self.0.parse(server, body, place)
    }

    fn compresses(&self) -> bool {
        self.0.compresses()
    }

    fn encode(&self, answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
        Ok(self.0.codings.frame(response::grpc::encode_in_stream(answering, asked, outputs)?))
    }
}
