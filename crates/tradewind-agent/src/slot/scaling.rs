//! How many replicas the slot should have: `core::scaler` decides, from what the region's gateways have in flight. Each
//! slot of a model is sized for all of its users, so that whichever they are moved to can carry them.

use std::time::{Duration, Instant};

use tradewind_api::agent::SlotScaling;
use tradewind_core::{
    Timestamp,
    event::{EventKind, Severity},
    scaler::{Decision, Scaler, Situation},
};

use super::{Holding, SlotTask};

/// Changes of the number are told at most this often.
const EVENT_INTERVAL: Duration = Duration::from_secs(10);

/// What the slot task keeps of the number of its replicas.
#[derive(Debug)]
pub(super) struct Scaling {
    scaler: Scaler,
    began: Instant,
    decision: Decision,
    /// How often gateways had fallen silent at the last look.
    gaps: u64,
    /// The slot has had as many, ready, since this number last grew: users need not be sent elsewhere for what is more.
    settled: u32,
    rest: Rest,
    /// The number that events have told, and when they did.
    told: Option<(u32, Instant)>,
}

/// Whether users wait for a replica to start, rather than go elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    No,
    /// Scaled to zero, or on the way back from there, with so many replicas that had ended on their own before.
    Since {
        ends: u32,
    },
    /// What was started for them ended: the region has nobody.
    Failed,
}

impl Scaling {
    /// `before`: the number that an earlier agent had decided upon.
    pub(super) fn new(first: u32, before: Option<u32>) -> Self {
        let reason = match before {
            Some(_) => "as it was when this agent started",
            None => "brought up",
        };
        let replicas = before.unwrap_or(first);
        Self {
            scaler: Scaler::default(),
            began: Instant::now(),
            decision: Decision { replicas, reason: reason.to_owned() },
            gaps: 0,
            settled: replicas,
            rest: if replicas == 0 { Rest::Since { ends: 0 } } else { Rest::No },
            told: before.map(|before| (before, Instant::now())),
        }
    }

    pub(super) fn replicas(&self) -> u32 {
        self.decision.replicas
    }

    pub(super) fn settled(&self) -> u32 {
        self.settled
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.rest, Rest::Since { .. })
    }

    /// So many are ready, and so many have ended on their own since the slot took up what it holds.
    fn observe(&mut self, ready: u32, ends: u32) {
        let desired = self.decision.replicas;
        self.settled = if ready >= desired { desired } else { self.settled.min(desired) };
        self.rest = match self.rest {
            _ if ready > 0 => Rest::No,
            _ if desired == 0 => Rest::Since { ends },
            Rest::Since { ends: before } if ends > before => Rest::Failed,
            rest => rest,
        };
    }
}

impl Holding {
    /// While it is brought up or verified one replica is needed at least.
    fn least(&self) -> u32 {
        u32::from(!self.reached_ready || self.is_being_verified())
    }

    pub(super) fn has_too_few(&self) -> bool {
        !self.releasing && self.scaling.replicas() < self.least()
    }

    fn is_being_verified(&self) -> bool {
        self.verifying || self.verify_asked.is_some()
    }
}

impl SlotTask {
    /// Decides anew how many there should be.
    pub(super) fn rescale(&mut self) {
        let asked = self.context.demand.of(&self.key.0);
        let by_hand = self.context.board.by_hand(&self.key.0);
        let Some(holding) = self.holding.as_mut().filter(|holding| !holding.releasing) else { return };
        let least = holding.least();
        // What is being verified stays as it is meanwhile.
        let is_held = holding.reached_ready && holding.is_being_verified() && holding.scaling.replicas() > 0;
        let scaling = &mut holding.scaling;
        let at = scaling.began.elapsed();
        if std::mem::replace(&mut scaling.gaps, asked.gaps) != asked.gaps {
            scaling.scaler.observe(at, None);
        }
        scaling.scaler.observe(at, asked.demand);
        let decision = scaling.scaler.decide(Situation {
            scale: &holding.assignment.scale,
            by_hand: by_hand.as_ref(),
            at,
            now: Timestamp::now(),
            current: Some(scaling.replicas()),
            least,
        });
        if !is_held {
            scaling.decision = decision;
        }
        let told = SlotScaling {
            model: self.key.0.clone(),
            slot: self.key.1,
            revision: holding.assignment.revision,
            in_flight: asked.demand.map(|demand| demand.in_flight),
            reason: scaling.decision.reason.clone(),
            by_hand: by_hand.map(|hand| hand.replicas),
        };
        self.context.board.tell_scaling(&self.key, told);
        self.tell_of_change();
    }

