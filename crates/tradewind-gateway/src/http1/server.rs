//! To clients: requests one behind the other, each answered before the next is looked at.

mod body;
mod head;

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use hyper::body::Body;
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::{
    decoder::Decoder,
    sending::{Length, Sending, poll_write},
};
use crate::{
    message::{Request, Response},
    tls::Stream,
};
use body::Client;
use head::{RequestHead, ResponseHead, Search};

pub(crate) use body::RequestBody;
pub(crate) use head::Refusal;

/// Who is told no before he has sent everything is listened to for so long, so that he reads it.
const LINGER: Duration = Duration::from_secs(2);

/// When a connection should end between two requests.
pub(crate) trait Ending {
    /// Also makes the task be woken when it begins.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> bool;
}

/// Serves one client until one of the two leaves: a head comes within `head_timeout` of the end of the last request.
pub(crate) async fn serve<B, F>(
    stream: Stream,
    head_timeout: Duration,
    ending: impl Ending,
    answer: impl Fn(Request<RequestBody>) -> F,
    refuse: impl Fn(Refusal) -> Response<B>,
) where
    B: Body<Data = Bytes> + Unpin,
    F: Future<Output = Response<B>>,
{
    let mut connection = Connection {
        client: Rc::new(RefCell::new(Client::new(stream))),
        search: Search::default(),
        sending: Sending::default(),
        ending,
    };
    let mut late = pin!(sleep_until(Instant::now() + head_timeout));
    loop {
        connection.rest();
        let due = Instant::now() + head_timeout;
        match poll_fn(|cx| connection.poll_next(cx, late.as_mut(), due)).await {
            Ok(Some(head)) => {
                let exchange = Exchange::of(&head);
                let request = connection.begin(head);
                // Only while there is a request there is need for the memory.
                let Some(response) = connection.unless_gone(Box::pin(answer(request))).await else { return };
                if !connection.reply(exchange, response).await {
                    break;
                }
            }
            Err(refusal) => {
                connection.reply(Exchange::REFUSED, refuse(refusal)).await;
                break;
            }
            Ok(None) => return,
        }
    }
    connection.close().await;
}

/// What an answer has to know of its request.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    /// The answer to HEAD says how long a body would be and has none.
    bodiless: bool,
    version: Version,
    stays_open: bool,
}

impl Exchange {
    const REFUSED: Self = Self { bodiless: false, version: Version::HTTP_11, stays_open: false };

    fn of(head: &RequestHead) -> Self {
        Self { bodiless: head.head.method == Method::HEAD, version: head.version, stays_open: head.stays_open }
    }
}

struct Connection<B, E> {
    client: Rc<RefCell<Client>>,
    search: Search,
    sending: Sending<B>,
    ending: E,
}

impl<B: Body<Data = Bytes> + Unpin, E: Ending> Connection<B, E> {
    /// Gives back what an unused connection needs no memory for.
    fn rest(&mut self) {
        self.client.borrow_mut().reading.rest();
        self.sending.rest();
    }

    /// The next request; `None` when the client has left or has nothing more to say, or the gateway ends.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut late: Pin<&mut Sleep>,
        due: Instant,
    ) -> Poll<Result<Option<RequestHead>, Refusal>> {
        let client = &mut *self.client.borrow_mut();
        loop {
            match RequestHead::take(&mut client.reading.bytes, &mut self.search) {
                Ok(Some(head)) => return Poll::Ready(Ok(Some(head))),
                Err(refusal) => {
                    // What comes now has no meaning.
                    client.body = Decoder::UntilClose;
                    return Poll::Ready(Err(refusal));
                }
                Ok(None) => {}
            }
            match client.reading.poll(&mut client.stream, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        if client.reading.bytes.is_empty() && self.ending.poll_begun(cx) {
            return Poll::Ready(Ok(None));
        }
        // The timer is not set for each request: it may fire for an earlier one.
        while late.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(Ok(None));
            }
            late.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn begin(&mut self, head: RequestHead) -> Request<RequestBody> {
        Request { body: Client::begin(&self.client, head.body, head.waits), head: head.head }
    }

    /// `None` when the client leaves before: nobody is to work on what nobody waits for.
    async fn unless_gone<T>(&mut self, mut answer: impl Future<Output = T> + Unpin) -> Option<T> {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = Pin::new(&mut answer).poll(cx) {
                return Poll::Ready(Some(answer));
            }
            self.client.borrow_mut().poll_gone(cx).map(|()| None)
        })
        .await
    }

    /// Sends an answer; whether another request may follow.
    async fn reply(&mut self, exchange: Exchange, response: Response<B>) -> bool {
        let Response { status, mut headers, body } = response;
        if status == StatusCode::NO_CONTENT {
            headers.remove(&header::CONTENT_LENGTH);
        }
        let bodiless = exchange.bodiless || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = match Length::of(&body) {
            Length::Chunked if exchange.version == Version::HTTP_10 => Length::UntilClose,
            length => length,
        };
        let stays_open = exchange.stays_open
            && (bodiless || length != Length::UntilClose)
            && self.client.borrow().may_go_on()
            && !poll_fn(|cx| Poll::Ready(self.ending.poll_begun(cx))).await;
        let version = exchange.version;
        let said = Some(length).filter(|_| !bodiless);
        let written = ResponseHead { status, headers: &headers, length: said, version, stays_open };
        written.write(self.sending.head());
        if !bodiless {
            self.sending.begin(body, length);
        }
        drop(headers);
        self.client.borrow_mut().answered();
        let sent = poll_fn(|cx| {
            let sent = self.sending.poll(cx, |cx, bytes| {
                let client = &mut *self.client.borrow_mut();
                poll_write(&mut client.stream, cx, bytes)
            });
            // With TLS, what was taken may not be on its way yet.
            let flushed = Pin::new(&mut self.client.borrow_mut().stream).poll_flush(cx);
            match (sent, flushed) {
                (Poll::Ready(sent), Poll::Ready(flushed)) => Poll::Ready(sent.is_ok() && flushed.is_ok()),
                (Poll::Ready(Err(_)), Poll::Pending) => Poll::Ready(false),
                _ => self.client.borrow_mut().poll_gone(cx).map(|()| false),
            }
        });
        let sent = sent.await && self.sending.is_done();
        if !sent {
            // What has come of the answer is no whole one, and the client must not take it for that.
            self.sending = Sending::default();
        }
        sent && stays_open && self.client.borrow().body == Decoder::Ended
    }

    /// Ends the connection. Who still sends is listened to for a while, or the kernel would take back what was sent.
    async fn close(self) {
        let client = &self.client;
        let shut = poll_fn(|cx| Pin::new(&mut client.borrow_mut().stream).poll_shutdown(cx)).await;
        if shut.is_err() || client.borrow().body == Decoder::Ended {
            return;
        }
        let drained = poll_fn(|cx| {
            let client = &mut *client.borrow_mut();
            loop {
                client.reading.bytes.clear();
                match client.reading.poll(&mut client.stream, cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        // Whether he has ended by then or not.
        let _ = timeout(LINGER, drained).await;
    }
}
