//! The server of one thread: connections and the limits on them.

mod ending;
mod incoming;
mod own;

use std::{cell::Cell, convert::Infallible, pin::pin, rc::Rc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::{body::Body, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tradewind_api::{replica::INFERENCE_LIMIT, server::next_connection};

use crate::{
    body::Answer,
    headers::{Headers, name, request_id},
    http1::{
        self,
        server::{Refusal, RequestBody},
    },
    message::{Request, Response},
    proxy::{self, Way},
    reply::{Dialect, Reply},
    tls::Stream,
    worker::Worker,
};
use ending::Ending;

pub(crate) use incoming::Incoming;

/// The most connections at once, over all threads; more wait in the socket's backlog.
pub(crate) const CONNECTIONS_LIMIT: usize = 16_384;
/// A request's head comes within this time of the end of the last one: also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an HTTP/2 request's head.
const HEAD_LIMIT: u32 = 64 << 10;
/// The most streams of one HTTP/2 connection at once.
const STREAMS_LIMIT: u32 = 256;
/// Streams that a client opened and reset before they were looked at; a client with more is cut off (CVE-2023-44487).
const RESET_LIMIT: usize = 20;
/// How much of one request, and of all of a connection, a client may send ahead.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The most bytes of answers that wait for one HTTP/2 stream.
const SEND_BUFFER_LIMIT: usize = 256 << 10;

/// Accepts until `shutdown`, then drains.
pub(crate) async fn run(worker: &Rc<Worker>, listener: TcpListener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let ending = Rc::new(Ending::default());
    while let Some(Some((stream, permit))) =
        shutdown.run_until_cancelled(next_connection(&listener, &worker.gateway.room)).await
    {
        let (worker, ending) = (Rc::clone(worker), Rc::clone(&ending));
        connections.spawn_local(async move {
            serve(worker, stream, &ending).await;
            drop(permit);
        });
    }
    drop(listener);
    ending.begin();
    connections.close();
    if timeout(INFERENCE_LIMIT, connections.wait()).await.is_err() {
        // It ends with this thread.
        tracing::warn!(left = connections.len(), "cut off what did not finish in time");
    }
}

/// One connection, until it ends by itself or, after `shutdown`, with its last request.
async fn serve(worker: Rc<Worker>, stream: TcpStream, ending: &Ending) {
    let protocol = tokio::select! {
        // What has already come is served, also when the gateway is told to stop at that moment.
        biased;
        protocol = protocol(&stream) => protocol,
        () = ending.told() => None,
    };
    let Some(protocol) = protocol.filter(|_| stream.set_nodelay(true).is_ok()) else { return };
    let (stream, http2) = match protocol {
        Protocol::Http1 => (Stream::Left(stream), false),
        Protocol::Http2 => (Stream::Left(stream), true),
        Protocol::Tls => {
            let Some(tls) = &worker.gateway.tls else { return };
            let Some((stream, http2)) = tls.accept(stream).await else {
                worker.gateway.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                return;
            };
            (Stream::Right(stream), http2)
        }
    };
    if http2 {
        return serve_http2(worker, stream, ending).await;
    }
    let answer = |request: Request<RequestBody>| answer(&worker, request.map(Incoming::Http1));
    let refuse = |refusal| refuse(&worker, refusal);
    http1::server::serve(stream, HEAD_TIMEOUT, ending.told(), answer, refuse).await;
}

async fn serve_http2(worker: Rc<Worker>, stream: Stream, ending: &Ending) {
    let used = Rc::new(Cell::new(false));
    let service = {
        let used = Rc::clone(&used);
        service_fn(move |request: http::Request<_>| {
            used.set(true);
            let worker = Rc::clone(&worker);
            async move { Ok::<_, Infallible>(answer(&worker, Request::from(request).map(Incoming::Http2)).await.into()) }
        })
    };
    let streams = Streams(TaskTracker::new());
    let builder = http2_builder(streams.clone());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = ending.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = streams.idle(&used) => {
            connection.as_mut().graceful_shutdown();
            timeout(INFERENCE_LIMIT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn http2_builder(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder.timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT).max_header_list_size(HEAD_LIMIT);
    builder.max_concurrent_streams(STREAMS_LIMIT).max_pending_accept_reset_streams(RESET_LIMIT);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder.max_send_buf_size(SEND_BUFFER_LIMIT);
    builder
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
    Tls,
}

/// How a TLS handshake begins.
const HANDSHAKE: u8 = 22;

/// Told apart by the first bytes: only HTTP/2 with prior knowledge begins with `PRI`. `None` when nothing comes.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    let mut first = [0; 3];
    let length = timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await.ok()?.ok()?;
    match &first[..length] {
        [] => None,
        b"PRI" => Some(Protocol::Http2),
        [HANDSHAKE, ..] => Some(Protocol::Tls),
        _ => Some(Protocol::Http1),
    }
}

/// Runs the streams of one HTTP/2 connection.
#[derive(Debug, Clone)]
struct Streams(TaskTracker);

impl Streams {
    /// Resolves when there has been nothing to do for [`HEAD_TIMEOUT`]; not even a first request, perhaps.
    async fn idle(&self, used: &Cell<bool>) {
        loop {
            tokio::time::sleep(HEAD_TIMEOUT).await;
            if !used.replace(false) && self.0.is_empty() {
                return;
            }
        }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn_local(stream);
    }
}

/// What was read is no request.
fn refuse(worker: &Worker, refusal: Refusal) -> Response<Answer> {
    let id = request_id(&Headers::default(), || worker.random());
    let mut response = Reply::error(refusal.status, refusal.reason).respond(Dialect::Rest);
    response.headers.insert(&name::REQUEST_ID, id);
    response
}

async fn answer(worker: &Rc<Worker>, mut request: Request<Incoming>) -> Response<Answer> {
    let id = request_id(&request.head.headers, || worker.random());
    let head = request.head.method == Method::HEAD;
    let mut response = match Way::of(&request.head) {
        // HTTP/1 has looked at it already.
        _ if matches!(request.body, Incoming::Http2(_))
            && request.head.headers.get_all(&header::HOST).nth(1).is_some() =>
        {
            Reply::error(StatusCode::BAD_REQUEST, "a request names one host").respond(Dialect::Rest)
        }
        Some(way) => proxy::pass_on(worker, &mut request.head, request.body, way, &id).await,
        None => own::answer(worker, &request).await,
    };
    response.headers.insert(&name::REQUEST_ID, id);
    if head { without_body(response) } else { response }
}

/// As HEAD is answered: with the length of the body that is not sent. A replica has sent none.
fn without_body(mut response: Response<Answer>) -> Response<Answer> {
    if let Answer::Own(_) = response.body {
        if let Some(length) = response.body.size_hint().exact() {
            response.headers.insert(&header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        response.body = Answer::own(Bytes::new());
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        net::Ipv4Addr,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body_util::Full;
    use hyper::body::Frame;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;
    use crate::{
        body::{Arriving, REQUEST_IDLE},
        tls,
    };

    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

    async fn read(body: Incoming) -> String {
        let read = match Arriving::new(body, Instant::now()) {
            Ok(arriving) => arriving.gather().await.map(drop),
            Err(fault) => Err(fault),
        };
        read.map_or_else(|fault| fault.to_string(), |()| "read".to_owned())
    }

    /// What a client is told that sends the last bytes one by one, and how long it takes until it is cut off.
    async fn trickle(at_once: &str, one_by_one: &str, pause: Duration) -> (String, Duration) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let answer = async |request: Request<RequestBody>| {
            Response::new(StatusCode::OK, Full::new(Bytes::from(read(Incoming::Http1(request.body)).await)))
        };
        let refuse = |refusal: Refusal| Response::new(StatusCode::OK, Full::new(Bytes::from(refusal.reason)));
        let ending = Ending::default();
        let connection = http1::server::serve(Stream::Left(server), HEAD_TIMEOUT, ending.told(), answer, refuse);
        let (mut reading, mut writing) = client.split();
        let send = async {
            writing.write_all(at_once.as_bytes()).await?;
            for byte in one_by_one.bytes() {
                tokio::time::sleep(pause).await;
                writing.write_all(&[byte]).await?;
            }
            std::future::pending::<io::Result<()>>().await
        };
        let hear = async {
            let mut answer = String::new();
            reading.read_to_string(&mut answer).await.unwrap();
            (answer, Instant::now())
        };
        let began = Instant::now();
        let hear = async {
            tokio::select! { heard = hear => heard, _ = send => unreachable!("sending has no end") }
        };
        // However the connection ends.
        let ((answer, ended), ()) = tokio::join!(hear, connection);
        (answer, ended - began)
    }

    /// What has come of it, and then nothing for a long time.
    struct Pausing(Option<Bytes>);

    impl Body for Pausing {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    #[tokio::test]
    async fn an_answer_that_pauses_holds_back_nothing_of_what_it_has_said() {
        // TLS takes all of it at once.
        const SAID: usize = 48 << 10;
        let (mut client, server) = tls::tests::connection().await;
        let answer =
            async |_: Request<RequestBody>| Response::new(StatusCode::OK, Pausing(Some(vec![b'x'; SAID].into())));
        let refuse = |_: Refusal| Response::new(StatusCode::OK, Pausing(None));
        let ending = Ending::default();
        let connection = http1::server::serve(server, HEAD_TIMEOUT, ending.told(), answer, refuse);
        let hear = async {
            client.write_all(format!("{HEAD}\r\n").as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            let (mut heard, mut piece) = (0, vec![0; 64 << 10]);
            while heard < SAID {
                let read = client.read(&mut piece).await.unwrap();
                assert!(read > 0, "it ended after {heard} bytes");
                heard += piece[..read].iter().filter(|byte| **byte == b'x').count();
            }
        };
        let hear = timeout(Duration::from_secs(60), hear);
        tokio::select! {
            () = connection => panic!("the server does not end it"),
            heard = hear => heard.expect("all of it arrives"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_heads_and_bodies_are_cut_off() {
        let nearly = |limit: Duration| limit..limit + Duration::from_secs(1);
        let pause = Duration::from_secs(7);
        let (answer, after) = trickle("", &HEAD.repeat(9), pause).await;
        assert!(answer.is_empty() && nearly(HEAD_TIMEOUT).contains(&after), "{answer} after {after:?}");
        let (answer, after) = trickle("", "", pause).await;
        assert!(answer.is_empty() && nearly(HEAD_TIMEOUT).contains(&after), "idle: {answer} after {after:?}");
        let head = format!("{HEAD}Content-Length: 900\r\n\r\n");
        let (answer, after) = trickle(&head, &"x".repeat(900), pause).await;
        assert!(answer.contains("did not arrive in time"), "{answer}");
        assert!(nearly(REQUEST_IDLE).contains(&after), "{after:?}");
        let (answer, _) = trickle(&format!("{head}{}", "x".repeat(890)), &"x".repeat(10), Duration::from_secs(2)).await;
        assert!(answer.ends_with("read"), "{answer}");
    }
}
