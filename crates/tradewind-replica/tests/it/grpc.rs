//! gRPC on the same port, spoken by hand: what a real client never sends must be answered too. Real clients are in
//! `tests/python`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tradewind_api::grpc::{
    Code, Method, SERVICE_PREFIX,
    frame::Header,
    message::{
        InferInputTensor, InferRequestedOutputTensor, InferTensorContents, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    },
};

use crate::replica::{DEADLINE, Replica};

/// One connection.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) message: Bytes,
    pub(crate) headers: HeaderMap,
}

impl Reply {
    pub(crate) fn failed(self, code: Code) -> String {
        assert_eq!((self.status, self.message.len()), (code as u16, 0), "{}", self.text);
        self.text
    }

    pub(crate) fn decode<M: Message + Default>(mut self) -> M {
        assert_eq!((self.status, self.text.as_str()), (0, ""));
        let header = Header::read(*self.message.first_chunk().unwrap()).unwrap();
        let message = self.message.split_off(5);
        assert_eq!((header.compressed, header.length as usize), (false, message.len()));
        M::decode(message).unwrap()
    }
}

pub(crate) fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    [&Header::plain(message.len() as u32).write()[..], &message].concat().into()
}

pub(crate) fn request(path: &str) -> http::request::Builder {
    Request::post(format!("http://replica{path}")).header("content-type", "application/grpc").header("te", "trailers")
}

impl Client {
    pub(crate) async fn of(replica: &Replica) -> Self {
        let stream = TcpStream::connect(replica.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move { connection.await.unwrap_or_default() });
        Self { sender, driver }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let mut sender = self.sender.clone();
        let replied = async {
            let response = sender.send_request(request).await.expect("the replica answers");
            let (head, body) = response.into_parts();
            assert_eq!(
                (head.status, &head.headers["content-type"]),
                (StatusCode::OK, &"application/grpc".parse().unwrap())
            );
            let body = body.collect().await.expect("the answer is whole");
            let trailers = body.trailers().cloned().unwrap_or_else(|| head.headers.clone());
            let text = trailers.get("grpc-message").map(|text| text.to_str().unwrap().to_owned()).unwrap_or_default();
            let status = trailers["grpc-status"].to_str().unwrap().parse().unwrap();
            Reply { status, text, message: body.to_bytes(), headers: head.headers }
        };
        timeout(DEADLINE, replied).await.expect("the replica answers in time")
    }

