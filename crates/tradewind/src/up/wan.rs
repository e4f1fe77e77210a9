//! `--simulate-wan`: a proxy on each link between two regions that delays what passes by half a round trip each way.
//! In user space, because that needs no privileges; bandwidth and loss are not simulated.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tradewind_core::{RegionName, catalogue, locality};

use super::{
    layout::{Layout, Role},
    loopback,
};
use crate::failure::Failure;

/// What one direction of a connection holds at most, in chunks of at most [`CHUNK_BYTES`].
const CHUNKS_IN_FLIGHT: usize = 1024;
const CHUNK_BYTES: usize = 16 << 10;
/// A round trip between regions of which one has no known place.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(100);

/// The address that the gateways of a region dial for each other region.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    links: Arc<BTreeMap<RegionName, BTreeMap<RegionName, SocketAddr>>>,
}

impl Links {
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn of(&self, region: &RegionName) -> impl Iterator<Item = (&RegionName, &SocketAddr)> {
        self.links.get(region).into_iter().flatten()
    }
}

/// Starts a proxy for each ordered pair of regions.
pub(super) async fn start(
    layout: &Layout,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Links, Failure> {
    let mut links: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for from in layout.regions() {
        for to in layout.regions().iter().filter(|to| *to != from) {
            let listener = TcpListener::bind(loopback(0)).await;
            let listener = listener.map_err(|error| Failure::failed("cannot open a link").cause(error.to_string()))?;
            let address = listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
            links.entry(from.clone()).or_default().insert(to.clone(), address);
            let target = layout.address(Role::Gateway, Some(to));
            tasks.spawn(accept(listener, target, round_trip(from, to) / 2, stop.clone()));
        }
    }
    Ok(Links { links: Arc::new(links) })
}

fn round_trip(from: &RegionName, to: &RegionName) -> Duration {
    match (catalogue::location(from.as_str()), catalogue::location(to.as_str())) {
        (Some(from), Some(to)) => locality::estimated_round_trip(from, to),
        _ => UNKNOWN_ROUND_TRIP,
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, one_way: Duration, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(pass(stream, target, one_way));
                }
            }
        }
    }
}

/// One connection. The handshake costs a round trip; a target that refuses shows as a connection that is closed.
async fn pass(near: TcpStream, target: SocketAddr, one_way: Duration) {
    tokio::time::sleep(one_way * 2).await;
    let Ok(far) = TcpStream::connect(target).await else { return };
    let (Ok(()), Ok(())) = (near.set_nodelay(true), far.set_nodelay(true)) else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // When one direction breaks, the connection is broken for both, as on a real link.
    let _ = both(delay(near_read, far_write, one_way), delay(far_read, near_write, one_way)).await;
}

async fn both(
    there: impl Future<Output = io::Result<()>>,
    back: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::try_join!(there, back).map(drop)
}

async fn delay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, one_way: Duration) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 || sender.send((Instant::now() + one_way, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    both(read, write).await
}
