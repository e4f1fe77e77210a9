//! A gateway's life: bind, recall, serve, drain. One thread keeps the world up to date; the others serve requests.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tradewind_api::Client;
use tradewind_core::{RegionName, Timestamp};

use crate::{
    access::{self, AccessLog},
    control,
    demand::{self, Demand},
    director::Director,
    disk::Disk,
    doomed::Doomed,
    link::Links,
    load::{self, RegionLoad},
    metrics::Metrics,
    options::{GatewayOptions, Listen},
    questions::Questions,
    report::{self, Acknowledged},
    server,
    tables::Tables,
    tls::{Tls, TlsError},
    user_key::UserKey,
    worker,
    world::World,
};

/// The most threads that serve.
const WORKERS_LIMIT: usize = 64;
/// Targets that were found dead and that a thread has not heard of; one with more looks at all of its targets.
const LOST_LIMIT: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the inherited socket cannot be used")]
    Inherited(#[source] io::Error),
    #[error("cannot serve with TLS")]
    Tls(#[from] TlsError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("a thread of the gateway ended unexpectedly")]
    Ended,
}

/// What the threads of a gateway share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) region: RegionName,
    /// The region as a header says it.
    pub(crate) region_value: HeaderValue,
    pub(crate) trust_client_region: bool,
    pub(crate) user_key: Option<UserKey>,
    pub(crate) epoch_cookie: bool,
    /// host:port where others reach it.
    pub(crate) address: String,
    pub(crate) started_at: Timestamp,
    /// Absent until the first snapshot.
    pub(crate) world: Arc<ArcSwapOption<World>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) metrics: Metrics,
    pub(crate) access: Option<AccessLog>,
    pub(crate) doomed: Doomed,
    pub(crate) acknowledged: watch::Sender<Acknowledged>,
    pub(crate) questions: Questions,
    /// What the replicas of the own region do.
    pub(crate) load: RegionLoad,
    /// What is asked of it.
    pub(crate) demand: Demand,
    /// Whenever there is another world.
    pub(crate) composed: watch::Sender<()>,
    /// Targets that probes found dead.
    pub(crate) lost: broadcast::Sender<u64>,
    /// Of connections.
    pub(crate) room: Arc<Semaphore>,
}

impl Gateway {
    /// The tables of pinned users that are in use.
    pub(crate) fn tables(&self) -> Tables {
        self.world.load().as_ref().map(|world| world.tables.clone()).unwrap_or_default()
    }
}

/// Serves until `shutdown`, then lets what is in flight finish, up to a limit. When the future is dropped, everything
/// is cut off.
pub async fn run(options: GatewayOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let listener = listen(options.listen)?;
    let local = listener.local_addr().map_err(Error::Inherited)?;
    let (access, access_writer) = options.access_log.map(access::open).unzip();
    let gateway = Arc::new(Gateway {
        address: options.advertise.unwrap_or_else(|| local.to_string()),
        region_value: HeaderValue::from_str(options.region.as_str()).expect("region names are visible ASCII"),
        region: options.region,
        trust_client_region: options.trust_client_region,
        user_key: options.user_key,
        epoch_cookie: options.epoch_cookie,
        started_at: Timestamp::now(),
        world: Arc::default(),
        tls: options.tls.map(Tls::open).transpose()?,
        metrics: Metrics::default(),
        access,
        doomed: Doomed::default(),
        acknowledged: watch::Sender::default(),
        questions: Questions::default(),
        load: RegionLoad::default(),
        demand: Demand::default(),
        composed: watch::Sender::default(),
        lost: broadcast::Sender::new(LOST_LIMIT),
        room: Arc::new(Semaphore::new(server::CONNECTIONS_LIMIT)),
    });
    // The background outlives the server's drain, so that requests in flight see a living world.
    let background = CancellationToken::new();
    let cut = CancellationToken::new();
    let _cut_if_dropped = cut.clone().drop_guard();

    let client = Client::new(&options.control_url, Some(options.token));
    let (tell, recalled) = oneshot::channel();
    let mut keeping = {
        let (gateway, over, disk) = (Arc::clone(&gateway), background.clone(), Disk::new(&options.data_dir));
        let links = options.links.into_iter().collect();
        worker::on_thread("gateway-world", cut.clone(), async move || {
            let log = async {
                if let Some(writer) = access_writer {
                    writer.run(Arc::clone(&gateway.world), over.clone()).await;
                }
            };
            let certificate = async {
                if let Some(tls) = &gateway.tls {
                    tls.follow(&gateway.metrics.certificates_refused, &over).await;
                }
            };
            let world = keep_world(Arc::clone(&gateway), client, links, disk, tell, over.clone());
            tokio::join!(world, log, certificate);
            Ok(())
        })?
    };
    // What is known from disk serves from the first request on.
    recalled.await.map_err(|_| Error::Ended)?;
    let workers = options.workers.map_or_else(cores, |workers| workers.get().into()).min(WORKERS_LIMIT);
    let mut serving_threads = Vec::new();
    for _ in 0..workers {
        let listener = listener.try_clone().map_err(Error::Inherited)?;
        serving_threads.push(worker::spawn(Arc::clone(&gateway), listener, shutdown.clone(), cut.clone())?);
    }
    drop(listener);
    let served = async {
        for thread in serving_threads {
            thread.await.unwrap_or(Err(Error::Ended))?;
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        result = served => result?,
        _ = &mut keeping => return Err(Error::Ended),
    }
    background.cancel();
    keeping.await.unwrap_or(Err(Error::Ended))
}

/// Follows control and the agents, probes, and reports, until `over`. Tells when what was known before is in use.
async fn keep_world(
    gateway: Arc<Gateway>,
    client: Client,
    links: std::collections::HashMap<RegionName, String>,
    disk: Disk,
    recalled: oneshot::Sender<()>,
    over: CancellationToken,
) {
    let connections = Rc::new(Links::default());
    let (mut director, changes) =
        Director::new(Arc::clone(&gateway), links, disk, Rc::clone(&connections), over.clone());
    director.recall();
    // Nobody waits when the gateway's future was dropped.
    let _ = recalled.send(());
    tokio::join!(
        director.run(),
        control::follow(client.clone(), Arc::clone(&gateway), changes, over.clone()),
        load::run(&gateway, &over),
        demand::run(&gateway, &over),
        report::run(Arc::clone(&gateway), client, over.clone()),
    );
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn listen(listen: Listen) -> Result<TcpListener, Error> {
    let listener = match listen {
        Listen::Address(address) => {
            let bound = bind(address).map_err(|source| Error::Bind { address, source })?;
            return Ok(bound);
        }
        Listen::Inherited(listener) => listener,
    };
    listener.set_nonblocking(true).map_err(Error::Inherited)?;
    Ok(listener)
}

/// As tokio binds: with `SO_REUSEADDR`, so that a restart need not wait for old connections, and not blocking.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4096;
