//! Another gateway, as probes find it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tradewind_api::gateway::PeerCapacity;
use tradewind_core::{RegionName, route::RouteState};

use crate::target::Target;

/// The round trip is the smallest of so many probes.
const ROUND_TRIP_WINDOW: usize = 16;
const UNMEASURED: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) region: RegionName,
    pub(crate) target: Arc<Target>,
    capacity: ArcSwap<Vec<PeerCapacity>>,
    /// Requests in flight there because the own region had no room for them.
    spilled: AtomicU32,
    /// As many when it told last how much room it has.
    spilled_then: AtomicU32,
    round_trip_us: AtomicU64,
    /// The revision of the snapshot that it serves; 0: not told, or of another incarnation.
    config_revision: AtomicU64,
    /// The newest of this gateway's questions that it was asked after, and has answered since.
    answered: AtomicU64,
    /// Written by the one task that probes.
    window: Mutex<VecDeque<u64>>,
}

impl Peer {
    pub(crate) fn new(region: RegionName, address: String) -> Self {
        Self {
            region,
            target: Arc::new(Target::new(address)),
            capacity: ArcSwap::default(),
            spilled: AtomicU32::new(0),
            spilled_then: AtomicU32::new(0),
            round_trip_us: AtomicU64::new(UNMEASURED),
            config_revision: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            window: Mutex::default(),
        }
    }

    /// Ready replicas of the route's live slot; one that rests counts as one, which starts when it is asked.
    pub(crate) fn ready(&self, model: &str, state: &RouteState) -> u32 {
        let capacity = self.capacity.load();
        let of = capacity.iter().filter(|entry| is_of(entry, model, state));
        of.map(|entry| entry.replicas.max(u32::from(entry.resting))).sum()
    }

    /// Takes one more request beyond what the own region can do, as long as that is within this gateway's share (one
    /// of `sharing`) of the room that the peer has. What this gateway had there already when the peer told its room is
    /// in use of that room.
    pub(crate) fn spill(self: &Arc<Self>, model: &str, state: &RouteState, sharing: u32) -> Option<Spilled> {
        let capacity = self.capacity.load();
        let room: u32 =
            capacity.iter().filter(|entry| is_of(entry, model, state)).filter_map(|entry| entry.headroom).sum();
        let before = self.spilled.fetch_add(1, Ordering::Relaxed);
        let spilled = Spilled(Arc::clone(self));
        let share = room.div_ceil(sharing.max(1));
        (before < share.saturating_add(self.spilled_then.load(Ordering::Relaxed))).then_some(spilled)
    }

    /// What the peer advertises now; whether that is news.
    pub(crate) fn advertise(&self, capacity: Vec<PeerCapacity>) -> bool {
        self.spilled_then.store(self.spilled.load(Ordering::Relaxed), Ordering::Relaxed);
        if **self.capacity.load() == capacity {
            return false;
        }
        self.capacity.store(Arc::new(capacity));
        true
    }

    pub(crate) fn config_revision(&self) -> u64 {
        self.config_revision.load(Ordering::Relaxed)
    }

    pub(crate) fn serves_config(&self, revision: u64) {
        self.config_revision.store(revision, Ordering::Relaxed);
    }

    /// Whether it has been asked since that question came, and has answered.
    pub(crate) fn has_answered(&self, question: u64) -> bool {
        self.answered.load(Ordering::Acquire) >= question
    }

    /// What it serves was noted before.
    pub(crate) fn answer(&self, question: u64) {
        self.answered.store(question, Ordering::Release);
    }

    /// The peer answered that it cannot serve the model: believed until the next probe, which is wanted at once.
    pub(crate) fn declined(&self, model: &str, state: &RouteState) {
        self.capacity.rcu(|capacity| {
            let keeps = |entry: &&PeerCapacity| entry.model.as_str() != model || entry.slot != state.live;
            capacity.iter().filter(keeps).cloned().collect::<Vec<_>>()
        });
        self.target.want_probe();
    }

    /// The peer answered that it has no room for one more: until it tells of some, there are no more than there are now.
    /// That one still counts if it was `spilled`.
    pub(crate) fn full(&self, model: &str, state: &RouteState, spilled: bool) {
        self.capacity.rcu(|capacity| {
            let mut capacity = Vec::clone(capacity);
            capacity.iter_mut().filter(|entry| is_of(entry, model, state)).for_each(|entry| entry.headroom = Some(0));
            capacity
        });
        let there = self.spilled.load(Ordering::Relaxed).saturating_sub(u32::from(spilled));
        self.spilled_then.store(there, Ordering::Relaxed);
    }

