//! Reads share a few connections, and writes one queue.

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use tradewind_store::{Op, Store, Txn};

use super::open;

const DEADLINE: Duration = Duration::from_secs(20);

/// Polls every future once, and no more.
async fn begin<F: Future + Unpin>(futures: &mut [F]) {
    std::future::poll_fn(|context| {
        for future in &mut *futures {
            let _ = Pin::new(future).poll(context);
        }
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn reads_that_nobody_polls_hold_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut abandoned: Vec<_> = (0..32).map(|_| store.get("key")).collect();
    begin(&mut abandoned).await;
    let read = tokio::time::timeout(DEADLINE, store.get("key")).await.expect("the store answers");
    assert_eq!(read.unwrap(), None);
    drop(abandoned);
}

#[tokio::test]
async fn writes_that_nobody_polls_hold_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // More than the queue holds, twice over: those that wait to be let in are let in, and not polled then.
    let put = |n: usize| store.txn(Txn::new().then(Op::put(format!("abandoned/{n}"), "")));
    let mut abandoned: Vec<_> = (0..1000).map(put).collect();
    begin(&mut abandoned).await;
    let write = store.txn(Txn::new().then(Op::put("key", "")));
    let written = tokio::time::timeout(DEADLINE, write).await.expect("the store answers").unwrap();
    assert!(written.succeeded);
    drop(abandoned);
}
