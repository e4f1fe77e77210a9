//! SQLite passes the suite of every backend.

use std::sync::Arc;

use tempfile::TempDir;
use tradewind_store::{SqliteOptions, SqliteStore, Store};

tradewind_store::conformance_tests!(super::make);

async fn make() -> (Arc<dyn Store>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap();
    (Arc::new(store), directory)
}
