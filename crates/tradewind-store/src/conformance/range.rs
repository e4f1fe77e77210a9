//! Reads: pinned, paged, and what compaction leaves of them.

use std::sync::Arc;

use super::{apply, delete, put, revision, show, show_all};
use crate::{Error, MAX_PAGE_KEYS, Op, Range, Revision, Store, Txn};

pub(super) async fn a_missing_key_is_no_error(store: Arc<dyn Store>) {
    let written = put(&store, "ab", "1").await;
    let response = store.range(Range::key("a")).await.unwrap();
    assert_eq!((response.kvs.len(), response.more, response.count, response.revision), (0, false, 0, written));
    assert_eq!(store.get("a").await.unwrap(), None);
}

pub(super) async fn an_empty_prefix_is_everything(store: Arc<dyn Store>) {
    put(&store, "a", "1").await;
    put(&store, "\u{10ffff}", "2").await;
    assert_eq!(show(&store, "").await, "a=1 \u{10ffff}=2");
}

pub(super) async fn a_pinned_read_sees_the_past(store: Arc<dyn Store>) {
    let nothing = revision(&store).await;
    let first = put(&store, "a", "1").await;
    let second = apply(&store, [Op::put("a", "2"), Op::put("b", "2")]).await;
    let third = delete(&store, "a").await;
    let fourth = put(&store, "a", "4").await;
    let expected = [(nothing, ""), (first, "a=1"), (second, "a=2 b=2"), (third, "b=2"), (fourth, "a=4 b=2")];
    for (at, expected) in expected {
        let response = store.range(Range::prefix("").at(at)).await.unwrap();
        assert_eq!((show_all(&response.kvs).as_str(), response.revision), (expected, at));
        let count = store.range(Range::prefix("").at(at).count_only()).await.unwrap().count;
        assert_eq!(count, response.kvs.len() as u64);
        let single = store.range(Range::key("a").at(at)).await.unwrap();
        assert_eq!(single.kvs.first(), response.kvs.iter().find(|kv| kv.key == "a"));
    }
}

pub(super) async fn a_read_in_the_future_is_refused(store: Arc<dyn Store>) {
    let current = put(&store, "a", "1").await;
    let error = store.range(Range::key("a").at(current.next())).await.unwrap_err();
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
    let error = store.compact(current.next()).await.unwrap_err();
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
}

pub(super) async fn a_compacted_read_is_refused(store: Arc<dyn Store>) {
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    put(&store, "a", "3").await;
    store.compact(second).await.unwrap();
    let error = store.range(Range::key("a").at(first)).await.unwrap_err();
    assert!(matches!(error, Error::Compacted { .. }), "{error:?}");
    let response = store.range(Range::key("a").at(second)).await.unwrap();
    assert_eq!(show_all(&response.kvs), "a=2");
}

pub(super) async fn compaction_keeps_what_is_current(store: Arc<dyn Store>) {
    let kept = put(&store, "kept", "1").await;
    put(&store, "changed", "1").await;
    put(&store, "gone", "1").await;
    put(&store, "changed", "2").await;
    let last = delete(&store, "gone").await;
    store.compact(last).await.unwrap();
    assert_eq!(show(&store, "").await, "changed=2 kept=1");
    let kv = store.get("kept").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.version), (kept, 1));
    assert_eq!(put(&store, "gone", "2").await, last.next());
    assert_eq!(store.get("gone").await.unwrap().unwrap().version, 1);
}

pub(super) async fn compaction_goes_forward_only(store: Arc<dyn Store>) {
    let first = put(&store, "a", "1").await;
    let second = put(&store, "a", "2").await;
    store.compact(second).await.unwrap();
    for revision in [first, second] {
        let error = store.compact(revision).await.unwrap_err();
        assert!(matches!(error, Error::Compacted { compact_revision } if compact_revision == second), "{error:?}");
    }
}

