//! Where requests wait until a replica of their model has room.
//!
//! Compiled a second time in `tests/it/order.rs`, so it takes atomics and waiting from the module `sync` beside it.

use std::{sync::Arc, time::Duration};

use super::sync::{AtomicU32, Notify, Ordering, fence, timeout};

/// The most requests of one model that wait, whatever its replicas' limits.
const WAITING_LIMIT: u32 = 4096;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: AtomicU32,
    freed: Notify,
}

impl Gate {
    /// A replica has room again.
    pub(crate) fn freed(&self) {
        // Room was made before this look for who waits; who waits was counted before it looked for room. With a fence
        // between the two on either side, one of them sees the other. Without, both may miss (on ARM they do).
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.freed.notify_one();
        }
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for what `try_it` looks for, behind those who came before. `None` when as many wait already as could be
    /// served in the meantime (`room`), or when it takes too long.
    pub(crate) async fn pass<T>(
        self: &Arc<Self>,
        room: u32,
        time: Duration,
        mut try_it: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let place = Place::take(self, room.min(WAITING_LIMIT))?;
        let turn = async {
            loop {
                // Asked for before the look, so that what is freed in between is not missed.
                let freed = place.gate.freed.notified();
                if let Some(found) = try_it() {
                    return found;
                }
                freed.await;
            }
        };
        timeout(time, turn).await.ok()
    }
}

/// Somebody who waits; counts until dropped.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
}

impl Place {
    fn take(gate: &Arc<Gate>, room: u32) -> Option<Self> {
        let before = gate.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let place = Self { gate: Arc::clone(gate) };
        (before < room).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
        // A turn that came as this one gave up belongs to the next, and where two have room, only one may have been told.
        self.gate.freed();
    }
}
