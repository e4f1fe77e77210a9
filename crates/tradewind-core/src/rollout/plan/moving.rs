//! Moving users: gateways prepare, all commit at one epoch, alerts are armed.

use super::{COMMIT_WAIT, Change, GatewayObservation, Planner, Reach, Room, is_settled};
use crate::{
    RegionName, Timestamp,
    assignment::Failure,
    rollout::{Action, RegionPhase, RegionRecord, RolloutFailure, course::Audience},
};

impl<'a> Planner<'a> {
    pub(super) fn prepare(&mut self) {
        if self.is_paused() {
            return;
        }
        let gateways = self.observed.gateways();
        let tight = self.tight();
        if gateways.prepared == gateways.gateways && tight.is_none() {
            self.plan.changes.push(Change::Commit);
            return;
        }
        let started = self.rollout.steps.route.as_ref().map_or(self.rollout.created_at, |step| step.started_at);
        let deadline =
            started.checked_add(self.rollout.strategy.progress_deadline.duration()).unwrap_or(Timestamp::MAX);
        if deadline > self.now {
            let detail = self.rollout.steps.route.as_ref().map_or("", |step| step.detail.as_str());
            if let Some((region, _)) = tight.filter(|(region, _)| !detail.contains(region.as_str())) {
                let reason = format!("waits: {region} has too few replicas for its users");
                self.plan.changes.push(Change::Hold { reason });
            }
            self.plan.wake(deadline);
            return self.look_again_soon();
        }
        let missing = gateways.gateways - gateways.prepared;
        let failure = match tight.filter(|_| missing == 0) {
            Some((region, room)) => Failure {
                message: format!("the users of {region} do not fit on its replicas"),
                causes: vec![match room.missing {
                    0 => format!(
                        "they have {:.0} requests in flight, and its ready replicas take {}",
                        room.in_flight.ceil(),
                        room.limit.unwrap_or_default()
                    ),
                    missing => format!("{missing} of the replicas that they need are not ready"),
                }],
                hint: Some(match room.missing {
                    0 => "deploy it with more of them: --replicas N, or --max-replicas N".to_owned(),
                    _ => format!("see its log with `tradewind logs {} --region {region}`", self.rollout.model),
                }),
                retryable: true,
            },
            None => Failure {
                message: format!("{missing} of {} gateways did not prepare the new route", gateways.gateways),
                causes: gateways.refusal.into_iter().collect(),
                hint: Some("see `tradewind regions list`".to_owned()),
                retryable: true,
            },
        };
        self.plan
            .changes
            .push(Change::Fail { failure: RolloutFailure { region: None, action: Action::Route, failure } });
    }

    /// The first region whose users have more in flight than the replicas may have that they are to be moved to, or whose
    /// replicas are still becoming as many as those users need.
    fn tight(&self) -> Option<(&'a RegionName, Room)> {
        let stage = self.rollout.stage();
        let share = match stage.users {
            Audience::Share(share) => share.share(),
            Audience::Everyone | Audience::OfRegions => 1.0,
        };
        let replaces = |record: &&RegionRecord| self.rollout.from.is_some() && record.phase == RegionPhase::Verified;
        self.records[..stage.regions].iter().filter(replaces).find_map(|record| {
            let room = self.observed.room(&record.region);
            let in_flight = room.in_flight * share;
            let is_tight = room.missing > 0 || room.limit.is_some_and(|limit| in_flight > f64::from(limit));
            is_tight.then_some((&record.region, Room { in_flight, ..room }))
        })
    }

    pub(super) fn commit(&mut self) {
        let GatewayObservation { gateways, committed, .. } = self.observed.gateways();
        let since = self.rollout.committed_at.unwrap_or(self.rollout.created_at);
        let waited = since.checked_add(COMMIT_WAIT).is_ok_and(|limit| limit <= self.now);
        if committed == gateways || waited {
            self.plan.changes.push(Change::Arm { acknowledged: committed, gateways });
        } else {
            self.look_again_soon();
        }
    }

    pub(super) fn arm(&mut self) {
        if self.rollout.is_in_place() && self.rollout.in_last_stage() && !self.is_whole() {
            return;
        }
        let armed = self.routed().all(|record| {
            let observation = self.observed.region(&record.region);
            let armed = observation.slot.is_some_and(|slot| slot.revision == self.rollout.revision && slot.armed);
            armed || matches!(observation.reach, Reach::Unreachable { .. })
        });
        if armed {
            self.plan.changes.push(Change::Armed);
        } else {
            self.look_again_soon();
        }
    }

    /// Whether the regions that are brought up last have joined the route, or never will; until then they are worked on.
    fn is_whole(&mut self) -> bool {
        let before = self.plan.changes.len();
        if !self.is_paused() {
            self.catch_up();
        }
        let is_done = |record: &RegionRecord| match record.phase {
            RegionPhase::Verified => record.routed_at.is_some(),
            phase => is_settled(phase),
        };
        self.plan.changes.len() == before && self.records.iter().all(is_done)
    }
}
