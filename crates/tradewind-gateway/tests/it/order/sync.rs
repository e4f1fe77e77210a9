//! What `src/sync.rs` offers, as loom sees it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Poll, Waker},
    time::Duration,
};

use loom::sync::Mutex;
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// What tokio's promises at the least: one permit is kept, however many were given, and somebody who waits gets it.
#[derive(Debug, Default)]
pub(super) struct Notify {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    permit: bool,
    waiting: Vec<Waker>,
}

impl Notify {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn notify_one(&self) {
        let waiting = {
            let mut state = self.state.lock().unwrap();
            state.permit = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn notified(&self) -> impl Future<Output = ()> {
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap();
            if std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// Without a clock: no time at all is over at once, any other time never.
pub(super) async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, ()> {
    let mut future = pin!(future);
    if !time.is_zero() {
        return Ok(future.await);
    }
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => Poll::Ready(Err(())),
    })
    .await
}