    async fn raw(&self, method: Method, body: impl Into<Bytes>) -> Reply {
        self.send(request(method.path()).body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) async fn call(&self, method: Method, message: &impl Message) -> Reply {
        self.raw(method, framed(message)).await
    }

    async fn infer(&self, message: &ModelInferRequest) -> Reply {
        self.call(Method::ModelInfer, message).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(crate) fn tensor(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), contents: None }
}

pub(crate) fn fp32(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `b` before `a`, raw.
pub(crate) fn add() -> ModelInferRequest {
    ModelInferRequest {
        model_name: "add".to_owned(),
        inputs: vec![tensor("b", "FP32", &[1, 3]), tensor("a", "FP32", &[1, 3])],
        raw_input_contents: vec![fp32(&[1.0, 2.0, 3.0]), fp32(&[10.0, 20.0, 30.0])],
        ..Default::default()
    }
}

#[tokio::test]
async fn health_and_metadata_follow_the_protocol() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    let live: ServerLiveResponse = client.call(Method::ServerLive, &ServerLiveRequest {}).await.decode();
    let ready: ServerReadyResponse = client.call(Method::ServerReady, &ServerReadyRequest {}).await.decode();
    assert!(live.live && ready.ready);
    let server: ServerMetadataResponse = client.call(Method::ServerMetadata, &ServerMetadataRequest {}).await.decode();
    assert_eq!((server.name.as_str(), server.version.as_str()), ("tradewind", env!("CARGO_PKG_VERSION")));
    for version in ["", "3"] {
        let (name, version) = ("add".to_owned(), version.to_owned());
        let asked = ModelReadyRequest { name: name.clone(), version: version.clone() };
        assert!(client.call(Method::ModelReady, &asked).await.decode::<ModelReadyResponse>().ready);
        let asked = ModelMetadataRequest { name, version };
        let metadata: ModelMetadataResponse = client.call(Method::ModelMetadata, &asked).await.decode();
        assert_eq!((metadata.name.as_str(), metadata.versions), ("add", vec!["3".to_owned()]));
        assert_eq!(metadata.platform, "onnxruntime_onnx");
        let names: Vec<_> = metadata.inputs.iter().chain(&metadata.outputs).map(|tensor| &tensor.name).collect();
        assert_eq!(names, ["a", "b", "sum", "difference"]);
        assert_eq!((metadata.inputs[0].datatype.as_str(), &metadata.inputs[0].shape), ("FP32", &vec![-1, 3]));
    }
    let other = ModelReadyRequest { name: "other".to_owned(), version: String::new() };
    let text = client.call(Method::ModelReady, &other).await.failed(Code::NotFound);
    assert_eq!(text, "this replica serves `add`, not `other`");
    let other = ModelMetadataRequest { name: "add".to_owned(), version: "4".to_owned() };
    let text = client.call(Method::ModelMetadata, &other).await.failed(Code::NotFound);
    assert_eq!(text, "this replica serves version 3, not `4`");
    replica.stop().await;
}

#[tokio::test]
async fn raw_contents_go_in_and_come_out() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    let request = ModelInferRequest { id: "α-1".to_owned(), model_version: "3".to_owned(), ..add() };
    let answer: ModelInferResponse = client.infer(&request).await.decode();
    assert_eq!((answer.model_name.as_str(), answer.model_version.as_str(), answer.id.as_str()), ("add", "3", "α-1"));
    let tensors: Vec<_> = answer.outputs.iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect();
    assert_eq!(tensors, [("sum", &[1, 3][..]), ("difference", &[1, 3])]);
    assert_eq!(answer.raw_output_contents, [fp32(&[11.0, 22.0, 33.0]), fp32(&[9.0, 18.0, 27.0])]);
    let outputs = vec![InferRequestedOutputTensor { name: "difference".to_owned() }];
    let answer: ModelInferResponse = client.infer(&ModelInferRequest { outputs, ..add() }).await.decode();
    assert_eq!((answer.outputs[0].name.as_str(), answer.outputs.len()), ("difference", 1));
    assert_eq!(answer.raw_output_contents, [fp32(&[9.0, 18.0, 27.0])]);
    replica.stop().await;
}

