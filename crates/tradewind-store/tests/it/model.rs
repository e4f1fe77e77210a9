//! The store against a model that keeps every revision as a map of its own.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use proptest::{collection::vec, prelude::*, sample::select};
use tempfile::tempdir;
use tradewind_store::{Compare, Error, Event, KeyValue, Op, Range, Revision, Selector, SqliteStore, Store, Txn, Watch};

use crate::open;

type Keys = BTreeMap<String, KeyValue>;

#[derive(Debug, Clone)]
enum Step {
    Txn(Txn),
    /// Compacts at so many percent of the revisions so far.
    Compact(u64),
    Reopen,
}

/// What every revision looked like; the first is the empty store's.
struct Model {
    first: Revision,
    history: Vec<Keys>,
    compacted: Revision,
}

impl Model {
    fn revision(&self) -> Revision {
        Revision::new(self.first.get() + self.history.len() as u64 - 1)
    }

    fn at(&self, revision: Revision) -> &Keys {
        &self.history[(revision.get() - self.first.get()) as usize]
    }

    /// Applies what the store should have accepted; says whether the compares held.
    fn txn(&mut self, txn: &Txn) -> bool {
        let now = self.at(self.revision());
        if !txn.compares.iter().all(|compare| holds(now, compare)) {
            return false;
        }
        let (mut then, revision) = (now.clone(), self.revision().next());
        let mut changed = false;
        for op in &txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    let former = now.get(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: former.map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: former.map_or(0, |kv| kv.version) + 1,
                        lease: *lease,
                    };
                    then.insert(key.clone(), kv);
                    changed = true;
                }
                Op::Delete(selector) => {
                    let before = then.len();
                    then.retain(|key, _| !selector.contains(key));
                    changed |= then.len() != before;
                }
            }
        }
        if changed {
            self.history.push(then);
        }
        true
    }

    /// What changed at a revision, by key.
    fn changes(&self, revision: Revision) -> BTreeMap<String, (Option<KeyValue>, Option<KeyValue>)> {
        let (before, after) = (self.at(revision.previous()), self.at(revision));
        let keys = before.keys().chain(after.keys());
        keys.filter(|key| before.get(*key) != after.get(*key))
            .map(|key| (key.clone(), (before.get(key).cloned(), after.get(key).cloned())))
            .collect()
    }
}

fn holds(now: &Keys, compare: &Compare) -> bool {
    use tradewind_store::Target;
    let kv = now.get(&compare.key);
    let relation = compare.relation;
    match &compare.target {
        Target::CreateRevision(wanted) => relation.holds(&kv.map_or(Revision::NONE, |kv| kv.create_revision), wanted),
        Target::ModRevision(wanted) => relation.holds(&kv.map_or(Revision::NONE, |kv| kv.mod_revision), wanted),
        Target::Version(wanted) => relation.holds(&kv.map_or(0, |kv| kv.version), wanted),
        Target::Value(wanted) => kv.is_some_and(|kv| relation.holds(&kv.value, wanted)),
    }
}

fn key() -> impl Strategy<Value = String> {
    select(vec!["a", "a/", "a/1", "a/2", "a/é", "a0", "b", "b/1"]).prop_map(str::to_owned)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (key(), vec(any::<u8>(), 0..4)).prop_map(|(key, value)| Op::put(key, value)),
        2 => key().prop_map(Op::delete),
        1 => select(vec!["a/", "b", "a", ""]).prop_map(Op::delete_prefix),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let revision = (0..40_u64).prop_map(Revision::new);
    prop_oneof![
        3 => key().prop_map(Compare::exists),
        2 => key().prop_map(Compare::absent),
        1 => (key(), 0..4_u64).prop_map(|(key, version)| Compare::version(key, version)),
        1 => (key(), revision).prop_map(|(key, revision)| Compare::mod_revision(key, revision)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (vec(compare(), 0..2), vec(op(), 0..5)).prop_map(|(compares, ops)| Step::Txn(Txn { compares, ops })),
        1 => (0..=100_u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

async fn check_reads(store: &SqliteStore, model: &Model) {
    for number in model.first.get()..=model.revision().get() {
        let at = Revision::new(number);
        for prefix in ["", "a/", "b"] {
            let read = store.range(Range::prefix(prefix).at(at)).await;
            if at < model.compacted {
                assert!(matches!(read, Err(Error::Compacted { .. })));
                continue;
            }
            let selector = Selector::Prefix(prefix.to_owned());
            let expected = model.at(at).values().filter(|kv| selector.contains(&kv.key)).cloned();
            assert_eq!(read.unwrap().kvs, expected.collect::<Vec<_>>(), "{prefix} at {at}");
        }
    }
}

async fn check_watch(store: &SqliteStore, model: &Model) {
    let from = model.first.max(model.compacted).next();
    let mut watch = store.watch(Watch::new("", from)).await.unwrap();
    for number in from.get()..=model.revision().get() {
        let batch = watch.next().await.unwrap().unwrap();
        assert_eq!(batch.revision.get(), number);
        let events = batch.events.iter().map(|event| {
            let now = if let Event::Put { now, .. } = event { Some(now.clone()) } else { None };
            (event.key().to_owned(), (event.prev().cloned(), now))
        });
        assert_eq!(events.collect::<BTreeMap<_, _>>(), model.changes(batch.revision));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(steps: Vec<Step>) {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path());
    let first = store.list("").await.unwrap().revision;
    let mut model = Model { first, history: vec![Keys::new()], compacted: Revision::NONE };
    for step in steps {
        match step {
            Step::Txn(txn) if txn.check().is_err() => {
                assert!(matches!(store.txn(txn).await, Err(Error::DuplicateKey { .. })));
            }
            Step::Txn(txn) => {
                let succeeded = model.txn(&txn);
                let response = store.txn(txn).await.unwrap();
                assert_eq!((response.succeeded, response.revision), (succeeded, model.revision()));
            }
            Step::Compact(percent) => {
                let span = model.revision().get() - model.first.get();
                let revision = Revision::new(model.first.get() + span * percent / 100);
                assert_eq!(store.compact(revision).await.is_ok(), revision > model.compacted);
                model.compacted = model.compacted.max(revision);
            }
            Step::Reopen => {
                store.close().await;
                store = open(directory.path());
            }
        }
    }
    check_reads(&store, &model).await;
    check_watch(&store, &model).await;
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_as_the_model(steps in vec(step(), 1..40)) {
        run(steps);
    }
}
