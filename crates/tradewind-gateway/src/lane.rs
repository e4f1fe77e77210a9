//! What is kept of one model as long as it is routed, whatever snapshots come.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tradewind_core::overload;

use crate::{gate::Gate, traffic::Returning};

/// The most requests of one model that wait for its first replica: as many as that takes at once before it has shown
/// what it can do.
const SLEEPERS_LIMIT: u32 = overload::UNKNOWN;

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comer {
    Own,
    /// Of another region, which had no room for it.
    Guest,
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) returning: Returning,
    pub(crate) gate: Arc<Gate>,
    /// Requests that wait or are somewhere.
    under_way: AtomicU32,
    /// Those of them that are guests.
    guests: AtomicU32,
    /// There was one since the last look.
    asked: AtomicBool,
    /// Those that wait for the first replica.
    sleepers: Arc<AtomicU32>,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self {
            returning: Returning::new(),
            gate: Arc::default(),
            under_way: AtomicU32::new(0),
            guests: AtomicU32::new(0),
            asked: AtomicBool::new(false),
            sleepers: Arc::default(),
        }
    }

    /// Requests of the region's own users that wait or are somewhere.
    pub(crate) fn of_own(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed).saturating_sub(self.guests.load(Ordering::Relaxed))
    }

    /// Whether one came since this was last asked.
    pub(crate) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// One more that waits for the first replica; `None` when too many do.
    pub(crate) fn wait_for_start(&self) -> Option<Sleeping> {
        let before = self.sleepers.fetch_add(1, Ordering::Relaxed);
        let sleeping = Sleeping(Arc::clone(&self.sleepers));
        (before < SLEEPERS_LIMIT).then_some(sleeping)
    }

    pub(crate) fn sleepers(&self) -> u32 {
        self.sleepers.load(Ordering::Relaxed)
    }

    /// Takes in one more request, which is one of `all` that are under way; `None` when its model has its part of
    /// `limit`.
    pub(crate) fn enter(self: &Arc<Self>, comer: Comer, all: usize, limit: usize) -> Option<Entered> {
        let own = self.under_way.fetch_add(1, Ordering::Relaxed);
        match comer {
            Comer::Guest => drop(self.guests.fetch_add(1, Ordering::Relaxed)),
            // Most find it said already, and leave the line to all threads.
            Comer::Own if !self.asked.load(Ordering::Relaxed) => self.asked.store(true, Ordering::Relaxed),
            Comer::Own => {}
        }
        let entered = Entered { lane: Arc::clone(self), comer };
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        overload::takes(own, number(all), number(limit)).then_some(entered)
    }
}

/// A request of the model; counts until dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    lane: Arc<Lane>,
    comer: Comer,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.lane.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.comer == Comer::Guest {
            self.lane.guests.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request that waits for the first replica; counts until dropped.
#[derive(Debug)]
pub(crate) struct Sleeping(Arc<AtomicU32>);

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_floods_leaves_room_for_another() {
        let (flood, other) = (Arc::new(Lane::new()), Arc::new(Lane::new()));
        let mut taken: Vec<Entered> = Vec::new();
        while let Some(entered) = flood.enter(Comer::Own, taken.len(), 100) {
            taken.push(entered);
        }
        assert_eq!(taken.len(), 80);
        assert!(flood.enter(Comer::Own, taken.len(), 100).is_none(), "those that were refused do not count");
        taken.push(other.enter(Comer::Own, taken.len(), 100).expect("there is room left"));
        taken.clear();
        assert_eq!([flood, other].map(|lane| lane.under_way.load(Ordering::Relaxed)), [0, 0]);
    }

    #[test]
    fn guests_are_no_demand_of_the_region() {
        let lane = Arc::new(Lane::new());
        let guest = lane.enter(Comer::Guest, 0, 100);
        assert_eq!((lane.of_own(), lane.take_asked()), (0, false));
        let own = lane.enter(Comer::Own, 1, 100);
        assert_eq!((lane.of_own(), lane.take_asked(), lane.take_asked()), (1, true, false));
        drop((guest, own));
        assert_eq!(lane.of_own(), 0);
    }

    #[test]
    fn only_so_many_wait_for_the_first_replica() {
        let lane = Lane::new();
        let mut sleeping: Vec<_> = std::iter::from_fn(|| lane.wait_for_start()).collect();
        assert_eq!(sleeping.len(), SLEEPERS_LIMIT as usize);
        drop(sleeping.pop());
        assert!(lane.wait_for_start().is_some());
        assert_eq!(lane.sleepers(), SLEEPERS_LIMIT - 1);
    }
}
