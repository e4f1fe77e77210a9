//! Leases live in memory: a lease means that a process lives, and the file lock tells when this one does not.
//!
//! A lease that is to end is marked first, and puts that name it are refused from then on; the end itself queues for
//! the writer behind the puts that still saw it alive, so no key is left behind.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::writer::{Work, Writer};
use crate::{Error, Lease, LeaseId, MAX_LEASE_TTL, MAX_LEASES, MIN_LEASE_TTL, Result};

/// When to try again to end a lease whose keys could not be deleted, such as on a full disk.
const END_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Leases {
    table: Mutex<HashMap<LeaseId, Entry>>,
    granted: Notify,
}

#[derive(Debug)]
struct Entry {
    ttl: Duration,
    /// When to end it.
    deadline: Instant,
    ending: bool,
}

impl Leases {
    pub(super) fn grant(&self, ttl: Duration) -> Result<Lease> {
        let ttl = ttl.clamp(MIN_LEASE_TTL, MAX_LEASE_TTL);
        let mut table = self.table();
        if table.len() >= MAX_LEASES {
            return Err(Error::TooManyLeases);
        }
        // 62 random bits: never zero, never negative, and in effect never the same again.
        let id = LeaseId::new(rand::random::<u64>() >> 2 | 1 << 62);
        table.insert(id, Entry { ttl, deadline: Instant::now() + ttl, ending: false });
        self.granted.notify_one();
        Ok(Lease { id, ttl })
    }

    pub(super) fn keep_alive(&self, id: LeaseId) -> Result<Lease> {
        let mut table = self.table();
        let entry = table.get_mut(&id).filter(|entry| !entry.ending).ok_or(Error::LeaseNotFound(id))?;
        entry.deadline = Instant::now() + entry.ttl;
        Ok(Lease { id, ttl: entry.ttl })
    }

    pub(super) fn is_alive(&self, id: LeaseId) -> bool {
        self.table().get(&id).is_some_and(|entry| !entry.ending)
    }

    /// Marks a lease that its holder ends. If that goes wrong, the expiry finishes it.
    pub(super) fn begin_end(&self, id: LeaseId) -> Result<()> {
        let mut table = self.table();
        let entry = table.get_mut(&id).filter(|entry| !entry.ending).ok_or(Error::LeaseNotFound(id))?;
        (entry.ending, entry.deadline) = (true, Instant::now() + END_RETRY);
        self.granted.notify_one();
        Ok(())
    }

    /// Drops what is left of a lease once its keys are gone.
    pub(super) fn forget(&self, id: LeaseId) {
        self.table().remove(&id);
    }

    /// Marks all leases that are due, and returns them, and the time to look again.
    fn take_due(&self, now: Instant) -> (Vec<LeaseId>, Option<Instant>) {
        let mut table = self.table();
        let mut due = Vec::new();
        for (id, entry) in table.iter_mut().filter(|(_, entry)| entry.deadline <= now) {
            (entry.ending, entry.deadline) = (true, now + END_RETRY);
            due.push(*id);
        }
        (due, table.values().map(|entry| entry.deadline).min())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<LeaseId, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends leases when their time is over, until shutdown.
pub(super) async fn expire(leases: Arc<Leases>, writer: Arc<Writer>, shutdown: CancellationToken) {
    loop {
        let (due, next) = leases.take_due(Instant::now());
        for lease in due {
            match writer.submit(Work::EndLease(lease)).await {
                Ok(_) => leases.forget(lease),
                Err(error) => tracing::warn!(%lease, error = &error as &dyn std::error::Error, "a lease did not end"),
            }
        }
        let wake = async {
            match next {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = leases.granted.notified() => {}
            () = wake => {}
        }
    }
}
