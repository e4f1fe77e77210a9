//! The cases that every backend passes: the contract of this crate, executable.
//!
//! A backend's tests give a function that makes a store, and something that must live as long as it:
//!
//! ```text
//! tradewind_store::conformance_tests!(make_store);
//!
//! async fn make_store() -> (Arc<dyn Store>, impl Send) { .. }
//! ```
//!
//! Each case has its store for itself: nobody else writes to it meanwhile, and keys of earlier cases are gone.

#![expect(clippy::unwrap_used, reason = "a case that fails panics")]

mod lease;
mod range;
mod txn;
mod watch;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture};
use tokio::time::timeout;

use crate::{Batch, Error, Event, Op, Revision, Store, Txn, WatchStream};

/// Ten times what the slowest case waits for.
const DEADLINE: Duration = Duration::from_secs(30);

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(Arc<dyn Store>) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($d:tt $($group:ident { $($name:ident),+ $(,)? })+) => {
        /// Every case. A case that fails panics.
        pub const CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($group), "::", stringify!($name)),
                run: |store| Box::pin($group::$name(store)),
            },
        )+)+];

        /// Makes one `#[test]` of each case, given the path of a function that makes a store.
        #[macro_export]
        macro_rules! conformance_tests {
            ($d make:path) => {
                $(mod $group {
                    $(#[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let (store, _keep) = $d make().await;
                        let name = concat!(stringify!($group), "::", stringify!($name));
                        $crate::conformance::run_one(name, store).await;
                    })+
                })+
            };
        }
    };
}

cases! { $
    txn {
        a_change_has_one_revision,
        a_put_counts_versions,
        a_key_put_again_after_its_delete_is_created_again,
        all_operations_share_one_revision,
        a_failed_compare_changes_nothing,
        a_transaction_that_changes_nothing_has_no_revision,
        every_target_and_relation_compares,
        a_missing_key_compares_as_zero_and_never_by_value,
        a_delete_takes_a_prefix_and_no_more,
        keys_are_ordered_by_bytes,
        duplicate_keys_are_refused,
        overlapping_deletes_are_allowed,
        too_many_operations_are_refused,
        too_large_a_transaction_is_refused,
        bad_keys_are_refused,
        large_values_come_back,
        counting_by_compare_and_swap_loses_nothing,
        concurrent_writers_get_distinct_revisions,
    }
    range {
        a_missing_key_is_no_error,
        an_empty_prefix_is_everything,
        a_pinned_read_sees_the_past,
        a_read_in_the_future_is_refused,
        a_compacted_read_is_refused,
        compaction_keeps_what_is_current,
        compaction_goes_forward_only,
        pages_cover_a_prefix_once,
        pages_at_a_pinned_revision_ignore_later_changes,
        large_pages_end_early_and_miss_nothing,
        keys_only_leaves_values_out,
        count_ignores_the_limit,
        stats_count_transactions,
        incarnation_stays,
    }
    watch {
        changes_arrive_in_order,
        a_batch_is_a_whole_transaction,
        events_carry_what_was_before,
        other_prefixes_are_left_out,
        a_watch_resumes_in_the_past,
        a_watch_may_begin_in_the_future,
        a_watch_goes_from_history_to_live_without_gap,
        a_compacted_start_ends_the_watch,
        a_live_watch_survives_compaction,
        a_lagging_watch_catches_up,
        large_changes_arrive,
        a_deleted_prefix_arrives_whole,
        list_then_watch_follows,
        list_then_watch_lists_again_after_compaction,
    }
    lease {
        keys_live_while_the_lease_is_kept_alive,
        an_expired_lease_takes_its_keys_in_one_revision,
        revoke_takes_its_keys_in_one_revision,
        a_lease_without_keys_ends_without_a_revision,
        a_put_with_an_unknown_lease_changes_nothing,
        an_ended_lease_is_not_found,
        a_put_without_lease_detaches,
        a_put_with_another_lease_moves_the_key,
        the_create_revision_of_a_leased_key_guards,
    }
}

/// Runs every case, each with a store of its own.
pub async fn run<K>(make: impl AsyncFn() -> (Arc<dyn Store>, K)) {
    for case in CASES {
        let (store, _keep) = make().await;
        run_one(case.name, store).await;
    }
}

/// Runs the case of this name.
pub async fn run_one(name: &str, store: Arc<dyn Store>) {
    let case = CASES.iter().find(|case| case.name == name).expect("there is a case of this name");
    (case.run)(store).await;
}

async fn apply(store: &Arc<dyn Store>, ops: impl IntoIterator<Item = Op>) -> Revision {
    let response = store.txn(ops.into_iter().fold(Txn::new(), Txn::then)).await.expect("the transaction is taken");
    assert!(response.succeeded);
    response.revision
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    apply(store, [Op::put(key, value.to_owned())]).await
}

async fn delete(store: &Arc<dyn Store>, key: &str) -> Revision {
    apply(store, [Op::delete(key)]).await
}

/// The newest revision.
async fn revision(store: &Arc<dyn Store>) -> Revision {
    store.range(crate::Range::key("any")).await.expect("a read").revision
}

/// Keys and values under a prefix, now, as `key=value key=value`.
async fn show(store: &Arc<dyn Store>, prefix: &str) -> String {
    let listing = store.list(prefix).await.expect("a list");
    show_all(&listing.kvs)
}

fn show_all(kvs: &[crate::KeyValue]) -> String {
    let shown: Vec<_> = kvs.iter().map(|kv| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value))).collect();
    shown.join(" ")
}

async fn next(watch: &mut WatchStream) -> Batch {
    let item = timeout(DEADLINE, watch.next()).await.expect("the watch says something in time");
    item.expect("the watch goes on").expect("the watch is not compacted")
}

/// The revision at which the watch was compacted; it must have ended for that reason, and say no more.
async fn compacted(watch: &mut WatchStream) -> Revision {
    let item = timeout(DEADLINE, watch.next()).await.expect("the watch ends in time");
    let Some(Err(Error::Compacted { compact_revision })) = item else { panic!("expected a compacted watch: {item:?}") };
    assert!(timeout(DEADLINE, watch.next()).await.expect("the stream ends").is_none());
    compact_revision
}

/// Events as `+key=value -key`.
fn show_events(batch: &Batch) -> String {
    let shown = batch.events.iter().map(|event| match event {
        Event::Put { now, .. } => {
            assert_eq!(now.mod_revision, batch.revision);
            format!("+{}={}", now.key, String::from_utf8_lossy(&now.value))
        }
        Event::Delete { key, .. } => format!("-{key}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}
