//! The embedded store, seen from outside.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod conformance;
mod durability;
mod follow;
mod lease_time;
mod model;
mod readers;
mod size;
mod snapshot;

use std::path::Path;

use tradewind_store::{Op, Revision, SqliteOptions, SqliteStore, Store, Txn};

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory, SqliteOptions::default()).unwrap()
}

async fn put(store: &dyn Store, key: &str, value: impl Into<Vec<u8>>) -> Revision {
    store.txn(Txn::new().then(Op::put(key, value.into()))).await.unwrap().revision
}

/// Every key that the store has now.
async fn keys(store: &dyn Store) -> Vec<String> {
    store.list("").await.unwrap().kvs.into_iter().map(|kv| kv.key).collect()
}
