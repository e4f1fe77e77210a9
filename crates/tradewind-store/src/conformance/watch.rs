//! Watches: order, wholeness, resumption, compaction.

use std::{future::Future, sync::Arc};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::time::timeout;

use super::{DEADLINE, apply, compacted, delete, next, put, revision, show_all, show_events};
use crate::{Op, Revision, Store, Update, Watch, WatchStream, list_then_watch};

pub(super) async fn changes_arrive_in_order(store: Arc<dyn Store>) {
    let mut watch = watch_now(&store, "").await;
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    let third = delete(&store, "a").await;
    for (revision, expected) in [(first, "+a=1"), (second, "+a=2"), (third, "-a")] {
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, show_events(&batch).as_str()), (revision, expected));
    }
}

pub(super) async fn a_batch_is_a_whole_transaction(store: Arc<dyn Store>) {
    put(&store, "b", "0").await;
    let from = revision(&store).await.next();
    let mut live = watch_from(&store, "", from).await;
    apply(&store, [Op::put("c", "1"), Op::delete("b"), Op::put("a", "1"), Op::delete("never")]).await;
    let batch = next(&mut live).await;
    let mut events: Vec<_> = batch.events.iter().map(|event| (event.key(), event.is_put())).collect();
    events.sort();
    assert_eq!(events, [("a", true), ("b", false), ("c", true)]);
    let mut resumed = watch_from(&store, "", from).await;
    assert_eq!(next(&mut resumed).await, batch);
}

pub(super) async fn events_carry_what_was_before(store: Arc<dyn Store>) {
    let from = revision(&store).await.next();
    let mut live = watch_from(&store, "", from).await;
    put(&store, "a", "1").await;
    let first = store.get("a").await.unwrap();
    put(&store, "a", "2").await;
    let second = store.get("a").await.unwrap();
    delete(&store, "a").await;
    put(&store, "a", "3").await;
    let mut resumed = watch_from(&store, "", from).await;
    for watch in [&mut live, &mut resumed] {
        for expected in [&None, &first, &second, &None] {
            let batch = next(watch).await;
            assert_eq!(batch.events[0].prev(), expected.as_ref());
        }
    }
}

pub(super) async fn other_prefixes_are_left_out(store: Arc<dyn Store>) {
    let from = revision(&store).await.next();
    let mut live = watch_from(&store, "b/", from).await;
    put(&store, "a", "1").await;
    put(&store, "b", "1").await;
    apply(&store, [Op::put("b/1", "1"), Op::put("b0", "1"), Op::put("c", "1")]).await;
    put(&store, "c", "2").await;
    put(&store, "b/2", "1").await;
    let mut resumed = watch_from(&store, "b/", from).await;
    for watch in [&mut live, &mut resumed] {
        for expected in ["+b/1=1", "+b/2=1"] {
            assert_eq!(show_events(&next(watch).await), expected);
        }
    }
}

pub(super) async fn a_watch_resumes_in_the_past(store: Arc<dyn Store>) {
    let mut revisions = Vec::new();
    for number in 0..10 {
        revisions.push(put(&store, "a", &number.to_string()).await);
    }
    let mut watch = watch_from(&store, "a", revisions[4]).await;
    for (number, revision) in revisions.into_iter().enumerate().skip(4) {
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, show_events(&batch)), (revision, format!("+a={number}")));
    }
}

pub(super) async fn a_watch_may_begin_in_the_future(store: Arc<dyn Store>) {
    let now = revision(&store).await;
    let from = Revision::new(now.get() + 3);
    let mut watch = watch_from(&store, "", from).await;
    for number in 1..=3 {
        put(&store, "a", &number.to_string()).await;
    }
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, show_events(&batch).as_str()), (from, "+a=3"));
}

pub(super) async fn a_watch_goes_from_history_to_live_without_gap(store: Arc<dyn Store>) {
    const WRITES: usize = 300;
    let from = revision(&store).await.next();
    let writer = async {
        for number in 0..WRITES {
            put(&store, "a", &number.to_string()).await;
        }
    };
    let watches = async {
        for _ in 0..10 {
            let mut watch = watch_from(&store, "", from).await;
            for step in 0..30 {
                assert_eq!(next(&mut watch).await.revision.get(), from.get() + step);
            }
        }
        let mut watch = watch_from(&store, "", from).await;
        for number in 0..WRITES {
            assert_eq!(show_events(&next(&mut watch).await), format!("+a={number}"));
        }
    };
    both(writer, watches).await;
}

pub(super) async fn a_compacted_start_ends_the_watch(store: Arc<dyn Store>) {
    let first = put(&store, "a", "1").await;
    put(&store, "a", "2").await;
    let third = delete(&store, "a").await;
    let fourth = put(&store, "b", "4").await;
    store.compact(third).await.unwrap();
    // From the compact revision too: the delete at it may be gone, and a cache that missed it stays wrong.
    for from in [first, third] {
        assert_eq!(compacted(&mut watch_from(&store, "", from).await).await, third);
    }
    assert_eq!(next(&mut watch_from(&store, "", third.next()).await).await.revision, fourth);
}

