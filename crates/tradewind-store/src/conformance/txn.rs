//! Transactions: revisions, compares, operations, limits.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{apply, delete, put, revision, show};
use crate::{Compare, Error, MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Relation, Revision, Store, Target, Txn};

pub(super) async fn a_change_has_one_revision(store: Arc<dyn Store>) {
    let before = revision(&store).await;
    assert_eq!(put(&store, "a", "1").await, before.next());
    assert_eq!(put(&store, "a", "1").await, before.next().next());
    assert_eq!(delete(&store, "a").await, before.next().next().next());
}

pub(super) async fn a_put_counts_versions(store: Arc<dyn Store>) {
    let created = put(&store, "a", "1").await;
    put(&store, "b", "other").await;
    let changed = put(&store, "a", "2").await;
    let kv = store.get("a").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, changed, 2));
    assert_eq!((&kv.value[..], kv.lease), (&b"2"[..], None));
}

pub(super) async fn a_key_put_again_after_its_delete_is_created_again(store: Arc<dyn Store>) {
    put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    delete(&store, "a").await;
    let created = put(&store, "a", "3").await;
    let kv = store.get("a").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, created, 1));
}

pub(super) async fn all_operations_share_one_revision(store: Arc<dyn Store>) {
    put(&store, "gone", "1").await;
    let ops = [Op::put("a", "1"), Op::put("b", "2"), Op::delete("gone"), Op::delete("never")];
    let response = store.txn(ops.into_iter().fold(Txn::new(), Txn::then)).await.unwrap();
    assert_eq!((response.succeeded, response.deleted), (true, 1));
    for key in ["a", "b"] {
        assert_eq!(store.get(key).await.unwrap().unwrap().mod_revision, response.revision);
    }
    assert_eq!(revision(&store).await, response.revision);
    assert_eq!(store.get("gone").await.unwrap(), None);
}

pub(super) async fn a_failed_compare_changes_nothing(store: Arc<dyn Store>) {
    let before = put(&store, "a", "1").await;
    let txn = Txn::new()
        .when(Compare::exists("a"))
        .when(Compare::absent("a"))
        .then(Op::put("a", "2"))
        .then(Op::put("b", "2"));
    let response = store.txn(txn).await.unwrap();
    assert_eq!((response.succeeded, response.revision, response.deleted), (false, before, 0));
    assert_eq!(show(&store, "").await, "a=1");
    assert_eq!(revision(&store).await, before);
}

pub(super) async fn a_transaction_that_changes_nothing_has_no_revision(store: Arc<dyn Store>) {
    let before = put(&store, "a", "1").await;
    assert_eq!(apply(&store, []).await, before);
    assert_eq!(apply(&store, [Op::delete("b"), Op::delete_prefix("c/")]).await, before);
    assert_eq!(revision(&store).await, before);
}

pub(super) async fn every_target_and_relation_compares(store: Arc<dyn Store>) {
    let created = put(&store, "a", "m").await;
    let changed = put(&store, "a", "m").await;
    let mut cases = Vec::new();
    let revisions = |revision: Revision| [revision.previous(), revision, revision.next()];
    cases.push(revisions(created).map(Target::CreateRevision));
    cases.push(revisions(changed).map(Target::ModRevision));
    cases.push([1, 2, 3].map(Target::Version));
    cases.push(["l", "m", "ma"].map(|value| Target::Value(value.into())));
    for [below, same, above] in cases {
        let expected = [
            (Relation::Equal, [false, true, false]),
            (Relation::NotEqual, [true, false, true]),
            (Relation::Less, [false, false, true]),
            (Relation::Greater, [true, false, false]),
        ];
        for (relation, holds) in expected {
            for (target, holds) in [&below, &same, &above].into_iter().zip(holds) {
                let compare = Compare::new("a", relation, target.clone());
                let response = store.txn(Txn::new().when(compare.clone())).await.unwrap();
                assert_eq!(response.succeeded, holds, "{compare:?}");
            }
        }
    }
}

pub(super) async fn a_missing_key_compares_as_zero_and_never_by_value(store: Arc<dyn Store>) {
    put(&store, "gone", "1").await;
    delete(&store, "gone").await;
    for key in ["never", "gone"] {
        let cases = [
            (Compare::absent(key), true),
            (Compare::mod_revision(key, Revision::NONE), true),
            (Compare::version(key, 0), true),
            (Compare::exists(key), false),
            (Compare::value(key, ""), false),
            (Compare::new(key, Relation::NotEqual, Target::Value("1".into())), false),
            (Compare::new(key, Relation::Less, Target::Value("1".into())), false),
        ];
        for (compare, holds) in cases {
            let response = store.txn(Txn::new().when(compare.clone())).await.unwrap();
            assert_eq!(response.succeeded, holds, "{compare:?}");
        }
    }
}

pub(super) async fn a_delete_takes_a_prefix_and_no_more(store: Arc<dyn Store>) {
    for key in ["a", "a.", "a/", "a/1", "a/2", "a/é", "a0", "b"] {
        put(&store, key, "").await;
    }
    let response = store.txn(Txn::new().then(Op::delete_prefix("a/"))).await.unwrap();
    assert_eq!(response.deleted, 4);
    assert_eq!(show(&store, "").await, "a= a.= a0= b=");
    apply(&store, [Op::delete_prefix("")]).await;
    assert_eq!(show(&store, "").await, "");
}

pub(super) async fn keys_are_ordered_by_bytes(store: Arc<dyn Store>) {
    for key in ["b", "a\u{10ffff}", "a\0", "a", "Z", "a\u{7f}", "aé"] {
        put(&store, key, "").await;
    }
    assert_eq!(show(&store, "").await, "Z= a= a\0= a\u{7f}= aé= a\u{10ffff}= b=");
    assert_eq!(show(&store, "a\u{10ffff}").await, "a\u{10ffff}=");
}

