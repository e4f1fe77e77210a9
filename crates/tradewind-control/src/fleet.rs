//! What gateways are told, made once for all of them whenever routes, regions or members change.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    region::{Member, Region},
    route::Route,
};
use tradewind_store::Incarnation;

use crate::{
    changes::Changes,
    keys,
    repository::{Repository, Result},
    view::snapshot::{self, SnapshotParts},
};

/// The JSON of a [`GatewaySnapshot`](tradewind_api::gateway::GatewaySnapshot).
pub(crate) type Encoded = Arc<RawValue>;

/// After the store failed, the snapshot is made again so much later.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the snapshot current.
#[derive(Debug)]
pub(crate) struct Fleet {
    repository: Repository,
    incarnation: Incarnation,
    mesh_token: String,
    current: watch::Sender<Encoded>,
}

impl Fleet {
    /// Makes the first snapshot.
    pub(crate) async fn load(
        repository: Repository,
        incarnation: Incarnation,
        mesh_token: String,
    ) -> Result<(Self, watch::Receiver<Encoded>)> {
        let first = encode(&repository, &incarnation, &mesh_token).await?;
        let (current, receiver) = watch::channel(first);
        Ok((Self { repository, incarnation, mesh_token, current }, receiver))
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let prefixes = [keys::ROUTES, keys::REGIONS, keys::MEMBERS].map(str::to_owned);
        let mut changes = Changes::of(self.repository.store(), prefixes);
        let mut failed = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                open = changes.wait() => if !open { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
            let made = encode(&self.repository, &self.incarnation, &self.mesh_token).await;
            failed = made.is_err();
            match made {
                Ok(snapshot) => {
                    let replace = |known: &mut Encoded| {
                        let differs = known.get() != snapshot.get();
                        *known = snapshot;
                        differs
                    };
                    self.current.send_if_modified(replace);
                }
                // They keep the last good one.
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "gateways cannot be told of a change");
                }
            }
        }
    }
}

async fn encode(repository: &Repository, incarnation: &Incarnation, mesh_token: &str) -> Result<Encoded> {
    let routes = repository.list::<Route>(keys::ROUTES).await?;
    let revision = routes.revision;
    let regions = repository.list_at::<Region>(keys::REGIONS, revision).await?;
    let members = repository.list_at::<Member>(keys::MEMBERS, revision).await?;
    let parts =
        SnapshotParts { revision, routes: routes.values(), regions: regions.values(), members: members.values() };
    let snapshot = snapshot::view(parts, incarnation, mesh_token);
    let encoded = serde_json::value::to_raw_value(&snapshot).expect("wire types have string keys and finite numbers");
    Ok(encoded.into())
}
