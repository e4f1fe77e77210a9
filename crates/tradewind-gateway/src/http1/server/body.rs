//! The body of a request as it comes from a client.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::AsyncWrite;

use crate::{
    http1::{
        Error,
        decoder::{Decoder, Piece},
        reading::Reading,
        sending::poll_write,
    },
    tls::Stream,
};

/// What comes behind a request is read ahead up to this size while it is answered.
const AHEAD_LIMIT: usize = 64 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection, as its server and the body of its request share it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) reading: Reading,
    /// What is left of the body.
    pub(super) body: Decoder,
    /// What of [`CONTINUE`] the client is still to be told before it sends the body.
    go_on: &'static [u8],
    /// Numbers requests, so that a body does not read the next one's.
    turn: u64,
    /// Whether somebody else than the server may read.
    lent: bool,
    /// The server, to be told when that is over.
    server: Option<Waker>,
}

impl Client {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            reading: Reading::default(),
            body: Decoder::Ended,
            go_on: b"",
            turn: 0,
            lent: false,
            server: None,
        }
    }

    pub(super) fn begin(client: &Rc<RefCell<Self>>, body: Decoder, waits: bool) -> RequestBody {
        let mut this = client.borrow_mut();
        this.turn += 1;
        this.body = body;
        this.go_on = if waits { CONTINUE } else { b"" };
        this.lent = body != Decoder::Ended;
        RequestBody { client: this.lent.then(|| Rc::clone(client)), turn: this.turn }
    }

    /// An answer has begun, so the client need not be told to go on any more.
    pub(super) fn answered(&mut self) {
        self.go_on = b"";
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match self.body.take(&mut self.reading.bytes)? {
                Piece::Data(data) => return Poll::Ready(Some(Ok(data))),
                Piece::End => return Poll::Ready(None),
                Piece::More => {}
            }
            while self.go_on.has_remaining() {
                ready!(poll_write(&mut self.stream, cx, &mut self.go_on))?;
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            }
            if ready!(self.reading.poll(&mut self.stream, cx))? == 0 {
                return Poll::Ready(Some(Err(Error::Ended)));
            }
        }
    }

    /// Resolves when the client has left. As long as somebody reads the body, he finds that out.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lent {
            self.server = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while self.reading.bytes.len() < AHEAD_LIMIT {
            match ready!(self.reading.poll(&mut self.stream, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Whether a request may follow: what comes next is one, and not the rest of a body that nobody reads any more.
    pub(super) fn may_go_on(&self) -> bool {
        self.lent || self.body == Decoder::Ended
    }
}

/// A body, read from the connection by whoever wants it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` when it has been read.
    client: Option<Rc<RefCell<Client>>>,
    turn: u64,
}

impl RequestBody {
    fn leave(&mut self) {
        let Some(client) = self.client.take() else { return };
        let mut client = client.borrow_mut();
        if client.turn == self.turn {
            client.lent = false;
            if let Some(server) = client.server.take() {
                server.wake();
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(client) = &self.client else { return Poll::Ready(None) };
        let mut client = client.borrow_mut();
        if client.turn != self.turn {
            return Poll::Ready(Some(Err(Error::Ended)));
        }
        let data = ready!(client.poll_data(cx));
        let over = client.body == Decoder::Ended || matches!(data, Some(Err(_)));
        drop(client);
        if over {
            self.leave();
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.client.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.client.as_ref().map_or(Some(0), |client| client.borrow().body.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
