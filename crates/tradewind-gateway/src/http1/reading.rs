//! What comes in on a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// So much is read at once, and more from a sender who has more.
const SIZE: usize = 8 << 10;
const SIZE_LIMIT: usize = 256 << 10;

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
    pub(super) fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Who has sent nothing needs no memory.
        ready!(stream.poll_read_ready(cx))?;
        self.bytes.reserve(self.size);
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
