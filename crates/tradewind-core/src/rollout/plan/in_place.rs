//! Regions that have no room for two revisions: they give up what they run, and others serve their users meanwhile.

use super::{Change, Planner, Room};
use crate::{
    RegionName,
    assignment::Failure,
    rollout::{
        Action, RegionPhase, RegionRecord,
        course::{Decided, Decision},
    },
};

impl<'a> Planner<'a> {
    /// Has regions give way to what they are to run, as many of them as others can stand in for.
    pub(super) fn give_way(&mut self, leaving: &[&'a RegionName]) {
        let live = self.observed.live();
        let Err(reason) = fits(&live, leaving, self.is_told_to_go_on()) else {
            let regions = leaving.iter().map(|region| (*region).clone()).collect();
            return self.plan.changes.push(Change::GiveWay { regions });
        };
        self.shrink(&live, leaving, reason);
    }

    /// What a region is to make room for is begun when no gateway sends users there any more. One that goes on doing so is not
    /// waited for without end.
    pub(super) fn when_there_is_room(&mut self, record: &RegionRecord, change: Change) {
        if !(record.alone || self.rollout.is_in_place()) || self.observed.everybody_knows() {
            return self.plan.changes.push(change);
        }
        let limit = self.rollout.strategy.progress_deadline.duration();
        let decided = self.rollout.course.decided.map(|decided| decided.at);
        let since = self.rollout.committed_at.max(decided).unwrap_or(self.rollout.created_at);
        let is_late = record.deadline.or(since.checked_add(limit).ok()).is_some_and(|deadline| deadline <= self.now);
        let region = record.region.clone();
        let message = format!("gateways still send users to {region}");
        match self.phase(record) {
            RegionPhase::Pending if is_late && self.rollout.in_last_stage() => {
                self.plan.changes.push(Change::Defer { region, detail: message });
            }
            RegionPhase::Pending | RegionPhase::Retrying if is_late => {
                let causes = self.observed.gateways().refusal.into_iter().collect();
                let hint = Some("see `tradewind regions list`".to_owned());
                let failure = Failure { message, causes, hint, retryable: false };
                let action = Action::Deploy;
                self.plan.changes.push(Change::AttemptFailed { region, action, failure, verification: None });
            }
            _ => self.look_again_soon(),
        }
    }

    /// Whether everybody can be served without the regions that are brought up last.
    pub(super) fn may_leave_the_rest(&mut self) -> bool {
        if !self.rollout.is_in_place() || !self.rollout.in_last_stage() || self.is_told_to_go_on() {
            return true;
        }
        let stage = self.rollout.stage();
        let rest: Vec<&RegionName> = self.records[stage.regions..].iter().map(|record| &record.region).collect();
        let mut live = self.observed.live();
        let verified = |record: &&RegionRecord| record.phase == RegionPhase::Verified;
        let own = self.records.iter().filter(verified).map(|record| &record.region);
        let rooms: Vec<(RegionName, Room)> = own.map(|region| (region.clone(), self.observed.room(region))).collect();
        let stay: Vec<(RegionName, Room)> = live.iter().cloned().chain(rooms).collect();
        let leaving: Vec<&RegionName> = live.iter().map(|(region, _)| region).collect();
        let Err(reason) = fits(&stay, &leaving, false) else { return true };
        live.retain(|(region, _)| rest.contains(&region));
        self.shrink(&live, &rest, reason);
        false
    }

    /// Makes the wave of these regions smaller, until others can stand in for it; where none can, a person is asked.
    fn shrink(&mut self, live: &[(RegionName, Room)], leaving: &[&RegionName], reason: String) {
        let fewer = (1..leaving.len()).rev().map(|count| &leaving[..count]);
        let change = match { fewer }.find(|fewer| fits(live, fewer, false).is_ok()).and_then(<[_]>::last) {
            Some(last) => {
                let end = self.rollout.regions.iter().position(|region| region == *last).map_or(0, |at| at + 1);
                Change::Shrink { end, reason }
            }
            None => Change::Pause { reason },
        };
        self.plan.changes.push(change);
    }

    fn is_told_to_go_on(&self) -> bool {
        matches!(self.rollout.course.decided, Some(Decided { what: Decision::Promote, .. }))
    }
}

/// Whether the regions of `live` can serve the users of all of them without those that are `leaving`; else why not. Somebody
/// has to, `whatever` their load is.
fn fits(live: &[(RegionName, Room)], leaving: &[&RegionName], whatever: bool) -> Result<(), String> {
    let leaves = |region: &RegionName| leaving.contains(&region);
    let names = || leaving.iter().map(|region| region.as_str()).collect::<Vec<_>>().join(", ");
    if !live.iter().any(|(region, _)| leaves(region)) {
        return Ok(());
    }
    let staying: Vec<&Room> = live.iter().filter(|(region, _)| !leaves(region)).map(|(_, room)| room).collect();
    if staying.is_empty() {
        return Err(format!("nobody else can serve the users of {}", names()));
    }
    let in_flight: f64 = live.iter().map(|(_, room)| room.in_flight).sum();
    let limit: Option<u32> = staying.iter().map(|room| room.limit).sum();
    match limit {
        Some(limit) if in_flight > f64::from(limit) && !whatever => Err(format!(
            "without {} there would be {:.0} requests in flight on replicas that take {limit}",
            names(),
            in_flight.ceil()
        )),
        _ => Ok(()),
    }
}