    /// Whether users ask for more than there is, so that the next decision should not wait.
    pub(super) fn is_pressed(&self) -> bool {
        let Some(holding) = &self.holding else { return false };
        let Some(bounds) = &holding.assignment.scale.bounds else { return false };
        let replicas = holding.scaling.replicas();
        let enough = f64::from(replicas) * f64::from(bounds.target);
        let of_model = self.context.demand.of(&self.key.0).demand;
        of_model.is_some_and(|demand| demand.in_flight > enough || (replicas == 0 && demand.asked))
    }

    /// Takes in how many are ready.
    pub(super) fn observe_scale(&mut self) {
        let ready = self.replicas.iter().filter(|replica| replica.is_ready()).count();
        let ends = self.places.values().map(|place| place.restarts).sum();
        if let Some(holding) = &mut self.holding {
            holding.scaling.observe(u32::try_from(ready).unwrap_or(u32::MAX), ends);
        }
    }

    /// An event for what has changed since the last one, if that is long enough ago.
    fn tell_of_change(&mut self) {
        let Some(holding) = self.holding.as_mut().filter(|holding| holding.reached_ready) else { return };
        let version = holding.assignment.version;
        let scaling = &mut holding.scaling;
        let Decision { replicas, reason } = &scaling.decision;
        let Some((before, at)) = scaling.told else {
            scaling.told = Some((*replicas, Instant::now()));
            return;
        };
        if before == *replicas || at.elapsed() < EVENT_INTERVAL {
            return;
        }
        let (model, slot) = &self.key;
        let message = format!("{model} {version} ({slot}) is scaled from {before} to {replicas}: {reason}");
        self.context.events.emit(Severity::Info, EventKind::Scaled, Some(model), message);
        scaling.told = Some((*replicas, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(scaling: &mut Scaling, replicas: u32) {
        scaling.decision = Decision { replicas, reason: String::new() };
    }

    #[test]
    fn users_are_not_sent_away_for_want_of_replicas_that_are_more_than_there_were() {
        let mut scaling = Scaling::new(2, None);
        scaling.observe(0, 0);
        assert_eq!(scaling.settled(), 2, "what is brought up counts whole");
        scaling.observe(2, 0);
        scaled(&mut scaling, 5);
        scaling.observe(3, 0);
        assert_eq!(scaling.settled(), 2);
        scaling.observe(5, 0);
        assert_eq!(scaling.settled(), 5);
        scaling.observe(1, 4);
        assert_eq!(scaling.settled(), 5, "what was there is missed");
        scaled(&mut scaling, 3);
        scaling.observe(1, 4);
        assert_eq!(scaling.settled(), 3);
    }

    #[test]
    fn users_wait_for_the_first_replica_as_long_as_it_may_come() {
        let mut scaling = Scaling::new(1, None);
        scaling.observe(0, 0);
        assert!(!scaling.is_resting(), "what was never up is not waited for");
        scaling.observe(1, 0);
        scaled(&mut scaling, 0);
        scaling.observe(0, 2);
        assert!(scaling.is_resting());
        scaled(&mut scaling, 1);
        scaling.observe(0, 2);
        assert!(scaling.is_resting(), "it is starting");
        scaling.observe(0, 3);
        assert!(!scaling.is_resting(), "it ended on its way");
        scaling.observe(0, 3);
        assert!(!scaling.is_resting());
        scaling.observe(1, 3);
        scaled(&mut scaling, 0);
        scaling.observe(0, 3);
        assert!(scaling.is_resting());
        assert!(Scaling::new(1, Some(0)).is_resting(), "also after a restart of the agent");
    }
}
