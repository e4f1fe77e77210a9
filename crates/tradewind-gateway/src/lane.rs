//! What is kept of one model as long as it is routed, whatever snapshots come.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tradewind_core::overload;

use crate::{gate::Gate, traffic::Returning};

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) returning: Returning,
    pub(crate) gate: Arc<Gate>,
    /// Requests that wait or are somewhere.
    under_way: AtomicU32,
}

impl Lane {
    pub(crate) fn new() -> Self {
        Self { returning: Returning::new(), gate: Arc::default(), under_way: AtomicU32::new(0) }
    }

    /// Takes in one more request, which is one of `all` that are under way; `None` when its model has its part of
    /// `limit`.
    pub(crate) fn enter(self: &Arc<Self>, all: usize, limit: usize) -> Option<Entered> {
        let own = self.under_way.fetch_add(1, Ordering::Relaxed);
        let entered = Entered(Arc::clone(self));
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        overload::takes(own, number(all), number(limit)).then_some(entered)
    }
}

/// A request of the model; counts until dropped.
#[derive(Debug)]
pub(crate) struct Entered(Arc<Lane>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_floods_leaves_room_for_another() {
        let (flood, other) = (Arc::new(Lane::new()), Arc::new(Lane::new()));
        let mut taken: Vec<Entered> = Vec::new();
        while let Some(entered) = flood.enter(taken.len(), 100) {
            taken.push(entered);
        }
        assert_eq!(taken.len(), 80);
        assert!(flood.enter(taken.len(), 100).is_none(), "those that were refused do not count");
        taken.push(other.enter(taken.len(), 100).expect("there is room left"));
        taken.clear();
        assert_eq!([flood, other].map(|lane| lane.under_way.load(Ordering::Relaxed)), [0, 0]);
    }
}
