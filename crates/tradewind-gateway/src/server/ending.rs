//! How the connections of a thread learn that it takes no more requests.
//!
//! Each of them asks whenever it does something, so the asking must cost nothing: a cancellation token takes a lock for
//! it, this looks at a flag.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::{Notify, futures::Notified};

use crate::http1;

#[derive(Debug, Default)]
pub(super) struct Ending {
    begun: Cell<bool>,
    told: Notify,
}

impl Ending {
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.told.notify_waiters();
    }

    /// Resolves when it begins. To be polled by one task alone: that one is woken which polled first.
    pub(super) fn told(&self) -> Told<'_> {
        Told { ending: self, notified: Box::pin(self.told.notified()), waits: false }
    }
}

#[derive(Debug)]
pub(super) struct Told<'a> {
    ending: &'a Ending,
    notified: Pin<Box<Notified<'a>>>,
    waits: bool,
}

impl http1::server::Ending for Told<'_> {
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> bool {
        Pin::new(self).poll(cx).is_ready()
    }
}

impl Future for Told<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending.begun.get() {
            return Poll::Ready(());
        }
        if self.waits {
            return Poll::Pending;
        }
        self.waits = true;
        self.notified.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_and_who_comes_later_are_told() {
        let ending = Ending::default();
        let mut told = ending.told();
        assert!(futures_util::poll!(&mut told).is_pending());
        let waits = async {
            tokio::join!(told, ending.told());
        };
        tokio::join!(waits, async { ending.begin() });
        ending.told().await;
    }
}
