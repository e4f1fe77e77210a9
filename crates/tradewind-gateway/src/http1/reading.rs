//! What comes in on a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncBufRead, AsyncRead},
    net::TcpStream,
};
use tokio_util::{either::Either, io::poll_read_buf};

use super::make_room;

/// So much is read at once, and more from a sender who has more.
const SIZE: usize = 8 << 10;
const SIZE_LIMIT: usize = 256 << 10;

/// Something to read from that says when there is something.
pub(super) trait Readable: AsyncRead + Unpin {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Readable for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl<S: AsyncRead + AsyncBufRead + Unpin> Readable for Either<TcpStream, S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Left(stream) => stream.poll_readable(cx),
            Self::Right(stream) => Pin::new(stream).poll_fill_buf(cx).map_ok(drop),
        }
    }
}

/// Read and not yet taken.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) bytes: BytesMut,
    size: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), size: SIZE }
    }
}

impl Reading {
    /// Reads once; 0 bytes when the sender has ended.
    pub(super) fn poll(&mut self, stream: &mut impl Readable, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Who has sent nothing needs no memory.
        ready!(stream.poll_readable(cx))?;
        make_room(&mut self.bytes, self.size);
        let read = ready!(poll_read_buf(Pin::new(stream), cx, &mut self.bytes))?;
        if read >= self.size {
            self.size = (2 * self.size).min(SIZE_LIMIT);
        }
        Poll::Ready(Ok(read))
    }

    /// Lets go of the memory; `false` if there is something in it.
    pub(super) fn rest(&mut self) -> bool {
        let empty = self.bytes.is_empty();
        if empty {
            *self = Self::default();
        }
        empty
    }
}