pub(super) async fn pages_cover_a_prefix_once(store: Arc<dyn Store>) {
    fill(&store, "p/", 25).await;
    put(&store, "q", "").await;
    let mut range = Range::prefix("p/").limit(7);
    let mut keys = Vec::new();
    loop {
        let page = store.range(range.clone()).await.unwrap();
        assert!(page.kvs.len() <= 7);
        assert_eq!(page.count, page.kvs.len() as u64);
        keys.extend(page.kvs.into_iter().map(|kv| kv.key));
        if !page.more {
            break;
        }
        range = range.after(keys.last().unwrap().as_str());
    }
    let expected: Vec<_> = (0..25).map(|number| format!("p/{number:05}")).collect();
    assert_eq!(keys, expected);
    let behind = store.range(Range::prefix("p/").after("p/00024")).await.unwrap();
    assert_eq!((behind.kvs.len(), behind.more), (0, false));
}

pub(super) async fn pages_at_a_pinned_revision_ignore_later_changes(store: Arc<dyn Store>) {
    let pinned = fill(&store, "p/", 6).await;
    let first = store.range(Range::prefix("p/").at(pinned).limit(3)).await.unwrap();
    assert!(first.more);
    delete(&store, "p/00004").await;
    put(&store, "p/00003x", "new").await;
    put(&store, "p/00005", "changed").await;
    let rest = store.range(Range::prefix("p/").at(pinned).after("p/00002")).await.unwrap();
    assert_eq!(show_all(&rest.kvs), "p/00003=3 p/00004=4 p/00005=5");
}

pub(super) async fn large_pages_end_early_and_miss_nothing(store: Arc<dyn Store>) {
    let count = MAX_PAGE_KEYS + 100;
    fill(&store, "many/", count).await;
    let page = store.range(Range::prefix("many/").limit(usize::MAX)).await.unwrap();
    assert!(page.more && page.kvs.len() <= MAX_PAGE_KEYS);
    assert_eq!(store.list("many/").await.unwrap().kvs.len(), count);
    for number in 0..8 {
        apply(&store, [Op::put(format!("large/{number}"), vec![number; 900_000])]).await;
    }
    let listing = store.list("large/").await.unwrap();
    assert!(listing.kvs.iter().zip(0..).all(|(kv, number)| kv.value == vec![number; 900_000]));
    assert_eq!(listing.kvs.len(), 8);
}

pub(super) async fn keys_only_leaves_values_out(store: Arc<dyn Store>) {
    let written = put(&store, "a", "1").await;
    let page = store.range(Range::prefix("").keys_only()).await.unwrap();
    assert_eq!(show_all(&page.kvs), "a=");
    assert_eq!((page.kvs[0].mod_revision, page.kvs[0].version), (written, 1));
}

pub(super) async fn count_ignores_the_limit(store: Arc<dyn Store>) {
    fill(&store, "p/", 12).await;
    let page = store.range(Range::prefix("p/").limit(2).count_only()).await.unwrap();
    assert_eq!((page.count, page.kvs.len(), page.more), (12, 0, false));
}

pub(super) async fn stats_count_transactions(store: Arc<dyn Store>) {
    let before = store.stats().await.unwrap();
    put(&store, "a", "1").await;
    store.txn(Txn::new().then(Op::delete("never"))).await.unwrap();
    delete(&store, "a").await;
    let after = store.stats().await.unwrap();
    assert_eq!(after.transactions - before.transactions, 2);
    assert!(after.bytes > 0);
}

pub(super) async fn incarnation_stays(store: Arc<dyn Store>) {
    let before = store.incarnation().await.unwrap();
    put(&store, "a", "1").await;
    assert_eq!(store.incarnation().await.unwrap(), before);
    store.health().await.unwrap();
}

/// Puts so many keys, each with its number as value, and returns the last revision.
async fn fill(store: &Arc<dyn Store>, prefix: &str, count: usize) -> Revision {
    let mut last = Revision::NONE;
    let numbers: Vec<_> = (0..count).collect();
    for numbers in numbers.chunks(100) {
        last = apply(store, numbers.iter().map(|number| Op::put(format!("{prefix}{number:05}"), number.to_string())))
            .await;
    }
    last
}
