//! A gateway's life: bind, recall, serve, drain.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use arc_swap::ArcSwapOption;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tradewind_api::Client;
use tradewind_core::{RegionName, Timestamp};

use crate::{
    control,
    director::Director,
    disk::Disk,
    metrics::Metrics,
    options::{GatewayOptions, Listen},
    report::{self, Acknowledged},
    server,
    upstream::Upstream,
    world::World,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the inherited socket cannot be used")]
    Inherited(#[source] io::Error),
    #[error("a part of the gateway ended unexpectedly")]
    Ended(#[source] Option<JoinError>),
}

/// What the parts of a gateway share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) region: RegionName,
    pub(crate) trust_client_region: bool,
    /// host:port where others reach it.
    pub(crate) address: String,
    pub(crate) started_at: Timestamp,
    /// Absent until the first snapshot.
    pub(crate) world: ArcSwapOption<World>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) metrics: Metrics,
    pub(crate) acknowledged: watch::Sender<Acknowledged>,
    /// Counts requests, to spread ties.
    pub(crate) turn: AtomicUsize,
}

/// Serves until `shutdown`, then lets what is in flight finish, up to a limit.
pub async fn run(options: GatewayOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let listener = listen(options.listen).await?;
    let local = listener.local_addr().map_err(Error::Inherited)?;
    // The background parts outlive the server's drain, so that requests in flight see a living world.
    let background = CancellationToken::new();
    let _guard = background.clone().drop_guard();
    let gateway = Arc::new(Gateway {
        address: options.advertise.unwrap_or_else(|| local.to_string()),
        region: options.region,
        trust_client_region: options.trust_client_region,
        started_at: Timestamp::now(),
        world: ArcSwapOption::empty(),
        upstream: Arc::new(Upstream::new(background.clone())),
        metrics: Metrics::default(),
        acknowledged: watch::Sender::default(),
        turn: AtomicUsize::new(0),
    });
    let client = Client::new(&options.control_url, Some(options.token));
    let links = options.links.into_iter().collect();
    let disk = Disk::new(&options.data_dir);
    let (mut director, changes) = Director::new(Arc::clone(&gateway), links, disk, background.clone());
    director.recall();

    let mut parts = JoinSet::new();
    parts.spawn(director.run());
    parts.spawn(control::follow(client.clone(), changes, background.clone()));
    parts.spawn(report::run(Arc::clone(&gateway), client, background.clone()));
    let serving = server::run(Arc::clone(&gateway), listener, shutdown);
    tokio::select! {
        () = serving => {}
        ended = parts.join_next() => return Err(Error::Ended(ended.and_then(Result::err))),
    }
    background.cancel();
    while let Some(ended) = parts.join_next().await {
        ended.map_err(|error| Error::Ended(Some(error)))?;
    }
    gateway.upstream.closed().await;
    Ok(())
}

async fn listen(listen: Listen) -> Result<TcpListener, Error> {
    match listen {
        Listen::Address(address) => TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source }),
        Listen::Inherited(listener) => {
            listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)).map_err(Error::Inherited)
        }
    }
}
