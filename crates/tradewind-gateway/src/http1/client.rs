//! To upstreams: one exchange at a time on a connection, driven by whoever asked, without a task or a channel between.
//! What is written and what is read go on side by side, so an upstream may answer before it has taken the whole request.

mod head;

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Method;
use tokio::net::TcpStream;

use super::{
    Error,
    decoder::{Decoder, Piece},
    reading::Reading,
    sending::{Length, Sending, poll_write},
};
use crate::{
    body::{Fault, Outbound},
    message::Response,
};
use head::ResponseHead;

pub(crate) use head::RequestHead;

/// A connection to an upstream.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    sending: Sending<Outbound>,
    reading: Reading,
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
            reading: Reading::default(),
            body: Decoder::Ended,
            stays_open: true,
        }
    }

    /// Sends a request and waits for the head of its answer, whose body is this connection's from then on.
    pub(crate) async fn exchange(&mut self, head: &RequestHead<'_>, body: Outbound) -> Result<Response<()>, Error> {
        let length = Length::of(&body);
        head.write(length, self.sending.head());
        self.sending.begin(body, length);
        let answer = poll_fn(|cx| self.poll_head(cx, head.method)).await?;
        (self.body, self.stays_open) = (answer.body, answer.stays_open);
        Ok(Response { status: answer.status, headers: answer.headers, body: () })
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<ResponseHead, Error>> {
        loop {
            self.send(cx)?;
            if let Some(head) = ResponseHead::take(&mut self.reading.bytes, method)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(self.reading.poll(&mut self.stream, cx))? == 0 {
                return Poll::Ready(Err(self.sending.why_broken().map_or(Error::Ended, Error::Io)));
            }
        }
    }

    /// The next piece of the answer's body.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            self.send(cx)?;
            match self.body.take(&mut self.reading.bytes)? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(data))),
                Piece::End => return Poll::Ready(None),
                Piece::More => {}
            }
            if ready!(self.reading.poll(&mut self.stream, cx))? == 0 {
                return Poll::Ready(if self.body.close() { None } else { Some(Err(Error::Ended)) });
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        let stream = &mut self.stream;
        match self.sending.poll(cx, |cx, bytes| poll_write(stream, cx, bytes)) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// How much of the answer's body is left, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Whether the answer has been read to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.body == Decoder::Ended
    }

    /// Gives back what an unused connection needs no memory for; whether another exchange may follow the one that is over.
    pub(crate) fn rest(&mut self) -> bool {
        self.is_over() && self.stays_open && self.sending.is_done() && self.reading.rest()
    }

    /// Whether nothing has come since then, neither the connection's end nor what nobody asked for.
    pub(crate) fn is_quiet(&self) -> bool {
        let unasked = self.stream.try_read(&mut [0]);
        unasked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