pub(super) async fn a_live_watch_survives_compaction(store: Arc<dyn Store>) {
    let mut watch = watch_now(&store, "").await;
    put(&store, "a", "1").await;
    assert_eq!(show_events(&next(&mut watch).await), "+a=1");
    let last = put(&store, "a", "2").await;
    assert_eq!(show_events(&next(&mut watch).await), "+a=2");
    store.compact(last).await.unwrap();
    put(&store, "a", "3").await;
    assert_eq!(show_events(&next(&mut watch).await), "+a=3");
}

pub(super) async fn a_lagging_watch_catches_up(store: Arc<dyn Store>) {
    const WRITES: usize = 1000;
    let mut watch = watch_now(&store, "").await;
    put(&store, "first", "").await;
    assert_eq!(show_events(&next(&mut watch).await), "+first=");
    for number in 0..WRITES {
        put(&store, "a", &number.to_string()).await;
    }
    for number in 0..WRITES {
        assert_eq!(show_events(&next(&mut watch).await), format!("+a={number}"));
    }
}

pub(super) async fn large_changes_arrive(store: Arc<dyn Store>) {
    let mut watch = watch_now(&store, "").await;
    for number in 0..6 {
        apply(&store, [Op::put("large", vec![number; 1_000_000])]).await;
        put(&store, "small", "1").await;
    }
    for number in 0..6 {
        let large = next(&mut watch).await;
        let kv = large.events[0].now().unwrap();
        assert!(kv.value == vec![number; 1_000_000]);
        assert_eq!(show_events(&next(&mut watch).await), "+small=1");
    }
}

pub(super) async fn a_deleted_prefix_arrives_whole(store: Arc<dyn Store>) {
    const KEYS: usize = 2000;
    let numbers: Vec<_> = (0..KEYS).collect();
    for numbers in numbers.chunks(100) {
        apply(&store, numbers.iter().map(|number| Op::put(format!("p/{number:05}"), ""))).await;
    }
    let mut watch = watch_now(&store, "").await;
    let deleted = apply(&store, [Op::delete_prefix("p/")]).await;
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (deleted, KEYS));
    assert!(batch.events.iter().all(|event| !event.is_put()));
}

pub(super) async fn list_then_watch_follows(store: Arc<dyn Store>) {
    put(&store, "p/1", "1").await;
    put(&store, "other", "1").await;
    let mut updates = list_then_watch(Arc::clone(&store), "p/");
    let Update::Reset(listing) = update(&mut updates).await else { panic!("the first update is a list") };
    assert_eq!(show_all(&listing.kvs), "p/1=1");
    put(&store, "other", "2").await;
    put(&store, "p/2", "2").await;
    delete(&store, "p/1").await;
    for expected in ["+p/2=2", "-p/1"] {
        let Update::Changes(batch) = update(&mut updates).await else { panic!("changes follow") };
        assert_eq!(show_events(&batch), expected);
    }
}

pub(super) async fn list_then_watch_lists_again_after_compaction(store: Arc<dyn Store>) {
    put(&store, "p/gone", "1").await;
    let mut updates = list_then_watch(Arc::clone(&store), "p/");
    assert!(matches!(update(&mut updates).await, Update::Reset(_)));
    // More than any backend keeps for a watch that does not read, so that it must look at what is compacted.
    for number in 0..1000 {
        put(&store, "p/a", &number.to_string()).await;
    }
    let last = delete(&store, "p/gone").await;
    store.compact(last).await.unwrap();
    // A backend may have buffered some changes. What counts is that in the end nothing stale is left.
    let mut known: std::collections::BTreeMap<String, String> = [("p/gone".to_owned(), "1".to_owned())].into();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let expected = std::collections::BTreeMap::from([("p/a".to_owned(), "999".to_owned())]);
    while known != expected {
        match update(&mut updates).await {
            Update::Reset(listing) => known = listing.kvs.iter().map(|kv| (kv.key.clone(), text(&kv.value))).collect(),
            Update::Changes(batch) => {
                for event in &batch.events {
                    match event.now() {
                        Some(kv) => known.insert(kv.key.clone(), text(&kv.value)),
                        None => known.remove(event.key()),
                    };
                }
            }
        }
    }
    put(&store, "p/b", "1").await;
    let Update::Changes(batch) = update(&mut updates).await else { panic!("changes follow") };
    assert_eq!(show_events(&batch), "+p/b=1");
}

async fn watch_from(store: &Arc<dyn Store>, prefix: &str, from: Revision) -> WatchStream {
    store.watch(Watch::new(prefix, from)).await.expect("the watch opens")
}

async fn watch_now(store: &Arc<dyn Store>, prefix: &str) -> WatchStream {
    watch_from(store, prefix, revision(store).await.next()).await
}

async fn update(updates: &mut BoxStream<'static, Update>) -> Update {
    timeout(DEADLINE, updates.next()).await.expect("an update in time").expect("the stream goes on")
}

async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    timeout(DEADLINE, async { tokio::join!(one, other) }).await.expect("both end in time");
}