#[tokio::test]
async fn typed_contents_of_every_datatype_are_taken() {
    let contents = InferTensorContents::default;
    for (datatype, contents, expected) in [
        ("BOOL", InferTensorContents { bool_contents: vec![true, false], ..contents() }, vec![1, 0]),
        ("INT8", InferTensorContents { int_contents: vec![-128, 127], ..contents() }, vec![128, 127]),
        ("INT16", InferTensorContents { int_contents: vec![-2, 1], ..contents() }, vec![254, 255, 1, 0]),
        (
            "INT32",
            InferTensorContents { int_contents: vec![1, -1], ..contents() },
            vec![1, 0, 0, 0, 255, 255, 255, 255],
        ),
        ("INT64", InferTensorContents { int64_contents: vec![1, 0], ..contents() }, [&[1][..], &[0; 15]].concat()),
        ("UINT8", InferTensorContents { uint_contents: vec![255, 0], ..contents() }, vec![255, 0]),
        ("UINT16", InferTensorContents { uint_contents: vec![65535, 0], ..contents() }, vec![255, 255, 0, 0]),
        (
            "UINT32",
            InferTensorContents { uint_contents: vec![u32::MAX, 0], ..contents() },
            vec![255, 255, 255, 255, 0, 0, 0, 0],
        ),
        ("UINT64", InferTensorContents { uint64_contents: vec![2, 0], ..contents() }, [&[2][..], &[0; 15]].concat()),
        ("FP32", InferTensorContents { fp32_contents: vec![0.5, -1.0], ..contents() }, fp32(&[0.5, -1.0]).to_vec()),
        (
            "FP64",
            InferTensorContents { fp64_contents: vec![0.1, f64::MAX], ..contents() },
            [0.1_f64.to_le_bytes(), f64::MAX.to_le_bytes()].concat(),
        ),
        (
            "BYTES",
            InferTensorContents { bytes_contents: vec!["".into(), "é".into()], ..contents() },
            vec![0, 0, 0, 0, 2, 0, 0, 0, 0xc3, 0xa9],
        ),
    ] {
        let model = format!("identity_{}", datatype.to_lowercase());
        let replica = Replica::start(&model).await;
        let input = InferInputTensor { contents: Some(contents), ..tensor("x", datatype, &[2]) };
        let request = ModelInferRequest { model_name: model, inputs: vec![input], ..Default::default() };
        let answer: ModelInferResponse = Client::of(&replica).await.infer(&request).await.decode();
        assert_eq!(answer.outputs[0].datatype, datatype);
        assert_eq!(answer.raw_output_contents, [expected], "{datatype}");
        replica.stop().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_the_model_is_an_invalid_argument() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    let typed = |contents: InferTensorContents| {
        let with = |name| InferInputTensor { contents: Some(contents.clone()), ..tensor(name, "FP32", &[1, 3]) };
        ModelInferRequest { inputs: vec![with("a"), with("b")], raw_input_contents: vec![], ..add() }
    };
    let (three, two) = (vec![1.0, 2.0, 3.0], vec![1.0, 2.0]);
    let values = |fp32_contents| InferTensorContents { fp32_contents, ..Default::default() };
    let mut raw_and_typed = typed(values(three.clone()));
    raw_and_typed.raw_input_contents = add().raw_input_contents;
    for (request, expected) in [
        (ModelInferRequest { inputs: vec![], raw_input_contents: vec![], ..add() }, "input `a` is missing"),
        (
            ModelInferRequest { raw_input_contents: vec![fp32(&three)], ..add() },
            "the request has 2 inputs, but raw contents for 1",
        ),
        (
            ModelInferRequest { raw_input_contents: vec![fp32(&three), fp32(&two)], ..add() },
            "input `a`: its raw data has 8 bytes, its shape [1, 3] of FP32 has 12",
        ),
        (raw_and_typed, "input `a` has contents of its own besides the raw ones"),
        (typed(values(two)), "input `a`: its contents have 2 elements of FP32, its shape [1, 3] has 3"),
        (typed(values(vec![])), "input `a`: its contents have 0 elements of FP32, its shape [1, 3] has 3"),
        (
            typed(InferTensorContents { int64_contents: vec![1], ..values(three) }),
            "input `a`: its contents hold elements for other datatypes than FP32",
        ),
        (
            ModelInferRequest { outputs: vec![InferRequestedOutputTensor { name: "product".to_owned() }], ..add() },
            "the model has no output `product`",
        ),
        (
            ModelInferRequest { inputs: vec![tensor("a", "FP32", &[]); 1025], ..add() },
            "the request has 1025 inputs, more than any model takes",
        ),
    ] {
        assert_eq!(client.infer(&request).await.failed(Code::InvalidArgument), expected);
    }
    let unknown = ModelInferRequest { model_name: "other".to_owned(), ..add() };
    assert_eq!(client.infer(&unknown).await.failed(Code::NotFound), "this replica serves `add`, not `other`");
    client.infer(&add()).await.decode::<ModelInferResponse>();
    replica.stop().await;
    for (datatype, contents, expected) in [
        (
            "INT8",
            InferTensorContents { int_contents: vec![128], ..Default::default() },
            "input `x`: element 0: 128 is not a INT8, it is out of range",
        ),
        (
            "FP16",
            InferTensorContents::default(),
            "input `x`: FP16 has no typed contents, send it in raw_input_contents",
        ),
    ] {
        let model = format!("identity_{}", datatype.to_lowercase());
        let replica = Replica::start(&model).await;
        let input = InferInputTensor { contents: Some(contents), ..tensor("x", datatype, &[1]) };
        let request = ModelInferRequest { model_name: model, inputs: vec![input], ..Default::default() };
        assert_eq!(Client::of(&replica).await.infer(&request).await.failed(Code::InvalidArgument), expected);
        replica.stop().await;
    }
}

#[tokio::test]
async fn calls_that_no_client_makes_are_refused() {
    let replica = Replica::start("add").await;
    let client = Client::of(&replica).await;
    let whole = framed(&add());
    for (body, expected) in [
        (Bytes::new(), "the request is not a valid message: it is cut off within its frame"),
        (whole.slice(..4), "the request is not a valid message: it is cut off within its frame"),
        (whole.slice(..whole.len() - 1), "the request is not a valid message: it is shorter than its frame says"),
        (
            [&whole[..], &whole].concat().into(),
            "the request is not a valid message: more than one came, and the call takes one",
        ),
        (
            Bytes::from_static(&[1, 0, 0, 0, 0]),
            "the request is not a valid message: it is compressed, without saying how",
        ),
        (
            Bytes::from_static(&[9, 0, 0, 0, 0]),
            "the request is not a valid message: a message begins with 0 or 1, not with 9",
        ),
        (
            Bytes::from_static(&[0, 0, 0, 0, 1, 255]),
            "the request is not a valid message: the message is not a protocol buffer",
        ),
    ] {
        assert_eq!(client.raw(Method::ModelInfer, body).await.failed(Code::InvalidArgument), expected);
    }
    let large = vec![0; (64 << 20) + 6];
    let text = client.raw(Method::ModelInfer, large).await.failed(Code::ResourceExhausted);
    assert_eq!(text, "the request has more than 67108869 bytes");

    let live = || Full::new(framed(&ServerLiveRequest {}));
    let unknown = request(&format!("{SERVICE_PREFIX}SystemSharedMemoryStatus")).body(live()).unwrap();
    let text = client.send(unknown).await.failed(Code::Unimplemented);
    assert_eq!(text, "there is no method /inference.GRPCInferenceService/SystemSharedMemoryStatus");
    let compressed = request(Method::ServerLive.path()).header("grpc-encoding", "snappy").body(live()).unwrap();
    let refused = client.send(compressed).await;
    assert_eq!(refused.headers["grpc-accept-encoding"], "identity, gzip, deflate");
    let expected = "the messages' grpc-encoding is not supported; send them as they are, or as gzip, deflate";
    assert_eq!(refused.failed(Code::Unimplemented), expected);
    let hasty = request(Method::ServerLive.path()).header("grpc-timeout", "soon").body(live()).unwrap();
    let text = client.send(hasty).await.failed(Code::InvalidArgument);
    assert_eq!(text, "grpc-timeout is up to eight digits and a unit of H, M, S, m, u or n");
    client.infer(&add()).await.decode::<ModelInferResponse>();
    replica.stop().await;
}

/// Loops inside the model `n` times.
pub(crate) fn spin(n: i64) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "spin".to_owned(),
        inputs: vec![tensor("n", "INT64", &[])],
        raw_input_contents: vec![Bytes::copy_from_slice(&n.to_le_bytes())],
        ..Default::default()
    }
}

