//! Leases follow tokio's clock, which a paused test moves.

use std::time::Duration;

use futures_util::StreamExt;
use tempfile::tempdir;
use tokio::time::{Instant, advance};
use tradewind_store::{Error, MAX_LEASE_TTL, MAX_LEASES, MIN_LEASE_TTL, Op, Store, Txn, Watch};

use crate::{keys, open, put};

const TTL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_lease_ends_after_its_time_and_not_before() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let lease = store.lease_grant(TTL).await.unwrap();
    let granted = Instant::now();
    let txn = Txn::new().then(Op::put_leased("leader", "", lease.id));
    let elected = store.txn(txn).await.unwrap().revision;
    let mut watch = store.watch(Watch::new("", elected.next())).await.unwrap();
    for _ in 0..5 {
        advance(TTL - Duration::from_secs(1)).await;
        store.lease_keep_alive(lease.id).await.unwrap();
        assert_eq!(keys(&store).await, ["leader"]);
    }
    let renewed = Instant::now();
    assert_eq!(renewed - granted, 5 * (TTL - Duration::from_secs(1)));
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!((batch.revision, batch.events[0].key(), batch.events[0].is_put()), (elected.next(), "leader", false));
    assert!((TTL..TTL + Duration::from_secs(1)).contains(&renewed.elapsed()), "{:?}", renewed.elapsed());
    assert!(matches!(store.lease_keep_alive(lease.id).await.unwrap_err(), Error::LeaseNotFound(_)));
}

/// Whatever waits for the disk must not let a paused clock run ahead.
#[tokio::test(start_paused = true)]
async fn waiting_for_the_disk_takes_no_time() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let lease = store.lease_grant(TTL).await.unwrap();
    let begin = Instant::now();
    for number in 0..100 {
        store.txn(Txn::new().then(Op::put_leased(number.to_string(), "", lease.id))).await.unwrap();
        put(&store, "other", "").await;
        assert!(store.get("other").await.unwrap().is_some());
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(keys(&store).await.len(), 101);
}

#[tokio::test(start_paused = true)]
async fn leases_are_bounded_in_time_and_number() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(store.lease_grant(Duration::ZERO).await.unwrap().ttl, MIN_LEASE_TTL);
    let longest = store.lease_grant(Duration::MAX).await.unwrap();
    assert_eq!(longest.ttl, MAX_LEASE_TTL);
    for _ in 2..MAX_LEASES {
        store.lease_grant(TTL).await.unwrap();
    }
    assert!(matches!(store.lease_grant(TTL).await.unwrap_err(), Error::TooManyLeases));
    store.lease_revoke(longest.id).await.unwrap();
    store.lease_grant(TTL).await.unwrap();
}
