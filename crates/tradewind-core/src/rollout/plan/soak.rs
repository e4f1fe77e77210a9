//! After the switch: the monitors judge what users get, and the old slot is kept as long as it may be wanted.

use super::{Change, Planner, Reach, SILENCE_INTERVAL};
use crate::{
    RegionName, Timestamp,
    monitor::verdict::Verdict,
    rollout::{RegionRecord, Rollout, RolloutKind, Soak, strategy::OnFailure},
};

/// An inconclusive soak keeps the old slot warm for this long.
const INCONCLUSIVE_STANDBY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// While a revision is on trial, it is judged this often.
const JUDGE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

impl<'a> Planner<'a> {
    /// Takes users back where the monitors have proved that they are worse off. Whoever was moved by a person stays where
    /// that person wanted them.
    pub(super) fn condemn(&self) -> Option<Change> {
        let may_go_back = self.rollout.kind == RolloutKind::Deploy && self.rollout.from.is_some();
        let (region, reason) = self.condemned().filter(|_| may_go_back && self.rollout.is_on_trial())?;
        Some(Change::Condemn { region, reason })
    }

    pub(super) fn soak(&mut self) {
        let Some(until) = self.rollout.soak_until else { return };
        if self.rollout.soak == Soak::Running {
            if until > self.now {
                return self.plan.wake(until);
            }
            // A control plane that has just started has no evidence yet, which is not bad evidence.
            let unknown = |record: &RegionRecord| self.observed.region(&record.region).reach == Reach::Unknown;
            if self.routed().any(unknown) {
                return self.look_again_soon();
            }
            self.plan.changes.push(Change::SoakEnded { soak: self.verdict() });
        } else if self.rollout.in_last_stage() {
            self.retire(until);
        } else {
            self.go_on();
        }
    }

    /// While users may have to be taken back, nothing but time tells that it is worth looking.
    pub(super) fn judge_again(&mut self) {
        if self.rollout.is_on_trial() {
            self.plan.wake(self.now.checked_add(JUDGE_INTERVAL).unwrap_or(self.now));
        }
    }

    /// The soak of some users is over: others follow, unless a person is to decide.
    fn go_on(&mut self) {
        let Rollout { strategy, course, soak, .. } = self.rollout;
        let ended = self.rollout.soak_until;
        let decided = course.decided.is_some_and(|decided| Some(decided.at) >= ended);
        if self.is_paused() {
            return;
        }
        let asks = strategy.on_failure == OnFailure::Pause && self.rollout.kind != RolloutKind::Rollback;
        if *soak == Soak::Inconclusive && asks && !decided {
            let reason = "the monitors could neither clear nor condemn it".to_owned();
            self.plan.changes.push(Change::Pause { reason });
        } else {
            self.plan.changes.push(Change::Advance);
        }
    }

    /// Gives up the slot that served before, when nobody may want it any more.
    fn retire(&mut self, soaked: Timestamp) {
        let standby = match self.rollout.soak {
            _ if self.rollout.from.is_none() || self.rollout.is_in_place() => std::time::Duration::ZERO,
            Soak::Inconclusive | Soak::Failed => INCONCLUSIVE_STANDBY,
            _ => self.rollout.strategy.standby.duration(),
        };
        let retire_at = soaked.checked_add(standby).unwrap_or(Timestamp::MAX);
        if retire_at > self.now {
            self.plan.wake(retire_at);
        } else if !self.observed.gateways().have_moved_on() {
            // What gateways may still send users to is kept.
            self.plan.wake(self.now.checked_add(SILENCE_INTERVAL).unwrap_or(self.now));
        } else if !self.is_paused() {
            self.plan.changes.push(Change::Retire);
        }
    }

    pub(super) fn routed(&self) -> impl Iterator<Item = &'a RegionRecord> + use<'a> {
        self.records.iter().filter(|record| record.routed_at.is_some())
    }

    fn verdict(&self) -> Soak {
        if self.condemned().is_some() {
            return Soak::Failed;
        }
        if self.all_routed_are_well() && self.is_cleared() { Soak::Passed } else { Soak::Inconclusive }
    }

    /// The first region where the monitors have proved that users are worse off than before. One that is lost as a whole
    /// says nothing of the revision.
    fn condemned(&self) -> Option<(RegionName, String)> {
        if !self.is_judged() {
            return None;
        }
        let reachable = |record: &&RegionRecord| self.observed.region(&record.region).reach == Reach::Reachable;
        self.routed().filter(reachable).find_map(|record| match self.observed.verdict(&record.region) {
            Verdict::Failed { reason } => Some((record.region.clone(), reason)),
            Verdict::Healthy | Verdict::Inconclusive { .. } => None,
        })
    }

    /// The monitors find it well everywhere.
    fn is_cleared(&self) -> bool {
        let cleared = |record: &RegionRecord| self.observed.verdict(&record.region) == Verdict::Healthy;
        !self.is_judged() || self.routed().all(cleared)
    }

    /// Without a soak nobody is to look.
    fn is_judged(&self) -> bool {
        !self.rollout.strategy.soak.duration().is_zero()
    }

    fn all_routed_are_well(&self) -> bool {
        self.routed().all(|record| {
            let observation = self.observed.region(&record.region);
            observation.reach == Reach::Reachable
                && observation
                    .slot
                    .is_some_and(|slot| slot.resting || slot.replicas.ready >= slot.replicas.desired.max(1))
        })
    }
}
