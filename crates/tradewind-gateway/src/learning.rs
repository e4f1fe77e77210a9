//! What other gateways have heard of and this one has not: control may not reach it, and its users must not go back.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tradewind_api::{Client, gateway::config::ConfigMessage};
use tradewind_core::{Timestamp, causes::chain};

use crate::{director::Change, peer::Peer, probe::Prober, tables};

/// Control has so long to tell itself what a peer knows.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Learning {
    /// Since when a peer has been ahead.
    behind_since: Option<Instant>,
    /// One peer is asked at a time.
    asking: Rc<Cell<bool>>,
}

impl Learning {
    /// The peer to learn from, if one is ahead of `revision` for long enough, or a user has waited for it (`urgent`).
    pub(crate) fn whom_to_ask<'a>(
        &mut self,
        peers: impl Iterator<Item = &'a Arc<Peer>>,
        revision: u64,
        urgent: bool,
    ) -> Option<&'a Arc<Peer>> {
        let ahead = peers.filter(|peer| peer.target.healthy() && peer.config_revision() > revision);
        let Some(ahead) = ahead.max_by_key(|peer| peer.config_revision()) else {
            self.behind_since = None;
            return None;
        };
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        let is_time = urgent || since.elapsed() >= PATIENCE;
        (is_time && !self.asking.get()).then_some(ahead)
    }

    /// Asks a peer, and tells the director as control would. What is no newer, or no good, is refused there.
    pub(crate) fn ask(
        &self,
        prober: Prober,
        peer: Arc<Peer>,
        mesh_token: String,
        tell: mpsc::Sender<Change>,
    ) -> impl Future<Output = ()> + use<> {
        let asking = Rc::clone(&self.asking);
        asking.set(true);
        async move {
            if let Some(edition) = prober.edition(&peer, &mesh_token).await {
                tracing::info!(peer = peer.target.address(), "learning from a peer what control has not told");
                let client = Client::new(&format!("http://{}", peer.target.address()), Some(mesh_token));
                let named = tables::named(&edition.snapshot.routes, Timestamp::now());
                let change = match tables::fetch(&client, named, &prober.gateway.tables()).await {
                    Ok(tables) => {
                        let (answer, taken) = oneshot::channel();
                        let message = Box::new(ConfigMessage::Snapshot(edition));
                        (Change::Config { message, tables, answer }, Some(taken))
                    }
                    Err(error) => (Change::Unusable(chain(&error)), None),
                };
                if let (Ok(()), Some(taken)) = (tell.send(change.0).await, change.1) {
                    // It has been taken up, or refused and said so.
                    let _ = taken.await;
                }
            }
            asking.set(false);
        }
    }
}
