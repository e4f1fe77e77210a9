//! Following a prefix across what a backend may do to a watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use tempfile::tempdir;
use tradewind_store::{
    Error, Incarnation, Lease, LeaseId, Range, RangeResponse, Result, Revision, SqliteStore, Stats, Store, Txn,
    TxnResponse, Update, Watch, WatchStream, list_then_watch,
};

use crate::{open, put};

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_replaced_without_a_new_list() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    put(&store, "p/1", "1").await;
    let mut updates = list_then_watch(Arc::new(store.clone()), "p/");
    assert!(matches!(updates.next().await, Some(Update::Reset(_))));
    let hour = tokio::time::sleep(Duration::from_secs(3600));
    let nothing = tokio::select! { update = updates.next() => Some(update), () = hour => None };
    assert_eq!(nothing, None);
    put(&store, "p/2", "2").await;
    let Some(Update::Changes(batch)) = updates.next().await else { panic!("a change") };
    assert_eq!(batch.events[0].key(), "p/2");
}

#[tokio::test]
async fn following_ends_when_the_store_closes() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let handle: Arc<dyn Store> = Arc::new(store.clone());
    let mut updates = list_then_watch(handle, "p/");
    assert!(matches!(updates.next().await, Some(Update::Reset(_))));
    assert!(updates.next().now_or_never().is_none());
    store.close().await;
    let ended = tokio::time::timeout(Duration::from_secs(30), updates.next()).await.unwrap();
    assert_eq!(ended, None);
}

#[tokio::test(start_paused = true)]
async fn broken_watches_lose_nothing_and_list_nothing_again() {
    let directory = tempdir().unwrap();
    let store = Arc::new(Unreliable::new(open(directory.path())));
    let mut updates = list_then_watch(Arc::clone(&store) as Arc<dyn Store>, "");
    assert!(matches!(updates.next().await, Some(Update::Reset(_))));
    for number in 0..20 {
        put(&*store, "a", number.to_string()).await;
    }
    for number in 0..20 {
        let Some(Update::Changes(batch)) = updates.next().await else { panic!("a change") };
        assert_eq!(batch.events[0].now().unwrap().value, number.to_string());
    }
    assert!(store.watches.load(Ordering::Relaxed) >= 20);
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_is_listed_again() {
    let directory = tempdir().unwrap();
    let store = Arc::new(Unreliable::new(open(directory.path())));
    let mut updates = list_then_watch(Arc::clone(&store) as Arc<dyn Store>, "");
    assert!(matches!(updates.next().await, Some(Update::Reset(_))));
    put(&*store, "a", "1").await;
    assert!(matches!(updates.next().await, Some(Update::Changes(_))));
    store.restored.store(true, Ordering::Relaxed);
    let Some(Update::Reset(listing)) = updates.next().await else { panic!("a list") };
    assert_eq!(listing.kvs.len(), 1);
}

/// A store whose watches fail in every way, in turn: to open, with an error, by ending, by silence. A watch that
/// opens delivers one batch first, except the silent one.
#[derive(Debug)]
struct Unreliable {
    inner: SqliteStore,
    watches: AtomicUsize,
    restored: AtomicBool,
}

impl Unreliable {
    fn new(inner: SqliteStore) -> Self {
        Self { inner, watches: AtomicUsize::new(0), restored: AtomicBool::new(false) }
    }
}

fn failure() -> Error {
    Error::Backend { attempted: "watch", source: "injected".into() }
}

impl Store for Unreliable {
    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream>> {
        let mode = self.watches.fetch_add(1, Ordering::Relaxed) % 4;
        Box::pin(async move {
            let one = self.inner.watch(watch).await?.take(1);
            match mode {
                0 => Err(failure()),
                1 => Ok(one.chain(stream::once(async { Err(failure()) })).boxed()),
                2 => Ok(one.boxed()),
                _ => Ok(stream::pending().boxed()),
            }
        })
    }

    fn incarnation(&self) -> BoxFuture<'_, Result<Incarnation>> {
        if self.restored.load(Ordering::Relaxed) {
            return Box::pin(async { Ok(Incarnation::from_stored("restored".to_owned())) });
        }
        self.inner.incarnation()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<RangeResponse>> {
        self.inner.range(range)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        self.inner.txn(txn)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<()>> {
        self.inner.compact(revision)
    }

    fn lease_grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease>> {
        self.inner.lease_grant(ttl)
    }

    fn lease_keep_alive(&self, lease: LeaseId) -> BoxFuture<'_, Result<Lease>> {
        self.inner.lease_keep_alive(lease)
    }

    fn lease_revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<()>> {
        self.inner.lease_revoke(lease)
    }

    fn health(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.health()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        self.inner.stats()
    }
}
