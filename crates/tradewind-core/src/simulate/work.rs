//! What the simulated control plane does: it plans and writes as the reconciler does, and does what people say.

use std::{collections::BTreeMap, time::Duration};

use super::{people::Word, region::later, words, world::World};
use crate::{
    Epoch, RegionName, RevisionNumber, Timestamp,
    assignment::Failure,
    rollout::{
        Action, RolloutFailure,
        plan::{self, Change, Observed, Plan, Reach},
    },
};

/// What gateways may still send users to is looked at again so much later.
const STILL_SERVED_RETRY: Duration = Duration::from_millis(250);

/// What an instant of control's work came to.
pub(super) struct Worked {
    pub wrote: bool,
    /// When to look again if nothing happens.
    pub wake_at: Option<Timestamp>,
}

impl World<'_> {
    /// What control does at this time: one plan, written.
    pub(super) fn work(&mut self) -> Worked {
        if self.control_is_down() {
            return Worked { wrote: false, wake_at: None };
        }
        if self.told_at == Some(self.now) {
            return Worked { wrote: false, wake_at: Some(later(self.now, Duration::from_millis(1))) };
        }
        if self.control.unswept {
            let committed = self.control.committed.as_ref().map(|state| self.gateways_at(state.epoch));
            if committed.is_some_and(|gateways| !gateways.have_moved_on()) {
                return Worked { wrote: false, wake_at: Some(later(self.now, STILL_SERVED_RETRY)) };
            }
            self.sweep();
            return Worked { wrote: true, wake_at: None };
        }
        let Plan { changes, wake_at } = plan::plan(&self.control.rollout, &self.control.records, self, self.now);
        let (regions, fleet): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.region().is_some());
        for change in &regions {
            self.control.write_region(change, self.now);
            self.tell(change);
        }
        let wrote = fleet.first().is_some_and(|change| self.write_fleet(change));
        let refused = !fleet.is_empty() && !wrote;
        let wake_at = if refused { Some(later(self.now, STILL_SERVED_RETRY)) } else { wake_at };
        Worked { wrote: wrote || !regions.is_empty(), wake_at }
    }

    /// `false` if it cannot be done yet.
    fn write_fleet(&mut self, change: &Change) -> bool {
        if !(matches!(change, Change::Condemn { .. }) && self.control.rollout.has_served()) {
            self.control.write_fleet(change, self.now);
            self.tell(change);
            return true;
        }
        if !self.is_warm() {
            return false;
        }
        change.apply_fleet(&mut self.control.rollout, Epoch::default(), self.now);
        self.tell(change);
        self.go_back();
        true
    }

    fn tell(&mut self, change: &Change) {
        if let Some(text) = words::of_change(change, &self.control) {
            self.say(change.region(), text);
        }
    }

    fn sweep(&mut self) {
        self.control.unswept = false;
        let slots = self.control.slots;
        let mut emptied: BTreeMap<RevisionNumber, Vec<&RegionName>> = BTreeMap::new();
        for (region, assignment) in &mut self.control.assignments {
            assignment.retain(|slot, assigned| {
                let wanted = slots[*slot] == Some(assigned.revision);
                if !wanted {
                    emptied.entry(assigned.revision).or_default().push(region);
                }
                wanted
            });
        }
        let told = emptied.into_iter().map(|(revision, regions)| {
            format!("revision {revision} is taken down in {}", words::names(regions.into_iter()))
        });
        for text in told.collect::<Vec<_>>() {
            self.say(None, text);
        }
    }

    /// Whether what served before is ready wherever anybody can tell, and somebody can.
    fn is_warm(&self) -> bool {
        let Some((brought, records, _)) = &self.control.before else { return false };
        let held = self.control.slots[brought.slot] == Some(brought.revision);
        let reaches: Vec<Reach> = records.iter().map(|record| self.region(&record.region).reach).collect();
        held && reaches.contains(&Reach::Reachable) && !reaches.contains(&Reach::Unknown)
    }

    fn go_back(&mut self) {
        if let Some((brought, records, revision)) = self.control.before.take() {
            self.control.go_back(&brought, &records, &revision, self.now);
            let epoch = self.control.epoch;
            self.say(None, format!("epoch {epoch}: users everywhere get revision {} again", revision.number));
        }
    }

    /// What a person says.
    pub(super) fn decide(&mut self, word: Word) {
        let refused = |why: &str| format!("a person says {}: refused, {why}", word.as_str());
        if self.control_is_down() {
            return self.say(None, refused("control is down"));
        }
        let now = self.now;
        let rollout = &mut self.control.rollout;
        let done = match word {
            Word::Pause => rollout.pause("a person", now).map_err(|refusal| refusal.to_string()),
            Word::Resume => rollout.resume(now).map_err(|refusal| refusal.to_string()),
            Word::Promote => rollout.promote(false, now).map_err(|refusal| refusal.to_string()),
            Word::PromoteFull => rollout.promote(true, now).map_err(|refusal| refusal.to_string()),
            Word::Abort => return self.abort(),
        };
        match done {
            Ok(()) => self.say(None, format!("a person says {}", word.as_str())),
            Err(why) => self.say(None, refused(&why)),
        }
    }

    fn abort(&mut self) {
        let rollout = &self.control.rollout;
        let refused = match rollout.state {
            state if state.is_final() => Some("no rollout is under way"),
            _ if rollout.has_served() && self.control.before.is_none() => Some("there is nothing to go back to"),
            _ if rollout.has_served() && !self.is_warm() => Some("what served before is not heard of"),
            _ => None,
        };
        if let Some(why) = refused {
            return self.say(None, format!("a person says abort: refused, {why}"));
        }
        self.say(None, "a person says abort");
        if self.control.rollout.has_served() {
            return self.go_back();
        }
        let failure = Failure { message: "aborted".to_owned(), causes: Vec::new(), hint: None, retryable: false };
        let failure = RolloutFailure { region: None, action: Action::SelectRegions, failure };
        self.write_fleet(&Change::Fail { failure });
    }
}
