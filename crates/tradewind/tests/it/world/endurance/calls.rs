//! Users over HTTP/2, with JSON and with gRPC: each on a connection of its own, which it keeps until the gateway ends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tradewind_api::grpc::{
    CONTENT_TYPE, SERVICE_PREFIX,
    frame::Header,
    message::{InferInputTensor, ModelInferRequest},
};
use tradewind_core::RegionName;

use super::{
    super::INFER,
    crowd::{Crowd, Notes},
};

/// A user gives up on an answer after this time, and asks so many times if a connection breaks off.
const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 3;

/// What came of asking once.
pub(super) struct Call {
    pub(super) region: String,
    pub(super) at: Instant,
    pub(super) took: Duration,
    /// What was cut off on the way to the answer.
    pub(super) broken: Option<String>,
    pub(super) failure: Option<String>,
}

/// Begins to call every gateway in every way.
pub(super) fn start(gateways: &[(RegionName, String)], pause: Duration, json: &str) -> Result<Crowd<Call>> {
    let mut crowd = Crowd::new();
    for (region, gateway) in gateways {
        let address = gateway.strip_prefix("http://").context("a gateway without TLS")?;
        let kinds = [
            (INFER.to_owned(), "application/json", Bytes::from(json.to_owned())),
            (format!("{SERVICE_PREFIX}ModelInfer"), CONTENT_TYPE, message()),
        ];
        for (path, content_type, body) in kinds {
            let (url, address) = (format!("{gateway}{path}"), address.to_owned());
            let user = User { region: region.to_string(), address, url, content_type, body };
            crowd.join(|calls, stop| user.keep_calling(pause, calls, stop));
        }
    }
    Ok(crowd)
}

/// A picture of 64 pixels.
fn message() -> Bytes {
    let shape = vec![1, 64];
    let image = InferInputTensor { name: "image".to_owned(), datatype: "FP32".to_owned(), shape, contents: None };
    let request = ModelInferRequest {
        model_name: "digits".to_owned(),
        inputs: vec![image],
        raw_input_contents: vec![Bytes::from(vec![0; 256])],
        ..ModelInferRequest::default()
    };
    let mut framed = BytesMut::new();
    framed.put_slice(&Header::plain(u32::try_from(request.encoded_len()).expect("it is short")).write());
    framed.put_slice(&request.encode_to_vec());
    framed.freeze()
}

struct User {
    region: String,
    address: String,
    url: String,
    content_type: &'static str,
    body: Bytes,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

enum Failure {
    /// The gateway did not see the request.
    NotSent,
    Broken(anyhow::Error),
    Answer(anyhow::Error),
}

impl User {
    async fn keep_calling(self, pause: Duration, calls: Notes<Call>, stop: CancellationToken) {
        let (mut connection, mut pace) = (None, tokio::time::interval(pause));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let began = Instant::now();
            let (mut broken, mut failure) = (None, None);
            for _ in 0..ATTEMPTS {
                let called = self.call(&mut connection).await;
                failure = match called {
                    Ok(()) => None,
                    Err(Failure::NotSent) => Some("nobody took the connection".to_owned()),
                    Err(Failure::Broken(error)) => Some(broken.insert(format!("{error:#}")).clone()),
                    Err(Failure::Answer(error)) => Some(format!("{error:#}")),
                };
                if failure.is_none() {
                    break;
                }
                connection = None;
            }
            let call = Call { region: self.region.clone(), at: Instant::now(), took: began.elapsed(), broken, failure };
            calls.add(call);
            stop.run_until_cancelled(pace.tick()).await;
        }
    }

    async fn call(&self, kept: &mut Option<Connection>) -> Result<(), Failure> {
        if kept.as_ref().is_none_or(|kept| kept.sender.is_closed()) {
            *kept = Some(self.connect().await.map_err(Failure::Broken)?);
        }
        let sender = &mut kept.as_mut().expect("connected above").sender;
        sender.ready().await.map_err(|_| Failure::NotSent)?;
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, self.content_type)
            .header(header::TE, "trailers")
            .body(Full::new(self.body.clone()))
            .map_err(|error| Failure::Answer(error.into()))?;
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_canceled() => return Err(Failure::NotSent),
            Ok(Err(error)) => return Err(Failure::Broken(error.into())),
            Err(_) => return Err(Failure::Answer(anyhow::anyhow!("no answer in {PATIENCE:?}"))),
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| Failure::Broken(error.into()))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let right = || {
            ensure!(head.status.is_success(), "{}: {:?}", head.status, body.to_bytes());
            if self.content_type == CONTENT_TYPE {
                let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
                ensure!(
                    status.is_some_and(|status| status == "0"),
                    "{status:?} {:?}",
                    head.headers.get("grpc-message")
                );
            }
            Ok(())
        };
        right().map_err(Failure::Answer)
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(&self.address)).await??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        Ok(Connection { sender, _driver: driver })
    }
}
