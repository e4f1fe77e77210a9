//! gRPC calls over h2c: the one call and its answer, and what calls cost of the proxy's core under h2load.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tradewind_api::grpc::message::{InferInputTensor, InferOutputTensor, ModelInferRequest, ModelInferResponse};

use super::{
    report::{Better, Row},
    scene::{CALLS, Scene},
};
use crate::{
    contender::{Contender, turns},
    grpc::{self, CONTENT_TYPE, Outcome, framed},
    h2load::{Load, Said, Version},
};

/// Calls under way at once are so many times so many.
const CONNECTIONS: u64 = 8;
const STREAMS: u64 = 8;

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

async fn call(address: SocketAddr) -> Result<Outcome> {
    grpc::call(address, request()).await
}

fn is_right(outcome: &Outcome) -> bool {
    outcome.succeeded() && outcome.answer == answer()
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
        for contender in turns(&Contender::ALL, round) {
            let address = scene.address(contender, CALLS)?;
            let before = scene.cores.read()?;
            let said = load(address, time).await.with_context(|| contender.name())?;
            let busy = scene.cores.read()?.since(before);
            busy.warn_of_steal();
            let outcome = call(address).await?;
            ensure!(is_right(&outcome), "{} answers a call wrongly: {outcome:?}", contender.name());
            let micros = busy.busy * 1e6 / said.answered as f64;
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

async fn load(address: SocketAddr, time: Duration) -> Result<Said> {
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), request())?;
    let load = Load {
        url: &format!("http://{address}{}", grpc::path()),
        version: Version::Http2,
        connections: CONNECTIONS,
        streams: STREAMS,
        time,
        headers: &[format!("content-type: {CONTENT_TYPE}"), "te: trailers".to_owned()],
        body: Some(body.path()),
        log: None,
    };
    let said = load.run().await?;
    check(said)?;
    Ok(said)
}

/// A run with errors is no result, nor is one whose answers are not all as long as the right one.
fn check(said: Said) -> Result<()> {
    let Said { answered, failed, body_bytes, .. } = said;
    ensure!(failed == 0 && answered > 0, "{failed} calls failed, {answered} were answered");
    let (each, slack) = (answer().len() as u64, CONNECTIONS * STREAMS);
    let right = body_bytes.abs_diff(answered * each) <= slack * each;
    ensure!(right, "{body_bytes} bytes came in {answered} answers of {each}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio_util::task::AbortOnDropHandle;

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
        assert!(outcome.speaks_grpc() && is_right(&outcome), "{outcome:?}");

        let wanted = serde_json::to_vec(&Wanted { events: 2 }).unwrap();
        let mut connection = Connection::open(address).await.unwrap();
        let (status, events) = connection.post("/v2/models/tokens/generate_stream", wanted.into()).await.unwrap();
        let events = String::from_utf8(events.into()).unwrap();
        assert_eq!((status, events.matches("data: ").count()), (StatusCode::OK, 2), "{events}");
    }

    #[test]
    fn a_run_of_h2load_counts_only_when_all_answers_are_right() {
        let said = Said { answered: 1000, failed: 0, per_second: 998.5, body_bytes: 1000 * answer().len() as u64 };
        assert!(check(said).is_ok());
        assert_eq!(check(Said { failed: 3, ..said }).unwrap_err().to_string(), "3 calls failed, 1000 were answered");
        assert!(check(Said { body_bytes: 0, ..said }).is_err());
    }
}
