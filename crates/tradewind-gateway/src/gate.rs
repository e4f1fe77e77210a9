//! Where requests wait until a replica of their model has room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// A request waits at most this long for a replica to have room.
const WAIT_LIMIT: Duration = Duration::from_secs(1);
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
        if self.waiting.load(Ordering::Acquire) > 0 {
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
        timeout(time.min(WAIT_LIMIT), turn).await.ok()
    }
}

/// Somebody who waits; counts until dropped.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
}

impl Place {
    fn take(gate: &Arc<Gate>, room: u32) -> Option<Self> {
        let before = gate.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Self { gate: Arc::clone(gate) };
        (before < room).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::AcqRel);
        // A turn that came as this one gave up belongs to the next.
        self.gate.freed();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_served_when_there_is_room_and_not_for_ever() {
        let gate = Arc::new(Gate::default());
        let room = Cell::new(0);
        let take = || (room.get() > 0).then(|| room.set(room.get() - 1));
        let long = Duration::from_secs(9);
        // Polled last, when two wait and the third was refused.
        let free = async {
            room.set(1);
            gate.freed();
        };
        let (one, other, none, ()) =
            tokio::join!(biased; gate.pass(2, long, take), gate.pass(2, long, take), gate.pass(2, long, take), free);
        assert_eq!((one, other), (Some(()), None), "the first is served, the second waits in vain");
        assert_eq!(none, None, "there is room for two to wait");
        assert_eq!(gate.waiting(), 0);
    }
}
