//! What is stored stays bounded, and a full disk refuses a transaction without harm.

use tempfile::tempdir;
use tradewind_store::{Error, Op, Range, Revision, SqliteOptions, SqliteStore, Store, Txn};

use crate::{keys, open, put};

#[tokio::test]
async fn old_revisions_are_compacted_and_their_room_is_used_again() {
    let directory = tempdir().unwrap();
    let options = SqliteOptions { retained_revisions: 100, ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), options).unwrap();
    let mut sizes = Vec::new();
    let mut last = Revision::NONE;
    for _ in 0..4 {
        for number in 0..400 {
            last = put(&store, &format!("k{}", number % 5), vec![b'x'; 2000]).await;
        }
        sizes.push(store.stats().await.unwrap().bytes);
    }
    assert!(sizes[3] < sizes[0] * 3 / 2, "{sizes:?}");
    assert!(sizes[3] < 2 * 100 * 4096 + 256 * 1024, "{sizes:?}");
    let kept = Revision::new(last.get() - 100);
    assert_eq!(store.range(Range::prefix("").at(kept)).await.unwrap().kvs.len(), 5);
    let error = store.range(Range::prefix("").at(kept.previous())).await.unwrap_err();
    assert!(matches!(error, Error::Compacted { compact_revision } if compact_revision == kept));
}

#[tokio::test]
async fn compaction_frees_what_was_deleted() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let empty = store.stats().await.unwrap().bytes;
    for number in 0..1500 {
        put(&store, &format!("k{number}"), vec![b'x'; 2000]).await;
    }
    let full = store.stats().await.unwrap().bytes;
    assert!(full > 1500 * 2000);
    let deleted = store.txn(Txn::new().then(Op::delete_prefix("k"))).await.unwrap();
    assert_eq!(deleted.deleted, 1500);
    store.compact(deleted.revision).await.unwrap();
    // Closing waits for nothing but the writes that wait; opening again goes on with the sweeping.
    put(&store, "last", "").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.stats().await.unwrap().bytes > empty + 64 * 1024 {
        assert!(tokio::time::Instant::now() < deadline, "nothing was swept");
        tokio::task::yield_now().await;
    }
    assert_eq!(keys(&store).await, ["last"]);
}

#[tokio::test]
async fn a_full_store_refuses_and_lives_on() {
    let directory = tempdir().unwrap();
    let options = SqliteOptions { max_bytes: 2 * 1024 * 1024, ..SqliteOptions::default() };
    let store = SqliteStore::open(directory.path(), options).unwrap();
    put(&store, "small", "1").await;
    let mut stored = 0;
    let error = loop {
        match store.txn(Txn::new().then(Op::put(format!("large{stored}"), vec![b'x'; 300_000]))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 10, "the limit does not hold");
    };
    assert!(matches!(error, Error::DiskFull) && error.is_retryable(), "{error:?}");
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.kvs.len(), 1 + stored);
    // What needs little room still goes, also in the company of what does not fit.
    let (large, small) = tokio::join!(
        store.txn(Txn::new().then(Op::put("large", vec![b'x'; 1_000_000]))),
        store.txn(Txn::new().then(Op::put("small", "2"))),
    );
    assert!(matches!(large.unwrap_err(), Error::DiskFull));
    assert_eq!(small.unwrap().revision, listing.revision.next());
    // Deleting and compacting makes room again.
    let deleted = store.txn(Txn::new().then(Op::delete_prefix("large"))).await.unwrap();
    store.compact(deleted.revision).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.txn(Txn::new().then(Op::put("large", vec![b'x'; 1_000_000]))).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "no room was made");
    }
    assert_eq!(keys(&store).await, ["large", "small"]);
}
