//! `inference.GRPCInferenceService` by hand over HTTP/2: methods of one message in and one out. The one that goes back
//! and forth is in `conversation`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tradewind_api::{
    compression::at_most,
    gateway::PROBE_HEADER,
    grpc::{
        CONTENT_TYPE, Code, Method, Status,
        frame::{HEADER_BYTES, Header},
        message::{
            ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
            ModelReadyResponse, ModelStatisticsRequest, RepositoryIndexRequest, RepositoryIndexResponse,
            RepositoryModelLoadRequest, RepositoryModelLoadResponse, RepositoryModelUnloadRequest,
            RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
            ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse, TensorMetadata,
        },
        status::{ACCEPT_ENCODING_HEADER, ENCODING_HEADER},
        target,
        timeout::{self, TIMEOUT_HEADER},
    },
    replica::INFERENCE_LIMIT,
};
use tradewind_core::bundle::TensorSpec;

use super::{
    Server,
    body::{self, BODY_BYTES_LIMIT, Plan, QUESTION_BYTES_LIMIT},
    coding::{ACCEPTED_BY_GRPC, Codings},
    conversation,
    failure::Failure,
    infer::{self, Protocol},
    places::Place,
    routes::{EXTENSIONS, PLATFORM},
    served::Target,
};
use crate::{
    engine::{InferError, Outputs},
    metrics::Reason,
    request::{self, Inference, RequestError},
    response::{self, Answering, Asked, ResponseError},
};

/// Most of a message is raw tensors, which cost little; but it may be typed numbers.
const BYTES_PER_JSON_BYTE: usize = 8;
/// `RepositoryModelLoadRequest.parameters`
const LOAD_PARAMETERS: u32 = 3;

pub(super) async fn answer(server: Arc<Server>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let call = async {
        let codings = check(&head.method, &head.headers)?;
        let method = Method::from_path(head.uri.path()).ok_or_else(|| {
            let method: String = head.uri.path().chars().take(SHOWN_CHARACTERS).collect();
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, Reason::Invalid, format!("there is no method {method}"))
        })?;
        let limit = limit(&head.headers)?;
        let answer = if method.is_a_conversation() {
            conversation::converse(server, head.headers, body, codings, limit)
        } else {
            let grpc = Grpc { codings, limit: limit.unwrap_or(INFERENCE_LIMIT).min(INFERENCE_LIMIT) };
            match tokio::time::timeout(grpc.limit, call(&server, method, &head.headers, body, grpc)).await {
                Ok(message) => whole(message?),
                Err(_) => return Err(server.too_late(method, &head.headers)),
            }
        };
        Ok(success(answer, codings))
    };
    call.await.unwrap_or_else(|failure| refusal(&failure))
}

/// An error message shows at most this much of a path.
const SHOWN_CHARACTERS: usize = 80;

fn check(method: &http::Method, headers: &HeaderMap) -> Result<Codings, Failure> {
    if method != http::Method::POST {
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, "calls are sent by POST"));
    }
    Codings::of_grpc(headers)
}

/// How long the client lets the call take.
fn limit(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(None) };
    let invalid = |error: timeout::Malformed| Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, error.to_string());
    timeout::read(value.as_bytes()).map(Some).map_err(invalid)
}

/// The framed answer.
async fn call(
    server: &Arc<Server>,
    method: Method,
    headers: &HeaderMap,
    body: Body,
    grpc: Grpc,
) -> Result<Vec<u8>, Failure> {
    let limited = |limit| Plan { limit: HEADER_BYTES + limit, aligned_at: 0 };
    if method == Method::ModelInfer {
        let received = infer::receive(server, headers, body, limited(BODY_BYTES_LIMIT));
        return infer::infer(server, grpc, headers, server.visit(headers), received).await;
    }
    let admit = at_most(QUESTION_BYTES_LIMIT);
    let frame = body::read(headers, body, limited(QUESTION_BYTES_LIMIT), |_| Ok(())).await?;
    let message = grpc.codings.message(frame, admit)?;
    match method {
        Method::RepositoryModelLoad => {
            let overrides = target::count_fields(&message, [LOAD_PARAMETERS]).is_ok_and(|[count]| count > 0);
            let RepositoryModelLoadRequest { model_name, .. } = decode(message)?;
            server.load(&model_name, overrides).await?;
            Ok(framed(&RepositoryModelLoadResponse {}))
        }
        Method::RepositoryModelUnload => {
            let RepositoryModelUnloadRequest { model_name, .. } = decode(message)?;
            server.unload(&model_name).await?;
            Ok(framed(&RepositoryModelUnloadResponse {}))
        }
        _ => told(server, method, message),
    }
}

