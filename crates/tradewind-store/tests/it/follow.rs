//! Following a prefix across what a backend may do to a watch.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tempfile::tempdir;
use tradewind_store::{Store, Update, list_then_watch};

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
