//! HTTP/1 to upstreams: one exchange at a time on a connection, driven by whoever asked, without a task or a channel
//! between. What is written and what is read go on side by side, so an upstream may answer before it has taken the
//! whole request.

mod decoder;
mod head;
mod sending;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::body::{Fault, Outbound};
use decoder::{Decoder, Piece};
use head::ResponseHead;
use sending::Sending;

pub(crate) use decoder::{Malformed, chunk_size, number};
pub(crate) use head::RequestHead;

/// So much is read at once, and more from an upstream that has more.
const READ_SIZE: usize = 8 << 10;
const READ_SIZE_LIMIT: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection ended before the answer did")]
    Ended,
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the answer is malformed")]
    Malformed(#[from] Malformed),
    #[error("the request's body failed")]
    Body(#[from] Fault),
}

/// A connection to an upstream.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    sending: Sending,
    /// Read and not yet taken.
    read: BytesMut,
    read_size: usize,
    /// What is left of the answer.
    body: Decoder,
    /// Whether the upstream keeps it open behind this answer.
    stays_open: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            sending: Sending::default(),
            read: BytesMut::new(),
            read_size: READ_SIZE,
            body: Decoder::Ended,
            stays_open: true,
        }
    }

    /// Sends a request and waits for the head of its answer, whose body is this connection's from then on.
    pub(crate) async fn exchange(&mut self, head: &RequestHead<'_>, body: Outbound) -> Result<Response<()>, Error> {
        self.sending.begin(head, body);
        let answer = poll_fn(|cx| self.poll_head(cx, head.method)).await?;
        (self.body, self.stays_open) = (answer.body, answer.stays_open);
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<ResponseHead, Error>> {
        loop {
            let _ = self.sending.poll(&mut self.stream, cx)?;
            if let Some(head) = ResponseHead::take(&mut self.read, method)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(self.sending.why_broken().map_or(Error::Ended, Error::Io)));
            }
        }
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let _ = self.sending.poll(&mut self.stream, cx)?;
            match self.body.take(&mut self.read)? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(data))),
                Piece::End => return Poll::Ready(None),
                Piece::More => {}
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(if self.body.close() { None } else { Some(Err(Error::Ended)) });
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.read_size);
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read))?;
        if read >= self.read_size {
            self.read_size = (2 * self.read_size).min(READ_SIZE_LIMIT);
        }
        Poll::Ready(Ok(read))
    }

    /// How much of the answer's body is left, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Whether the answer has been read to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.body == Decoder::Ended
    }

    /// Whether another exchange may follow the one that is over.
    pub(crate) fn can_be_kept(&self) -> bool {
        self.is_over() && self.stays_open && self.sending.is_done()
    }

    /// Whether nothing has come since then, neither the connection's end nor what nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        let unasked = self.stream.try_read(&mut [0]);
        self.read.is_empty() && unasked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
