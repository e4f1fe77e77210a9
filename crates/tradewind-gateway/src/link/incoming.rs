//! The body of an answer as it comes from an upstream.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{Link, Stream};
use crate::{body::Interrupted, http1::client};

/// It holds the connection that it comes on: dropped before its end, it takes that along, so the upstream learns that
/// nobody waits any more.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// `None` when it has come.
    Http1(Option<Http1>),
    Http2 {
        body: hyper::body::Incoming,
        _stream: Stream,
    },
}

#[derive(Debug)]
pub(crate) struct Http1 {
    connection: Box<client::Connection>,
    /// Where the connection goes then, if it may be used again.
    home: Option<Rc<Link>>,
}

impl Incoming {
    pub(super) fn http1(connection: Box<client::Connection>, home: Option<Rc<Link>>) -> Self {
        let mut incoming = Self::Http1(Some(Http1 { connection, home }));
        incoming.settle();
        incoming
    }

    /// Lets the connection go home when nothing more comes on it.
    fn settle(&mut self) {
        if let Self::Http1(coming) = self
            && let Some(Http1 { connection, home }) = coming.take_if(|coming| coming.connection.is_over())
            && let Some(home) = home
        {
            home.keep(connection);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match &mut *self {
            Self::Http1(None) => Poll::Ready(None),
            Self::Http1(Some(Http1 { connection, .. })) => {
                let data = ready!(connection.poll_data(cx)?);
                self.settle();
                Poll::Ready(data.map(|data| Ok(Frame::data(data))))
            }
            Self::Http2 { body, .. } => Pin::new(body).poll_frame(cx).map_err(Interrupted::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(coming) => coming.is_none(),
            Self::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(None) => SizeHint::with_exact(0),
            Self::Http1(Some(Http1 { connection, .. })) => {
                connection.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Self::Http2 { body, .. } => body.size_hint(),
        }
    }
}
