//! A message on its way out.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Chain};
use hyper::body::Body;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

use crate::headers::Headers;

/// Data up to this size is copied behind the line before it, since one buffer is sent quicker than a list of some.
const COPY_LIMIT: usize = 4 << 10;
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How a message says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Length {
    pub(super) fn of(body: &impl Body) -> Self {
        body.size_hint().exact().map_or(Self::Chunked, Self::Known)
    }

    /// How much of the body is likely to be copied behind the head.
    pub(super) fn copied(self) -> usize {
        let length = if let Self::Known(length) = self { usize::try_from(length).ok() } else { None };
        length.filter(|length| *length <= COPY_LIMIT).unwrap_or(0)
    }

    pub(super) fn write(self, out: &mut BytesMut) {
        match self {
            Self::Known(length) => write_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
            Self::Chunked => write_field(out, b"transfer-encoding", b"chunked"),
            Self::UntilClose => {}
        }
    }
}

pub(super) fn write_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.put_slice(part);
    }
}

/// How many bytes the fields take.
pub(super) fn size_of(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + b": \r\n".len() + value.len()).sum()
}

/// Sends one piece as it is, and several as a list.
pub(super) fn poll_write(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    bytes: &mut impl Buf,
) -> Poll<io::Result<usize>> {
    if bytes.chunk().len() < bytes.remaining() {
        return poll_write_buf(Pin::new(stream), cx, bytes);
    }
    let written = ready!(Pin::new(stream).poll_write(cx, bytes.chunk()))?;
    bytes.advance(written);
    Poll::Ready(Ok(written))
}

/// The line, the data and what comes behind it, as one buffer.
pub(super) type Rest<'a> = Chain<Chain<&'a mut BytesMut, &'a mut Bytes>, &'a mut &'static [u8]>;

/// What of a message is still to be written: what is here, in this order, then what the body gives.
#[derive(Debug)]
pub(super) struct Sending<B> {
    /// The head, and the line before a chunk's data.
    line: BytesMut,
    data: Bytes,
    /// What comes behind the data of a chunk.
    end: &'static [u8],
    body: Option<B>,
    chunked: bool,
    /// Why no more can be written.
    broken: Option<io::Error>,
}

impl<B> Default for Sending<B> {
    fn default() -> Self {
        Self { line: BytesMut::new(), data: Bytes::new(), end: b"", body: None, chunked: false, broken: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Where the head of the next message is written.
    pub(super) fn head(&mut self) -> &mut BytesMut {
        *self = Self { line: std::mem::take(&mut self.line), ..Self::default() };
        self.line.clear();
        &mut self.line
    }

    /// The body that comes behind the head.
    pub(super) fn begin(&mut self, body: B, length: Length) {
        self.chunked = length == Length::Chunked;
        if body.is_end_stream() {
            self.finish();
        } else {
            self.body = Some(body);
        }
    }

    /// Lets go of the memory for heads.
    pub(super) fn rest(&mut self) {
        if self.line.is_empty() {
            self.line = BytesMut::new();
        }
    }

    /// Whether all has been written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.broken.is_none() && self.line.is_empty() && !self.has_piece()
    }

    pub(super) fn why_broken(&mut self) -> Option<io::Error> {
        self.broken.take()
    }

    /// Writes what can be written now. That no more is taken is no error here: an upstream may have answered already.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &mut Rest<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), B::Error>> {
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
            if !self.line.is_empty() && self.has_piece() && self.data.len() <= COPY_LIMIT {
                self.line.put_slice(&std::mem::take(&mut self.data));
                self.line.put_slice(std::mem::take(&mut self.end));
            }
            let mut rest = (&mut self.line).chain(&mut self.data).chain(&mut self.end);
            if rest.has_remaining() {
                match ready!(write(cx, &mut rest)) {
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
