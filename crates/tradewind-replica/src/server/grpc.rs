//! `inference.GRPCInferenceService`: unary methods, each one message in and one out, by hand over HTTP/2.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tradewind_api::{
    grpc::{
        CONTENT_TYPE, Code, Method, Status,
        frame::{HEADER_BYTES, Header},
        message::{
            ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
            ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
            TensorMetadata,
        },
        status::{ACCEPT_ENCODING_HEADER, ENCODING_HEADER},
        timeout::{self, TIMEOUT_HEADER},
    },
    replica::INFERENCE_LIMIT,
};
use tradewind_core::bundle::TensorSpec;

use super::{
    Server,
    body::{self, BODY_BYTES_LIMIT, Plan},
    failure::Failure,
    infer::{self, Protocol},
    routes::{EXTENSIONS, PLATFORM},
};
use crate::{
    engine::{Engine, InferError, Outputs},
    metrics::Reason,
    request::{self, Inference, RequestError},
    response::{self, Answering, Asked, ResponseError},
};

/// The largest request of the methods that only ask.
const QUESTION_BYTES_LIMIT: usize = 64 << 10;
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
/// Most of a message is raw tensors, which cost little; but it may be typed numbers.
const BYTES_PER_JSON_BYTE: usize = 8;

pub(super) async fn answer(server: Arc<Server>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let call = async {
        check(&head.method, &head.headers)?;
        let method = Method::from_path(head.uri.path()).ok_or_else(|| {
            let method: String = head.uri.path().chars().take(SHOWN_CHARACTERS).collect();
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, Reason::Invalid, format!("there is no method {method}"))
        })?;
        let limit = limit(&head.headers)?;
        match tokio::time::timeout(limit, call(&server, method, &head.headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(server.too_late(method, &head.headers)),
        }
    };
    let answered = call.await;
    match answered {
        Ok(message) => success(message),
        Err(failure) => refusal(&failure),
    }
}

/// An error message shows at most this much of a path.
const SHOWN_CHARACTERS: usize = 80;

fn check(method: &http::Method, headers: &HeaderMap) -> Result<(), Failure> {
    let unsupported = |message: &str| Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Invalid, message));
    if method != http::Method::POST {
        return unsupported("calls are sent by POST");
    }
    match headers.get(ENCODING_HEADER) {
        Some(encoding) if encoding != IDENTITY => {
            unsupported("compressed messages are not supported, send them as they are")
        }
        _ => Ok(()),
    }
}

/// How long the call may take: the client's limit counts where it is shorter.
fn limit(headers: &HeaderMap) -> Result<Duration, Failure> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(INFERENCE_LIMIT) };
    let invalid = |error: timeout::Malformed| Failure::new(StatusCode::BAD_REQUEST, Reason::Invalid, error.to_string());
    Ok(timeout::read(value.as_bytes()).map_err(invalid)?.min(INFERENCE_LIMIT))
}

/// The framed answer.
async fn call(server: &Arc<Server>, method: Method, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Failure> {
    if method == Method::ModelInfer {
        return infer::infer(server, Grpc, headers, body).await;
    }
    let plan = Plan { limit: HEADER_BYTES + QUESTION_BYTES_LIMIT, aligned_at: 0 };
    let message = message(body::read(headers, body, plan).await?)?;
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
            server.check_name(&name, given(&version))?;
            Ok(framed(&ModelReadyResponse { ready: server.is_ready() }))
        }
        Method::ModelMetadata => {
            let ModelMetadataRequest { name, version } = decode(message)?;
            server.check_name(&name, given(&version))?;
            Ok(framed(&metadata(server)?))
        }
        Method::ModelInfer => unreachable!("it is answered above, with its own limits"),
    }
}

/// No version is any version.
fn given(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

fn metadata(server: &Server) -> Result<ModelMetadataResponse, Failure> {
    let signature = &server.engine.get().ok_or_else(Failure::loading)?.signature;
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |TensorSpec { name, datatype, shape }: &TensorSpec| TensorMetadata {
            name: name.clone(),
            datatype: datatype.as_str().to_owned(),
            shape: shape.clone(),
        };
        specs.iter().map(tensor).collect()
    };
    Ok(ModelMetadataResponse {
        name: server.model.as_str().to_owned(),
        versions: vec![server.version_text.clone()],
        platform: PLATFORM.to_owned(),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
    })
}

/// `ModelInfer`.
struct Grpc;

impl Protocol for Grpc {
    type Answer = Vec<u8>;

    fn limit(headers: &HeaderMap) -> Result<Duration, Failure> {
        limit(headers)
    }

    fn plan(&self) -> Plan {
        Plan { limit: HEADER_BYTES + BODY_BYTES_LIMIT, aligned_at: 0 }
    }

    fn parse_cost(&self, body: &Bytes) -> usize {
        body.len() / BYTES_PER_JSON_BYTE
    }

    fn parse(&self, server: &Server, engine: &Engine, body: Bytes) -> Result<Inference, Failure> {
        let request = request::grpc::decode(message(body)?)?;
        server.check_name(&request.model_name, given(&request.model_version))?;
        Ok(request::grpc::check(request, &engine.signature)?)
    }

    fn encode(answering: Answering<'_>, asked: &Asked, outputs: &Outputs) -> Result<Vec<u8>, ResponseError> {
        response::grpc::encode(answering, asked, outputs)
    }
}

/// The one message of a call.
fn message(mut body: Bytes) -> Result<Bytes, Failure> {
    let invalid = |message: &str| RequestError::Message(message.to_owned());
    let header = body.first_chunk().ok_or_else(|| invalid("it is cut off within its frame"))?;
    let header = Header::read(*header).map_err(|error| invalid(&error.to_string()))?;
    if header.compressed {
        return Err(invalid("it is compressed, without saying how").into());
    }
    let message = body.split_off(HEADER_BYTES);
    match message.len().cmp(&(header.length as usize)) {
        std::cmp::Ordering::Less => Err(invalid("it is shorter than its frame says").into()),
        std::cmp::Ordering::Equal => Ok(message),
        std::cmp::Ordering::Greater => Err(invalid("more than one came, and the call takes one").into()),
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Failure> {
    Ok(M::decode(message).map_err(|error| RequestError::Message(error.to_string()))?)
}

fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let header = Header::plain(u32::try_from(length).expect("an answer about a model is far below 4 GiB"));
    let mut frame = Vec::with_capacity(HEADER_BYTES + length);
    frame.extend_from_slice(&header.write());
    message.encode_raw(&mut frame);
    frame
}

fn success(message: Vec<u8>) -> Response<Body> {
    let trailers = async { Some(Ok::<_, Infallible>(Status::OK.trailers())) };
    let mut response = Response::new(Body::new(Full::new(Bytes::from(message)).with_trailers(trailers)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

fn refusal(failure: &Failure) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let code = Code::from_http(failure.status);
    *response.headers_mut() = Status::new(code, failure.message.as_str()).headers();
    if code == Code::Unimplemented {
        response.headers_mut().insert(ACCEPT_ENCODING_HEADER, IDENTITY);
    }
    response
}

impl Server {
    fn too_late(&self, method: Method, headers: &HeaderMap) -> Failure {
        let failure = Failure::from(InferError::Deadline);
        if method == Method::ModelInfer {
            self.failed(headers, &failure);
        }
        failure
    }
}
