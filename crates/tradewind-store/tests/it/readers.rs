//! Reads share a few connections.

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use tradewind_store::Store;

use super::open;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn reads_that_nobody_polls_hold_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut abandoned: Vec<_> = (0..32).map(|_| store.get("key")).collect();
    std::future::poll_fn(|context| {
        for read in &mut abandoned {
            let _ = Pin::new(read).poll(context);
        }
        Poll::Ready(())
    })
    .await;
    let read = tokio::time::timeout(DEADLINE, store.get("key")).await.expect("the store answers");
    assert_eq!(read.unwrap(), None);
    drop(abandoned);
}
