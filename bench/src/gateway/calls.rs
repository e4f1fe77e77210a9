//! gRPC calls over h2c: the one call and its answer, and what calls cost of the proxy's core under h2load.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, process::Command};
use tokio_util::task::AbortOnDropHandle;
pub(super) use tradewind_api::grpc::CONTENT_TYPE;
use tradewind_api::grpc::{
    SERVICE_PREFIX,
    frame::Header,
    message::{InferInputTensor, InferOutputTensor, ModelInferRequest, ModelInferResponse},
};

use super::{
    report::{Better, Row},
    scene::{CALLS, Scene},
};
use crate::{contender::Contender, server::find};

/// Calls under way at once are so many times so many.
const CONNECTIONS: u64 = 8;
const STREAMS: u64 = 8;
const METHOD: &str = "ModelInfer";
/// What gRPC calls it when a server has no such method.
const UNIMPLEMENTED: &str = "12";

/// A picture of 64 pixels, as a framed message.
pub(super) fn request() -> Bytes {
    let image =
        InferInputTensor { name: "image".to_owned(), datatype: "FP32".to_owned(), shape: vec![1, 64], contents: None };
    framed(&ModelInferRequest {
        model_name: CALLS.to_owned(),
        inputs: vec![image],
        raw_input_contents: vec![Bytes::from(vec![0; 256])],
        ..ModelInferRequest::default()
    })
}

/// Ten probabilities, as a framed message.
pub(super) fn answer() -> Bytes {
    let output =
        InferOutputTensor { name: "probabilities".to_owned(), datatype: "FP32".to_owned(), shape: vec![1, 10] };
    framed(&ModelInferResponse {
        model_name: CALLS.to_owned(),
        model_version: "1".to_owned(),
        outputs: vec![output],
        raw_output_contents: vec![Bytes::from(vec![0; 40])],
        ..ModelInferResponse::default()
    })
}

fn framed(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).expect("it is short");
    let mut bytes = BytesMut::new();
    bytes.put_slice(&Header::plain(length).write());
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// What came of a call.
#[derive(Debug)]
struct Outcome {
    status: StatusCode,
    content_type: String,
    grpc_status: Option<String>,
    answer: Bytes,
}

impl Outcome {
    /// Whether whoever answered has the method at all.
    fn speaks_grpc(&self) -> bool {
        self.content_type.starts_with(CONTENT_TYPE) && self.grpc_status.as_deref() != Some(UNIMPLEMENTED)
    }

    fn is_right(&self) -> bool {
        self.status == StatusCode::OK && self.grpc_status.as_deref() == Some("0") && self.answer == answer()
    }
}

async fn call(address: SocketAddr) -> Result<Outcome> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let request = Request::post(format!("http://{address}{SERVICE_PREFIX}{METHOD}"))
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .header(header::TE, "trailers")
        .body(Full::new(request()))?;
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

/// What cannot be measured, and why; or the rows.
pub(super) enum Measured {
    Rows(Vec<Row>),
    Skipped(String),
}

pub(super) async fn measure(scene: &Scene<'_>, rounds: usize, time: Duration) -> Result<Measured> {
    let ours = call(scene.address(Contender::Tradewind, CALLS)?).await?;
    if !ours.speaks_grpc() {
        let Outcome { status, content_type, .. } = ours;
        let why = format!(
            "gRPC calls are not measured: Tradewind's gateway does not speak gRPC yet (it answers {status}, {content_type})"
        );
        return Ok(Measured::Skipped(why));
    }
    let mut cost = Row::new("gRPC calls: core µs per call", Better::Less, 1);
    let mut rate = Row::new("gRPC calls: calls/s", Better::More, 0);
    let mut busy_row = Row::new("gRPC calls: the core's busy share, %", Better::Neither, 0);
    for round in 0..rounds {
        for contender in Contender::turns(Contender::ALL, round) {
            let address = scene.address(contender, CALLS)?;
            let before = scene.cores.read()?;
            let said = load(address, time).await.with_context(|| contender.name())?;
            let busy = scene.cores.read()?.since(before);
            super::warn_of_steal(busy);
            let outcome = call(address).await?;
            ensure!(outcome.is_right(), "{} answers a call wrongly: {outcome:?}", contender.name());
            let micros = busy.busy * 1e6 / said.calls as f64;
            crate::progress::say(&format!(
                "gRPC, round {}: {} {:.0} calls/s, {micros:.1} µs of the core each",
                round + 1,
                contender.name(),
                said.per_second
            ));
            rate.add(contender, said.per_second);
            if contender != Contender::Direct {
                cost.add(contender, micros);
                busy_row.add(contender, busy.busy_share() * 100.0);
            }
        }
    }
    Ok(Measured::Rows(vec![cost, rate, busy_row]))
}