    pub(crate) fn measured(&self, round_trip: Duration) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.len() == ROUND_TRIP_WINDOW {
            window.pop_front();
        }
        window.push_back(u64::try_from(round_trip.as_micros()).unwrap_or(UNMEASURED - 1).min(UNMEASURED - 1));
        let smallest = window.iter().copied().min().unwrap_or(UNMEASURED);
        self.round_trip_us.store(smallest, Ordering::Relaxed);
    }

    /// The smallest of the last round trips.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip_us.load(Ordering::Relaxed);
        (micros != UNMEASURED).then(|| Duration::from_micros(micros))
    }
}

/// Whether it is told of what the route wants served.
fn is_of(entry: &PeerCapacity, model: &str, state: &RouteState) -> bool {
    entry.model.as_str() == model && entry.slot == state.live && entry.revision == state.revision
}

/// A request that is elsewhere for want of room; counts until dropped.
#[derive(Debug)]
pub(crate) struct Spilled(Arc<Peer>);

impl Drop for Spilled {
    fn drop(&mut self) {
        self.0.spilled.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tradewind_core::{Epoch, RevisionNumber, Slot, VersionNumber, deployment::HealthPolicy};

    use super::*;

    #[test]
    fn the_round_trip_is_the_smallest_of_a_window() {
        let peer = Peer::new("europe-west1".parse().unwrap(), "127.0.0.1:1".to_owned());
        assert_eq!(peer.round_trip(), None);
        for millis in [30, 10, 20] {
            peer.measured(Duration::from_millis(millis));
        }
        assert_eq!(peer.round_trip(), Some(Duration::from_millis(10)));
        for _ in 0..ROUND_TRIP_WINDOW {
            peer.measured(Duration::from_millis(25));
        }
        assert_eq!(peer.round_trip(), Some(Duration::from_millis(25)), "an old minimum is forgotten");
    }

    const MODEL: &str = "digits";

    fn state() -> RouteState {
        RouteState {
            epoch: Epoch(1),
            live: Slot::Blue,
            revision: RevisionNumber(1),
            version: VersionNumber(1),
            regions: Vec::new(),
            region_health: Default::default(),
            stay_in: Default::default(),
            candidate: None,
            health: HealthPolicy::default(),
        }
    }

    fn room(headroom: u32) -> PeerCapacity {
        PeerCapacity {
            model: MODEL.parse().unwrap(),
            slot: Slot::Blue,
            revision: RevisionNumber(1),
            replicas: 1,
            headroom: Some(headroom),
            resting: false,
        }
    }

    #[test]
    fn a_peer_that_is_full_keeps_what_it_has_and_is_asked_for_no_more() {
        let peer = Arc::new(Peer::new("europe-west1".parse().unwrap(), "127.0.0.1:1".to_owned()));
        let state = state();
        let spill = || peer.spill(MODEL, &state, 1);
        peer.advertise(vec![room(12)]);
        let mut there: Vec<Spilled> = std::iter::from_fn(spill).collect();
        assert_eq!(there.len(), 12);
        // Its own users came meanwhile, and three are declined.
        for _ in 0..3 {
            peer.full(MODEL, &state, true);
            drop(there.pop());
        }
        assert!(spill().is_none());
        drop(there.pop());
        there.push(spill().expect("one has ended, so another one may go"));
        assert!(spill().is_none());
        assert_eq!(peer.ready(MODEL, &state), 1, "those whose own region is lost may still go there");
        peer.advertise(vec![room(1)]);
        assert!(spill().is_some(), "it has told of room");
    }

    #[test]
    fn a_peer_is_filled_by_those_who_share_it_and_not_beyond() {
        let (places, state) = (9, state());
        for sharing in [1_u32, 2, 5] {
            let peers: Vec<Arc<Peer>> = (0..sharing)
                .map(|_| Arc::new(Peer::new("europe-west1".parse().unwrap(), "127.0.0.1:1".to_owned())))
                .collect();
            let mut there = Vec::new();
            for _ in 0..20 {
                let left = places - u32::try_from(there.len()).unwrap();
                for peer in &peers {
                    peer.advertise(vec![room(left)]);
                }
                // What is more the region itself declines.
                for peer in &peers {
                    while let Some(spilled) = peer.spill(MODEL, &state, sharing).filter(|_| there.len() < 9) {
                        there.push(spilled);
                    }
                }
            }
            assert_eq!(there.len(), 9, "{sharing} gateways share the room");
        }
    }
}
