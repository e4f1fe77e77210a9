//! A request on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::body::Body;
use tokio::net::TcpStream;
use tokio_util::io::poll_write_buf;

use super::head::{Length, RequestHead};
use crate::body::{Fault, Outbound};

const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// What of a request is still to be written: what is here, in this order, then what the body gives.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The head, and the line before a chunk's data.
    line: BytesMut,
    data: Bytes,
    /// What comes behind the data of a chunk.
    end: &'static [u8],
    body: Option<Outbound>,
    chunked: bool,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

impl Sending {
    pub(super) fn begin(&mut self, head: &RequestHead<'_>, body: Outbound) {
        let length = body.size_hint().exact().map_or(Length::Chunked, Length::Known);
        *self = Self { line: std::mem::take(&mut self.line), chunked: length == Length::Chunked, ..Self::default() };
        self.line.clear();
        head.write(length, &mut self.line);
        if body.is_end_stream() {
            self.finish();
        } else {
            self.body = Some(body);
        }
    }

    /// Whether all has been written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.broken.is_none() && self.line.is_empty() && !self.has_piece()
    }

    pub(super) fn why_broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    /// Writes what can be written now. That the upstream takes no more is no error here: it may have answered already.
    pub(super) fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        while !self.is_done() && self.broken.is_none() {
            // The head goes out together with what there is of the body.
            if !self.has_piece()
                && let Some(body) = &mut self.body
            {
                match Pin::new(body).poll_frame(cx)? {
                    Poll::Ready(Some(frame)) => self.take_in(frame.into_data().unwrap_or_default()),
                    Poll::Ready(None) => self.finish(),
                    Poll::Pending if self.line.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            let mut rest = (&mut self.line).chain(&mut self.data).chain(&mut self.end);
            if rest.has_remaining() {
                match ready!(poll_write_buf(Pin::new(&mut *stream), cx, &mut rest)) {
                    Ok(0) => self.give_up(io::ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(error) => self.give_up(error),
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn has_piece(&self) -> bool {
        !self.data.is_empty() || !self.end.is_empty()
    }

    fn take_in(&mut self, data: Bytes) {
        if self.chunked && !data.is_empty() {
            self.line.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
            self.end = CHUNK_END;
        }
        self.data = data;
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.body = None;
        if self.chunked {
            self.end = if self.end.is_empty() { LAST_CHUNK } else { CHUNK_END_AND_LAST };
        }
    }

    fn give_up(&mut self, error: io::Error) {
        *self = Self { broken: Some(error), ..Self::default() };
    }
}
