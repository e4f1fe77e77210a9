//! An upstream of a known capacity: every request takes the same time in one of a few places, and waits while all of them are
//! taken. It needs next to no CPU, so its capacity is the same on any machine.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tokio_util::task::AbortOnDropHandle;

pub(crate) const PLACES: u32 = 10;
pub(crate) const SERVICE_TIME: Duration = Duration::from_millis(50);
pub(crate) const ANSWER: &str =
    r#"{"model_name":"places","outputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["served"]}]}"#;

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("an address for an upstream")?;
        let address = listener.local_addr()?;
        let places = Arc::new(Semaphore::new(PLACES as usize));
        let serve = move |_body: Bytes| {
            let places = places.clone();
            async move { serve(&places).await }
        };
        // Whatever else is asked is a health check.
        let router = Router::new().route("/v2/models/{model}/infer", post(serve)).fallback(any(|| async { "ok\n" }));
        let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, _server: AbortOnDropHandle::new(server) })
    }
}

async fn serve(places: &Semaphore) -> Response {
    let Ok(_place) = places.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    sleep(SERVICE_TIME).await;
    ([(header::CONTENT_TYPE, "application/json")], ANSWER).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::task::JoinSet;

    use super::*;
    use crate::client::Connection;

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let upstream = Upstream::start().await.unwrap();
        let began = Instant::now();
        let mut asking = JoinSet::new();
        for _ in 0..=PLACES {
            let address = upstream.address;
            asking.spawn(async move {
                Connection::open(address).await?.post("/v2/models/places/infer", Bytes::new()).await
            });
        }
        for answered in asking.join_all().await {
            assert_eq!(answered.unwrap(), (StatusCode::OK, ANSWER.into()));
        }
        assert!(began.elapsed() >= 2 * SERVICE_TIME);
    }
}
