//! How the own region takes its users back after it could not serve them.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tradewind_core::{health::return_share, traffic::Bucket};

/// The salt of the order in which users come back, which has nothing to do with that of any rollout.
const RETURNING: u64 = 0;

/// What the own region has for a model that it should serve, compared with what it had at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// All agents of the region have told what runs, to this gateway or to the one before it.
    pub(crate) known: bool,
    pub(crate) any_ready: bool,
    /// There were replicas, and not one of them is there any more.
    pub(crate) replaced: bool,
}

impl Look {
    /// Whether users had to go elsewhere since the last look. A gateway that starts has the endpoints on disk for its
    /// last look: where one of those replicas lives, the region was never lost, and serves at once; where others have
    /// come in their place, or none is ready, it was. A gateway that knows nothing yet says nothing.
    pub(crate) fn shows_loss(self) -> bool {
        self.replaced || (self.known && !self.any_ready)
    }
}

/// Of one model. Requests themselves notice that the region was lost and that it is back; looks notice what happens
/// while nobody asks.
#[derive(Debug)]
pub(crate) struct Returning {
    started: Instant,
    lost: AtomicBool,
    /// Milliseconds after `started`; 0: never lost.
    returned_at: AtomicU64,
    sequence: AtomicU64,
}

impl Returning {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            lost: AtomicBool::new(false),
            returned_at: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
        }
    }

    pub(crate) fn look(&self, look: Look) {
        if look.shows_loss() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Whether this user's request should be served here, now that the region can (`able`) or cannot, and its replicas
    /// can take that share of its users.
    pub(crate) fn serves(&self, able: bool, share: f64, user: Option<&[u8]>) -> bool {
        if !able {
            self.lost.store(true, Ordering::Relaxed);
            return false;
        }
        if self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::Relaxed) {
            self.returned_at.store(self.now(), Ordering::Relaxed);
        }
        let share = share.min(self.share());
        if share >= 1.0 {
            return true;
        }
        let bucket = match user {
            Some(user) => Bucket::of_key(RETURNING, user),
            None => Bucket::of_request(self.sequence.fetch_add(1, Ordering::Relaxed)),
        };
        bucket.within(share)
    }

    /// Whether this user is still served elsewhere; for one without a key, whether some are.
    pub(crate) fn is_away(&self, user: Option<&[u8]>) -> bool {
        let share = self.share();
        user.map_or(share < 1.0, |user| !Bucket::of_key(RETURNING, user).within(share))
    }

    /// The share of its users that the region takes since it is back.
    fn share(&self) -> f64 {
        match self.returned_at.load(Ordering::Relaxed) {
            0 => 1.0,
            returned_at => return_share(Duration::from_millis(self.now().saturating_sub(returned_at))),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_was_lost_when_nothing_of_what_it_had_is_left() {
        let check = |known, any_ready, replaced, lost: bool| {
            let look = Look { known, any_ready, replaced };
            assert_eq!(look.shows_loss(), lost, "{look:?}");
            let returning = Returning::new();
            returning.look(look);
            let all = (0..100).all(|_| returning.serves(true, 1.0, None));
            assert_eq!(all, !lost, "{look:?}");
        };
        check(false, false, false, false);
        check(false, true, false, false);
        check(true, true, false, false);
        check(true, false, false, true);
        check(false, true, true, true);
        check(true, true, true, true);
    }

    #[test]
    fn users_come_back_gradually_only_after_a_loss() {
        let returning = Returning::new();
        assert!((0..100).all(|_| returning.serves(true, 1.0, None)), "nothing was lost yet");
        assert!(!returning.serves(false, 1.0, None));
        let served = (0..1000).filter(|_| returning.serves(true, 1.0, None)).count();
        assert!((50..400).contains(&served), "{served} of 1000 right after the return");
        let users = (0..1000).filter(|n| returning.serves(true, 1.0, Some(format!("u{n}").as_bytes()))).count();
        assert!((50..400).contains(&users), "{users} of 1000 users right after the return");
    }
}
