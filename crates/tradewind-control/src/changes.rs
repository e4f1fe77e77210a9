//! Being woken when something changes, to look at all of it again.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tradewind_store::{Store, list_then_watch};

/// Level-triggered: says that there is something new under some prefixes, not what. Whoever reads the state only after
/// making this misses nothing.
///
/// A task of its own drains the watches. A watch that is not polled may hold its place in the store's queue of readers,
/// and whoever reads the store instead of polling it would then wait for itself.
#[derive(Debug)]
pub(crate) struct Changes {
    changed: watch::Receiver<()>,
    _task: AbortOnDropHandle<()>,
}

impl Changes {
    pub(crate) fn of(store: &Arc<dyn Store>, prefixes: impl IntoIterator<Item = String>) -> Self {
        let updates = prefixes.into_iter().map(|prefix| list_then_watch(store.clone(), prefix));
        let mut updates = futures_util::stream::select_all(updates);
        let (sender, changed) = watch::channel(());
        let task = tokio::spawn(async move {
            while updates.next().await.is_some() {
                sender.send_replace(());
            }
        });
        Self { changed, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns when something may have changed since it last did; `false` when the store is closed. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tradewind_store::{Op, SqliteOptions, SqliteStore, Txn};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn who_does_not_wait_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
        let mut waiting: Vec<Changes> =
            (0..8).map(|n| Changes::of(&store, ["a", "b", "c", "d"].map(|letter| format!("{letter}{n}")))).collect();
        for changes in &mut waiting {
            // Begins to wait and turns away, as a `select!` does.
            assert_eq!(changes.wait().now_or_never(), None);
        }
        let read = tokio::time::timeout(DEADLINE, store.get("a0")).await.expect("the store answers");
        assert_eq!(read.unwrap(), None);
    }

    #[tokio::test]
    async fn every_change_wakes_whoever_waits() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap());
        let mut changes = Changes::of(&store, ["a/".to_owned(), "b/".to_owned()]);
        // A new watch wakes once for each prefix; the other wakes are of the changes.
        for round in 0..5 {
            store.txn(Txn::new().then(Op::put(format!("b/{round}"), ""))).await.unwrap();
            let woken = tokio::time::timeout(DEADLINE, changes.wait()).await.expect("a change wakes");
            assert!(woken, "the store is open");
        }
    }
}
