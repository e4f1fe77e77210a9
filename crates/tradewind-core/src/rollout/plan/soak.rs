//! After the switch: the monitors judge what users get, and the old slot is kept as long as it may be wanted.

use super::{Change, GatewayObservation, Planner, Reach, SILENCE_INTERVAL};
use crate::{
    RegionName, Timestamp,
    monitor::verdict::Verdict,
    rollout::{RegionRecord, RolloutKind, Soak},
};

/// An inconclusive soak keeps the old slot warm for this long.
const INCONCLUSIVE_STANDBY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// While a revision soaks, it is judged this often.
const JUDGE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

impl<'a> Planner<'a> {
    pub(super) fn soak(&mut self) {
        let Some(until) = self.rollout.soak_until else { return };
        if self.rollout.soak == Soak::Running {
            // Whoever was moved by a person stays where that person wanted them.
            let may_go_back = self.rollout.kind == RolloutKind::Deploy && self.rollout.from.is_some();
            if let Some((region, reason)) = self.condemned().filter(|_| may_go_back) {
                self.plan.changes.push(Change::Condemn { region, reason });
                return;
            }
            if until > self.now {
                let next = self.now.checked_add(JUDGE_INTERVAL).unwrap_or(until);
                return self.plan.wake(until.min(next));
            }
            // A control plane that has just started has no evidence yet, which is not bad evidence.
            let unknown = |record: &RegionRecord| self.observed.region(&record.region).reach == Reach::Unknown;
            if self.routed().any(unknown) {
                return self.look_again_soon();
            }
            self.plan.changes.push(Change::SoakEnded { soak: self.verdict() });
            return;
        }
        let standby = match self.rollout.soak {
            _ if self.rollout.from.is_none() => std::time::Duration::ZERO,
            Soak::Inconclusive | Soak::Failed => INCONCLUSIVE_STANDBY,
            _ => self.rollout.strategy.standby.duration(),
        };
        let retire_at = until.checked_add(standby).unwrap_or(Timestamp::MAX);
        // What a gateway still sends users to is kept, as long as control can tell.
        let GatewayObservation { gateways, committed, .. } = self.observed.gateways();
        if retire_at > self.now {
            self.plan.wake(retire_at);
        } else if committed < gateways {
            self.plan.wake(self.now.checked_add(SILENCE_INTERVAL).unwrap_or(self.now));
        } else {
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
                && observation.slot.is_some_and(|slot| slot.replicas.ready >= slot.replicas.desired.max(1))
        })
    }
}
