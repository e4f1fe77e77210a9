//! Wakes the streams of agents, each when its own region's assignments change. One watch of the store serves them all:
//! with a watch each, every write for one region would wake the agents of all the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tradewind_core::RegionName;
use tradewind_store::{Event, Store, Update, list_then_watch};

use crate::keys;

#[derive(Debug, Default)]
pub struct AssignmentChanges {
    /// Counts of changes, of the regions that somebody has asked for.
    regions: Mutex<HashMap<RegionName, watch::Sender<u64>>>,
}

impl AssignmentChanges {
    /// Whoever reads a region's assignments after this, and after each change that it tells of, misses nothing.
    pub fn of(&self, region: &RegionName) -> watch::Receiver<u64> {
        self.regions().entry(region.clone()).or_default().subscribe()
    }

    /// Follows the store until told to stop.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Store>, shutdown: CancellationToken) {
        let mut updates = list_then_watch(store, keys::ASSIGNMENTS);
        loop {
            let update = tokio::select! {
                () = shutdown.cancelled() => return,
                update = updates.next() => update,
            };
            match update {
                Some(Update::Reset(_)) => self.regions().values().for_each(tell),
                Some(Update::Changes(batch)) => {
                    let regions = self.regions();
                    batch.events.iter().filter_map(region).filter_map(|name| regions.get(&name)).for_each(tell);
                }
                None => return,
            }
        }
    }

    fn regions(&self) -> MutexGuard<'_, HashMap<RegionName, watch::Sender<u64>>> {
        // Whoever panicked has left the counts whole.
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn region(event: &Event) -> Option<RegionName> {
    event.key().strip_prefix(keys::ASSIGNMENTS)?.split('/').next()?.parse().ok()
}

fn tell(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count += 1);
}
