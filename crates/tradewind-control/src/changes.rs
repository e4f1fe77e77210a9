//! Being woken when something changes, to look at all of it again.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream::BoxStream, stream::SelectAll};
use tradewind_store::{Store, Update, list_then_watch};

/// The most changes that one wake swallows, so that a busy store cannot hold its reader off.
const COALESCED_LIMIT: usize = 1000;

/// Level-triggered: says that there is something new under some prefixes, not what. Whoever reads the state only after
/// making this misses nothing.
pub(crate) struct Changes {
    updates: SelectAll<BoxStream<'static, Update>>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    pub(crate) fn of(store: &Arc<dyn Store>, prefixes: impl IntoIterator<Item = String>) -> Self {
        let updates = prefixes.into_iter().map(|prefix| list_then_watch(store.clone(), prefix));
        Self { updates: futures_util::stream::select_all(updates) }
    }

    /// Returns when something may have changed since it last did; `false` when the store is closed. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.updates.next().await.is_none() {
            return false;
        }
        for _ in 0..COALESCED_LIMIT {
            if !matches!(self.updates.next().now_or_never(), Some(Some(_))) {
                break;
            }
        }
        true
    }
}