/// What h2load says at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Said {
    calls: u64,
    per_second: f64,
}

async fn load(address: SocketAddr, time: Duration) -> Result<Said> {
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), request())?;
    let mut command = Command::new(find("h2load")?);
    command
        .args(["--threads", "1", "--clients", &CONNECTIONS.to_string()])
        .args(["--max-concurrent-streams", &STREAMS.to_string()])
        .args(["--duration", &time.as_secs().to_string()])
        .args(["--header", &format!("content-type: {CONTENT_TYPE}"), "--header", "te: trailers"])
        .arg("--data")
        .arg(body.path())
        .arg(format!("http://{address}{SERVICE_PREFIX}{METHOD}"))
        .kill_on_drop(true);
    let output = command.output().await.context("starting h2load")?;
    ensure!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
    Said::read(&String::from_utf8_lossy(&output.stdout))
}

impl Said {
    /// A run with errors is no result, nor is one whose answers are not all as long as the right one.
    fn read(output: &str) -> Result<Self> {
        let line = |label: &str| {
            let found = output.lines().find_map(|line| line.strip_prefix(label));
            found.with_context(|| format!("h2load did not say `{label}`: {output}"))
        };
        let requests = line("requests: ")?;
        let counted = |what: &str| -> Result<u64> {
            let found = requests.split(", ").find_map(|part| part.strip_suffix(what));
            Ok(found.with_context(|| format!("h2load did not count{what}"))?.parse()?)
        };
        let calls = counted(" succeeded")?;
        let failed = counted(" failed")? + counted(" errored")? + counted(" timeout")?;
        ensure!(failed == 0 && calls > 0, "{failed} calls failed, {calls} were answered");
        let per_second = line("finished in ")?.split(", ").find_map(|part| part.strip_suffix(" req/s"));
        let data = line("traffic: ")?.split(", ").find_map(|part| part.strip_suffix(") data"));
        let bytes: u64 = data.and_then(|data| data.rsplit('(').next()).context("h2load counted no bytes")?.parse()?;
        let (each, slack) = (answer().len() as u64, CONNECTIONS * STREAMS);
        if bytes.abs_diff(calls * each) > slack * each {
            bail!("{bytes} bytes came in {calls} answers of {each}");
        }
        Ok(Self { calls, per_second: per_second.context("h2load told no rate")?.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::Connection,
        gateway::upstreams::{Upstream, Wanted},
    };

    #[tokio::test]
    async fn the_upstream_answers_calls_and_streams_on_one_port() {
        let upstream = Upstream::bind().await.unwrap();
        let address = upstream.address;
        let _upstream = AbortOnDropHandle::new(tokio::spawn(upstream.run()));
        let outcome = call(address).await.unwrap();
        assert!(outcome.speaks_grpc() && outcome.is_right(), "{outcome:?}");

        let wanted = serde_json::to_vec(&Wanted { events: 2 }).unwrap();
        let mut connection = Connection::open(address).await.unwrap();
        let (status, events) = connection.post("/v2/models/tokens/generate_stream", wanted.into()).await.unwrap();
        let events = String::from_utf8(events.into()).unwrap();
        assert_eq!((status, events.matches("data: ").count()), (StatusCode::OK, 2), "{events}");
    }

    #[test]
    fn what_is_no_grpc_is_told_from_a_wrong_answer() {
        let outcome = |content_type: &str, grpc_status: &str| Outcome {
            status: StatusCode::OK,
            content_type: content_type.to_owned(),
            grpc_status: Some(grpc_status.to_owned()),
            answer: Bytes::new(),
        };
        assert!(!outcome("application/json", "0").speaks_grpc());
        assert!(!outcome(CONTENT_TYPE, UNIMPLEMENTED).speaks_grpc());
        let unavailable = outcome(CONTENT_TYPE, "14");
        assert!(unavailable.speaks_grpc() && !unavailable.is_right());
    }

    #[test]
    fn a_run_of_h2load_counts_only_when_all_answers_are_right() {
        let bytes = 1000 * answer().len();
        let output = format!(
            "finished in 1.00s, 998.50 req/s, 1.20MB/s\n\
             requests: 1000 total, 1064 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout\n\
             traffic: 12.34KB (12636) total, 3.08KB (3156) headers (space savings 83.54%), 7.42KB ({bytes}) data\n"
        );
        assert_eq!(Said::read(&output).unwrap(), Said { calls: 1000, per_second: 998.5 });
        let failed = output.replace("0 failed", "3 failed");
        assert_eq!(Said::read(&failed).unwrap_err().to_string(), "3 calls failed, 1000 were answered");
        let empty = output.replace(&format!("({bytes}) data"), "(0) data");
        assert!(Said::read(&empty).is_err());
    }
}