pub(super) async fn duplicate_keys_are_refused(store: Arc<dyn Store>) {
    put(&store, "a/1", "1").await;
    let cases = [
        [Op::put("a/1", "2"), Op::put("a/1", "2")],
        [Op::put("a/1", "2"), Op::delete("a/1")],
        [Op::delete("a/1"), Op::put("a/1", "2")],
        [Op::delete_prefix("a/"), Op::put("a/1", "2")],
        [Op::put("a/1", "2"), Op::delete_prefix("")],
    ];
    for ops in cases {
        let error = store.txn(ops.into_iter().fold(Txn::new(), Txn::then)).await.unwrap_err();
        assert!(matches!(error, Error::DuplicateKey { ref key } if key == "a/1"), "{error:?}");
    }
    assert_eq!(show(&store, "").await, "a/1=1");
}

pub(super) async fn overlapping_deletes_are_allowed(store: Arc<dyn Store>) {
    put(&store, "a/1", "").await;
    put(&store, "a/2", "").await;
    let ops = [Op::delete("a/1"), Op::delete_prefix("a/"), Op::delete("a/2")];
    let response = store.txn(ops.into_iter().fold(Txn::new(), Txn::then)).await.unwrap();
    assert_eq!(response.deleted, 2);
}

pub(super) async fn too_many_operations_are_refused(store: Arc<dyn Store>) {
    let puts = |count| (0..count).map(|number| Op::put(format!("k{number}"), ""));
    let compares = |count| (0..count).map(|number| Compare::absent(format!("c{number}")));
    let most = puts(MAX_TXN_OPS).fold(compares(MAX_TXN_OPS).fold(Txn::new(), Txn::when), Txn::then);
    assert!(store.txn(most).await.unwrap().succeeded);
    let refused =
        [puts(MAX_TXN_OPS + 1).fold(Txn::new(), Txn::then), compares(MAX_TXN_OPS + 1).fold(Txn::new(), Txn::when)];
    for txn in refused {
        let error = store.txn(txn).await.unwrap_err();
        assert!(matches!(error, Error::TooManyOps { count } if count == MAX_TXN_OPS + 1), "{error:?}");
    }
}

pub(super) async fn too_large_a_transaction_is_refused(store: Arc<dyn Store>) {
    let value = vec![b'x'; MAX_TXN_BYTES - 1];
    let error = store.txn(Txn::new().then(Op::put("ab", value.clone()))).await.unwrap_err();
    assert!(matches!(error, Error::TxnTooLarge { .. }), "{error:?}");
    let halves = Txn::new().then(Op::put("a", &b"y"[..])).then(Op::put("b", value.clone()));
    assert!(matches!(store.txn(halves).await.unwrap_err(), Error::TxnTooLarge { .. }));
    assert_eq!(show(&store, "").await, "");
    apply(&store, [Op::put("a", value)]).await;
}

pub(super) async fn bad_keys_are_refused(store: Arc<dyn Store>) {
    let longest = "k".repeat(MAX_KEY_BYTES);
    put(&store, &longest, "1").await;
    assert!(store.get(&longest).await.unwrap().is_some());
    let too_long = "k".repeat(MAX_KEY_BYTES + 1);
    for op in [Op::put(too_long.as_str(), ""), Op::delete(too_long.as_str()), Op::delete_prefix(too_long.as_str())] {
        assert!(matches!(store.txn(Txn::new().then(op)).await.unwrap_err(), Error::KeyTooLong { .. }));
    }
    for op in [Op::put("", ""), Op::delete("")] {
        assert!(matches!(store.txn(Txn::new().then(op)).await.unwrap_err(), Error::EmptyKey));
    }
    assert!(matches!(store.get("").await.unwrap_err(), Error::EmptyKey));
    assert!(matches!(store.txn(Txn::new().when(Compare::exists(""))).await.unwrap_err(), Error::EmptyKey));
}

pub(super) async fn large_values_come_back(store: Arc<dyn Store>) {
    let value: Vec<u8> =
        (0..1024 * 1024).map(|index: u32| index.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    apply(&store, [Op::put("large", value.clone())]).await;
    put(&store, "small", "1").await;
    assert!(store.get("large").await.unwrap().unwrap().value == value);
}

pub(super) async fn counting_by_compare_and_swap_loses_nothing(store: Arc<dyn Store>) {
    const TASKS: usize = 16;
    const EACH: usize = 10;
    put(&store, "counter", "0").await;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for _ in 0..EACH {
                increment(&store).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(show(&store, "counter").await, format!("counter={}", TASKS * EACH));
    assert_eq!(store.get("counter").await.unwrap().unwrap().version, 1 + (TASKS * EACH) as u64);
}

async fn increment(store: &Arc<dyn Store>) {
    loop {
        let kv = store.get("counter").await.unwrap().unwrap();
        let count: usize = str::from_utf8(&kv.value).unwrap().parse().unwrap();
        let txn = Txn::new()
            .when(Compare::mod_revision("counter", kv.mod_revision))
            .then(Op::put("counter", (count + 1).to_string()));
        if store.txn(txn).await.unwrap().succeeded {
            return;
        }
    }
}

pub(super) async fn concurrent_writers_get_distinct_revisions(store: Arc<dyn Store>) {
    const WRITERS: usize = 100;
    let before = revision(&store).await;
    let mut tasks = JoinSet::new();
    for number in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move { put(&store, &format!("k{number}"), "").await });
    }
    let mut revisions = tasks.join_all().await;
    revisions.sort();
    let expected: Vec<_> = (1..=WRITERS as u64).map(|step| Revision::new(before.get() + step)).collect();
    assert_eq!(revisions, expected);
}