/// Longer than any test waits.
pub(crate) const FOREVER: i64 = 1 << 50;

#[tokio::test]
async fn a_deadline_ends_the_inference_and_frees_the_model() {
    let replica = Replica::start("spin").await;
    let client = Client::of(&replica).await;
    let hasty = request(Method::ModelInfer.path()).header("grpc-timeout", "100m");
    let reply = client.send(hasty.body(Full::new(framed(&spin(FOREVER)))).unwrap()).await;
    assert_eq!(reply.failed(Code::DeadlineExceeded), "the answer took longer than the request allows, at most 60 s");
    client.infer(&spin(3)).await.decode::<ModelInferResponse>();
    let metrics = replica.get("/metrics").await.text;
    assert!(metrics.contains(",reason=\"deadline\"} 1\n"), "{metrics}");
    let requests = metrics.lines().find(|line| line.starts_with("tradewind_replica_requests_total{"));
    assert!(requests.is_some_and(|line| line.ends_with(" 2")), "{metrics}");
    replica.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_model() {
    let replica = Replica::start("spin").await;
    let (leaving, staying) = (Client::of(&replica).await, Client::of(&replica).await);
    let gone = timeout(Duration::from_millis(50), leaving.infer(&spin(FOREVER))).await;
    assert!(gone.is_err(), "the stream is reset while the model runs");
    staying.infer(&spin(3)).await.decode::<ModelInferResponse>();
    replica.stop().await;
}

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted() {
    let replica = Replica::start("spin").await;
    let client = Client::of(&replica).await;
    let accepted = tokio::spawn(async move { client.infer(&spin(100_000)).await });
    replica.in_flight(1).await;
    replica.stop().await;
    accepted.await.unwrap().decode::<ModelInferResponse>();
}
