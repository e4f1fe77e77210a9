//! Regions that were deferred, and are back after everybody has the revision.

use super::{Change, GATHER_LIMIT, Planner, Reach};
use crate::rollout::{Action, RegionPhase, RegionRecord};

impl Planner<'_> {
    /// Deferred regions that are back, and those that are brought up last, on their way to the route.
    pub(super) fn catch_up(&mut self) {
        let before = self.plan.changes.len();
        let mut on_their_way = 0;
        for record in self.records.iter().filter(|record| record.routed_at.is_none()) {
            match record.phase {
                RegionPhase::Deferred | RegionPhase::Pending => match self.observed.region(&record.region).reach {
                    Reach::Reachable => {
                        self.when_there_is_room(record, Change::Resume { region: record.region.clone() });
                    }
                    Reach::Unreachable { silent_secs } if record.phase == RegionPhase::Pending => {
                        self.lost(record, Action::Deploy, silent_secs, &mut 1);
                    }
                    Reach::Unknown | Reach::Unreachable { .. } => {}
                },
                // Going silent again defers it again.
                RegionPhase::Retrying => self.retry(record, &mut 1),
                RegionPhase::Deploying | RegionPhase::ConfiguringMonitoring | RegionPhase::Verifying => {
                    on_their_way += 1;
                    self.advance(record, &mut 1);
                }
                RegionPhase::Verified | RegionPhase::Failed => {}
            }
        }
        // Those that have just returned are on their way too.
        self.extend(on_their_way > 0 || self.plan.changes.len() > before);
    }

    /// Routes the regions that have caught up; together, if others are about to.
    fn extend(&mut self, others_follow: bool) {
        let caught_up = |record: &&RegionRecord| record.routed_at.is_none() && record.phase == RegionPhase::Verified;
        let waiting: Vec<&RegionRecord> = self.records.iter().filter(caught_up).collect();
        let verified_at = |record: &&RegionRecord| record.verify.as_ref().and_then(|step| step.finished_at);
        let Some(first) = waiting.iter().map(|record| verified_at(record).unwrap_or(self.now)).min() else { return };
        let limit = first.checked_add(GATHER_LIMIT).unwrap_or(self.now);
        if others_follow && limit > self.now {
            return self.plan.wake(limit);
        }
        let regions = waiting.into_iter().map(|record| record.region.clone()).collect();
        self.plan.changes.push(Change::Extend { regions });
    }
}
