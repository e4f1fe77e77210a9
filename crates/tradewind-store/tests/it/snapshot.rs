//! Snapshots and what restoring one means for those who watch.

use tempfile::tempdir;
use tradewind_store::{OpenError, SqliteStore, Store};

use crate::{keys, open, put};

#[tokio::test]
async fn a_restored_snapshot_is_a_new_incarnation() {
    let root = tempdir().unwrap();
    let (old, new, file) = (root.path().join("old"), root.path().join("new"), root.path().join("snapshot"));
    let store = open(&old);
    let last = put(&store, "a", "1").await;
    store.snapshot(&file).await.unwrap();
    put(&store, "b", "2").await;
    SqliteStore::restore(&file, &new).unwrap();
    let restored = open(&new);
    assert_eq!(keys(&restored).await, ["a"]);
    assert_eq!(restored.list("").await.unwrap().revision, last);
    assert_ne!(restored.incarnation().await.unwrap(), store.incarnation().await.unwrap());
}

#[tokio::test]
async fn a_store_is_never_restored_over() {
    let root = tempdir().unwrap();
    let (directory, file) = (root.path().join("store"), root.path().join("snapshot"));
    let store = open(&directory);
    put(&store, "a", "1").await;
    store.snapshot(&file).await.unwrap();
    store.snapshot(&file).await.expect_err("a snapshot is not overwritten");
    let error = SqliteStore::restore(&file, &directory).unwrap_err();
    assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error:?}");
    store.close().await;
    let error = SqliteStore::restore(&file, &directory).unwrap_err();
    assert!(matches!(error, OpenError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(keys(&open(&directory)).await, ["a"]);
}
