//! Leases: what they keep, what they take along, what they guard.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{apply, next, put, revision, show, show_events};
use crate::{Compare, Error, LeaseId, Op, Store, Txn, Watch};

/// Short, but longer than a loaded machine stalls.
const SHORT: Duration = Duration::from_secs(2);
/// Longer than any case.
const LONG: Duration = Duration::from_secs(600);

pub(super) async fn keys_live_while_the_lease_is_kept_alive(store: Arc<dyn Store>) {
    let lease = store.lease_grant(SHORT).await.unwrap();
    assert!(lease.ttl >= SHORT);
    apply(&store, [Op::put_leased("a", "1", lease.id)]).await;
    let end = Instant::now() + lease.ttl * 2;
    while Instant::now() < end {
        assert_eq!(store.lease_keep_alive(lease.id).await.unwrap(), lease);
        sleep(lease.ttl / 10).await;
    }
    assert_eq!(store.get("a").await.unwrap().unwrap().lease, Some(lease.id));
}

pub(super) async fn an_expired_lease_takes_its_keys_in_one_revision(store: Arc<dyn Store>) {
    put(&store, "kept", "1").await;
    let lease = store.lease_grant(SHORT).await.unwrap();
    let last = apply(&store, [Op::put_leased("b", "1", lease.id), Op::put_leased("a", "1", lease.id)]).await;
    let mut watch = store.watch(Watch::new("", last.next())).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (last.next(), 2));
    assert!(batch.events.iter().all(|event| !event.is_put()));
    assert_eq!(show(&store, "").await, "kept=1");
    assert!(matches!(store.lease_keep_alive(lease.id).await.unwrap_err(), Error::LeaseNotFound(_)));
}

pub(super) async fn revoke_takes_its_keys_in_one_revision(store: Arc<dyn Store>) {
    let lease = store.lease_grant(LONG).await.unwrap();
    let other = store.lease_grant(LONG).await.unwrap();
    assert_ne!(lease.id, other.id);
    apply(&store, [Op::put_leased("a", "1", lease.id), Op::put_leased("b", "1", lease.id)]).await;
    let before = apply(&store, [Op::put_leased("c", "1", other.id)]).await;
    store.lease_revoke(lease.id).await.unwrap();
    assert_eq!(show(&store, "").await, "c=1");
    assert_eq!(revision(&store).await, before.next());
}

pub(super) async fn a_lease_without_keys_ends_without_a_revision(store: Arc<dyn Store>) {
    let before = put(&store, "a", "1").await;
    let lease = store.lease_grant(LONG).await.unwrap();
    store.lease_revoke(lease.id).await.unwrap();
    assert_eq!(revision(&store).await, before);
}

pub(super) async fn a_put_with_an_unknown_lease_changes_nothing(store: Arc<dyn Store>) {
    let before = put(&store, "a", "1").await;
    let unknown = LeaseId::new(4711);
    let txn = Txn::new().then(Op::put("a", "2")).then(Op::put_leased("b", "2", unknown));
    let error = store.txn(txn.clone()).await.unwrap_err();
    assert!(matches!(error, Error::LeaseNotFound(lease) if lease == unknown), "{error:?}");
    assert_eq!((show(&store, "").await.as_str(), revision(&store).await), ("a=1", before));
    // The compares come first.
    assert!(!store.txn(txn.when(Compare::absent("a"))).await.unwrap().succeeded);
}

pub(super) async fn an_ended_lease_is_not_found(store: Arc<dyn Store>) {
    let lease = store.lease_grant(LONG).await.unwrap();
    store.lease_revoke(lease.id).await.unwrap();
    let errors = [
        store.lease_keep_alive(lease.id).await.unwrap_err(),
        store.lease_revoke(lease.id).await.unwrap_err(),
        store.txn(Txn::new().then(Op::put_leased("a", "1", lease.id))).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::LeaseNotFound(id) if id == lease.id), "{error:?}");
    }
}

pub(super) async fn a_put_without_lease_detaches(store: Arc<dyn Store>) {
    let lease = store.lease_grant(LONG).await.unwrap();
    apply(&store, [Op::put_leased("a", "1", lease.id)]).await;
    put(&store, "a", "2").await;
    store.lease_revoke(lease.id).await.unwrap();
    assert_eq!(show(&store, "").await, "a=2");
}

pub(super) async fn a_put_with_another_lease_moves_the_key(store: Arc<dyn Store>) {
    let first = store.lease_grant(LONG).await.unwrap();
    let second = store.lease_grant(LONG).await.unwrap();
    apply(&store, [Op::put_leased("a", "1", first.id)]).await;
    apply(&store, [Op::put_leased("a", "2", second.id)]).await;
    store.lease_revoke(first.id).await.unwrap();
    assert_eq!(show(&store, "").await, "a=2");
    store.lease_revoke(second.id).await.unwrap();
    assert_eq!(show(&store, "").await, "");
}

pub(super) async fn the_create_revision_of_a_leased_key_guards(store: Arc<dyn Store>) {
    let old = store.lease_grant(LONG).await.unwrap();
    let elected = apply(&store, [Op::put_leased("leader", "old", old.id)]).await;
    let guarded = |value: &str| {
        Txn::new().when(Compare::create_revision("leader", elected)).then(Op::put("work", value.to_owned()))
    };
    assert!(store.txn(guarded("1")).await.unwrap().succeeded);
    let mut watch = store.watch(Watch::new("leader", elected.next())).await.unwrap();
    store.lease_revoke(old.id).await.unwrap();
    assert_eq!(show_events(&next(&mut watch).await), "-leader");
    let new = store.lease_grant(LONG).await.unwrap();
    apply(&store, [Op::put_leased("leader", "new", new.id)]).await;
    assert!(!store.txn(guarded("2")).await.unwrap().succeeded);
    assert_eq!(show(&store, "work").await, "work=1");
}
