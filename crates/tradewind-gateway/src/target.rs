//! Something that requests are sent to: a replica, or a gateway of another region.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Target {
    /// host:port
    address: String,
    healthy: AtomicBool,
    in_flight: AtomicUsize,
    /// Probes found it dead: who waits for its answer should look elsewhere.
    lost: Notify,
    /// Somebody wants a probe at once.
    recheck: Notify,
}

impl Target {
    /// New targets count as healthy: whoever told of them has seen them answer, and the first failed connection says
    /// otherwise.
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            healthy: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            lost: Notify::new(),
            recheck: Notify::new(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// A connection could not be made: down until probes say otherwise.
    pub(crate) fn condemn(&self) {
        if self.healthy.swap(false, Ordering::AcqRel) {
            self.recheck.notify_one();
        }
    }

    /// The verdict of the probes.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
        if !healthy {
            self.lost.notify_waiters();
        }
    }

    pub(crate) fn want_probe(&self) {
        self.recheck.notify_one();
    }

    pub(crate) async fn probe_wanted(&self) {
        self.recheck.notified().await;
    }

    /// Resolves when probes find the target dead after this call.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }
}

/// One request on its way; counts until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Target>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