/// The framed answer of a method that works nothing out.
fn told(server: &Server, method: Method, message: Bytes) -> Result<Vec<u8>, Failure> {
    match method {
        Method::ServerLive => {
            decode::<ServerLiveRequest>(message)?;
            Ok(framed(&ServerLiveResponse { live: true }))
        }
        Method::ServerReady => {
            decode::<ServerReadyRequest>(message)?;
            Ok(framed(&ServerReadyResponse { ready: server.is_ready() }))
        }
        Method::ServerMetadata => {
            decode::<ServerMetadataRequest>(message)?;
            Ok(framed(&ServerMetadataResponse {
                name: "tradewind".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            }))
        }
        Method::ModelReady => {
            let ModelReadyRequest { name, version } = decode(message)?;
            let ready = server.find(&name, given(&version))?.ready().is_ok();
            Ok(framed(&ModelReadyResponse { ready: ready && !server.shutdown.is_cancelled() }))
        }
        Method::ModelMetadata => {
            let ModelMetadataRequest { name, version } = decode(message)?;
            Ok(framed(&metadata(&Target::of(server.find(&name, given(&version))?)?)))
        }
        Method::ModelConfig => {
            let ModelConfigRequest { name, version } = decode(message)?;
            let target = Target::of(server.find(&name, given(&version))?)?;
            Ok(framed(&ModelConfigResponse { config: Some(target.config()) }))
        }
        Method::ModelStatistics => {
            let ModelStatisticsRequest { name, version } = decode(message)?;
            let of = if name.is_empty() { None } else { Some(server.find(&name, given(&version))?) };
            Ok(framed(&server.statistics(of)))
        }
        Method::RepositoryIndex => {
            let RepositoryIndexRequest { ready, .. } = decode(message)?;
            Ok(framed(&RepositoryIndexResponse { models: server.index(ready) }))
        }
        Method::RepositoryModelLoad | Method::RepositoryModelUnload | Method::ModelInfer | Method::ModelStreamInfer => {
            unreachable!("they take longer than to tell something")
        }
    }
}

/// No version is any version.
fn given(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

fn metadata(target: &Target) -> ModelMetadataResponse {
    let signature = target.engine().signature();
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |TensorSpec { name, datatype, shape }: &TensorSpec| TensorMetadata {
            name: name.clone(),
            datatype: datatype.as_str().to_owned(),
            shape: shape.clone(),
        };
        specs.iter().map(tensor).collect()
    };
    ModelMetadataResponse {
        name: target.served.name().to_owned(),
        versions: vec![target.served.version.clone()],
        platform: PLATFORM.to_owned(),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
    }
}

/// `ModelInfer`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grpc {
    pub(super) codings: Codings,
    pub(super) limit: Duration,
}

impl Protocol for Grpc {
    type Answer = Vec<u8>;

    fn limit(&self) -> Duration {
        self.limit
    }

    fn parse_cost(&self, body: &Bytes) -> usize {
        self.codings.parse_cost(body, body.len() / BYTES_PER_JSON_BYTE)
    }

    fn parse(&self, server: &Server, body: Bytes, place: &mut Place) -> Result<(Target, Inference), Failure> {
        let message = self.codings.message(body, |bytes| place.hold(bytes))?;
        let request = request::grpc::decode(message)?;
        let target = Target::of(server.find(&request.model_name, given(&request.model_version))?)?;
        let inference = request::grpc::check(request, target.engine().signature())?;
        Ok((target, inference))
    }

    fn compresses(&self) -> bool {
        self.codings.answer.is_some()
    }

    fn encode(&self, answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
        Ok(self.codings.frame(response::grpc::encode(answering, asked, outputs)?))
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Failure> {
    Ok(M::decode(message).map_err(|error| RequestError::Message(error.to_string()))?)
}

pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let header = Header::plain(u32::try_from(length).expect("an answer about a model is far below 4 GiB"));
    let mut frame = Vec::with_capacity(HEADER_BYTES + length);
    frame.extend_from_slice(&header.write());
    message.encode_raw(&mut frame);
    frame
}

/// One message, and the status in the trailers.
fn whole(message: Vec<u8>) -> Body {
    let trailers = async { Some(Ok::<_, Infallible>(Status::OK.trailers())) };
    Body::new(Full::new(Bytes::from(message)).with_trailers(trailers))
}

fn success(answer: Body, codings: Codings) -> Response<Body> {
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Some(coding) = codings.answer {
        response.headers_mut().insert(ENCODING_HEADER, HeaderValue::from_static(coding.name()));
    }
    response
}

fn refusal(failure: &Failure) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let code = Code::from_http(failure.status);
    *response.headers_mut() = Status::new(code, failure.message.as_str()).headers();
    if code == Code::Unimplemented {
        response.headers_mut().insert(ACCEPT_ENCODING_HEADER, ACCEPTED_BY_GRPC);
    }
    response
}

impl Server {
    fn too_late(&self, method: Method, headers: &HeaderMap) -> Failure {
        let failure = Failure::from(InferError::Deadline);
        let only = self.only().filter(|_| method == Method::ModelInfer && !headers.contains_key(PROBE_HEADER));
        if let Some(only) = only {
            only.metrics.error(failure.reason);
        }
        failure
    }
}
