//! A user's connection to a model, and what the right answer is.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;
use tradewind_api::gateway::USER_HEADER;

use crate::samples::Outcome;

/// Who served a request, by a gateway or by HAProxy.
const SERVED_BY: [&str; 2] = ["x-tradewind-region", "x-served-by"];
/// No answer to a question is longer than this, head included.
const ANSWER_LIMIT: usize = 64 << 10;

/// A request and its one right answer.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub path: String,
    pub body: Bytes,
    pub answer: Bytes,
}

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer.
        let driver = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        Ok(Self { sender, address, _driver: driver })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(crate) async fn send(&mut self, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(Full::new(body))?;
        self.request(request).await
    }

    async fn request(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        self.sender.ready().await.context("the connection was closed")?;
        request.headers_mut().insert(header::HOST, self.address.to_string().parse()?);
        self.sender.send_request(request).await.context("no answer came")
    }

    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        whole(self.send(path, body).await?).await
    }

    /// As a user with that key; what the answer's head says.
    pub(crate) async fn post_as(&mut self, user: &str, path: &str, body: Bytes) -> Result<(StatusCode, HeaderMap)> {
        let response = self.request(Request::post(path).header(USER_HEADER, user).body(Full::new(body))?).await?;
        let headers = response.headers().clone();
        Ok((whole(response).await?.0, headers))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        self.exchange(Request::get(path).body(Full::default())?).await
    }

    /// Any request, and the whole answer.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        whole(self.request(request).await?).await
    }

    /// Fails unless the answer is the right one.
    pub(crate) async fn ask(&mut self, question: &Question) -> Result<()> {
        let (status, answer) = self.post(&question.path, question.body.clone()).await?;
        let shown = || String::from_utf8_lossy(&answer).into_owned();
        ensure!(status == StatusCode::OK, "{} was answered with {status}: {}", question.path, shown());
        ensure!(answer == question.answer, "{} was answered wrongly: {}", question.path, shown());
        Ok(())
    }

    /// Any answer is an outcome; an error means that none came.
    pub(crate) async fn ask_whom(&mut self, question: &Question) -> Result<Outcome> {
        let response = self.send(&question.path, question.body.clone()).await?;
        let (status, by) = (response.status(), served_by(response.headers()));
        let (_, answer) = whole(response).await?;
        Ok(match status {
            StatusCode::OK if answer == question.answer => Outcome::Served(by),
            StatusCode::OK => Outcome::Failed(format!("a wrong answer: {}", String::from_utf8_lossy(&answer))),
            _ => Outcome::Refused(status),
        })
    }
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes)> {
    let status = response.status();
    Ok((status, response.into_body().collect().await.context("the answer broke off")?.to_bytes()))
}

fn served_by(headers: &HeaderMap) -> Option<String> {
    SERVED_BY.iter().find_map(|name| Some(headers.get(*name)?.to_str().ok()?.to_owned()))
}

/// Asks on a new connection and gives the length of the whole answer, head included, which must be the right one.
pub(crate) async fn answer_length(address: SocketAddr, question: &Question) -> Result<usize> {
    let mut stream = TcpStream::connect(address).await?;
    let (path, length) = (&question.path, question.body.len());
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &question.body].concat()).await?;
    let mut received = Vec::new();
    while !received.ends_with(&question.answer) {
        let read = stream.read_buf(&mut received).await?;
        let right = read > 0 && received.len() <= ANSWER_LIMIT;
        ensure!(right, "{path} was answered wrongly: {}", String::from_utf8_lossy(&received));
    }
    ensure!(received.starts_with(b"HTTP/1.1 200 "), "{path} was refused: {}", String::from_utf8_lossy(&received));
    Ok(received.len())
}
