//! One connection, from its first byte to its end.

use std::{
    error::Error as StdError,
    pin::{Pin, pin},
};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    rt::Executor,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Limits, Windows};

/// Serves a connection until it ends by itself or, after `shutdown`, with the requests that it is at.
pub(super) async fn serve<S, B>(stream: TcpStream, service: S, limits: Limits, shutdown: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let windows = match limits.http2 {
        None => None,
        Some(windows) => tokio::select! {
            // What has already come is answered, also when the shutdown comes at that moment.
            biased;
            begins = begins_with_http2(&stream, &limits) => match begins {
                Some(begins) => begins.then_some(windows),
                None => return,
            },
            () = shutdown.cancelled() => return,
        },
    };
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a connection broke off before it was served");
    }
    let io = TokioIo::new(stream);
    let ended = match windows {
        None => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time);
            builder.max_headers(limits.headers).max_buf_size(limits.head_bytes as usize);
            until_end(pin!(builder.serve_connection(io, service)), &shutdown).await
        }
        Some(Windows { stream, connection }) => {
            let streams = Streams { tasks: TaskTracker::new(), over: CancellationToken::new() };
            let _over_with_the_connection = streams.over.clone().drop_guard();
            let mut builder = http2::Builder::new(streams);
            builder.timer(TokioTimer::new()).keep_alive_interval(limits.head_time);
            builder.max_header_list_size(limits.head_bytes);
            builder.initial_stream_window_size(stream).initial_connection_window_size(connection);
            until_end(pin!(builder.serve_connection(io, service)), &shutdown).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Only HTTP/2 with prior knowledge begins with `PRI`. `None` when nothing comes.
async fn begins_with_http2(stream: &TcpStream, limits: &Limits) -> Option<bool> {
    let mut first = [0; 3];
    let length = timeout(limits.head_time, stream.peek(&mut first)).await.ok()?.ok()?;
    (length > 0).then_some(&first == b"PRI")
}

async fn until_end<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    shutdown: &CancellationToken,
) -> Result<(), C::Error> {
    tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Runs the streams of one HTTP/2 connection, and none after it.
#[derive(Debug, Clone)]
struct Streams {
    tasks: TaskTracker,
    over: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let over = self.over.clone();
        self.tasks.spawn(async move { over.run_until_cancelled(stream).await.map(drop) });
    }
}
