//! What the monitors say of a revision that is on trial. Every report wakes the planner, which would judge all regions anew each
//! time; what was counted changes once a second.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tradewind_core::{
    RegionName, RolloutNumber, Timestamp,
    monitor::verdict::{self, Verdict},
};

use super::working::Working;
use crate::{
    hub::elapsed,
    monitoring::{Ledger, Subject},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// How long ago what was counted is still the past of a region.
const PAST: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Default)]
pub(super) struct Judge {
    /// What was judged last, and when.
    judged: Option<(RolloutNumber, Instant)>,
    verdicts: BTreeMap<RegionName, Verdict>,
}

impl Judge {
    /// Of the regions that were judged last.
    pub(super) fn verdicts(&self) -> &BTreeMap<RegionName, Verdict> {
        &self.verdicts
    }

    /// Judges the routed regions of a rollout that is on trial, unless it has just done so.
    pub(super) fn look(&mut self, working: &Working, ledger: &Ledger) {
        let rollout = &working.rollout.value;
        if !rollout.is_on_trial() {
            *self = Self::default();
            return;
        }
        let is_fresh = |(number, at): (RolloutNumber, Instant)| number == rollout.number && at.elapsed() < INTERVAL;
        if self.judged.is_some_and(is_fresh) {
            return;
        }
        let now = Timestamp::now();
        let routed = working.records.iter().filter(|record| record.routed_at.is_some());
        let judge = |region: &RegionName| (region.clone(), judge(working, ledger, region, now));
        self.verdicts = routed.map(|record| judge(&record.region)).collect();
        self.judged = Some((rollout.number, Instant::now()));
    }
}

/// What was counted of the revision in a region since users were moved to it, beside what was counted there of the one
/// before until then.
fn judge(working: &Working, ledger: &Ledger, region: &RegionName, now: Timestamp) -> Verdict {
    let rollout = &working.rollout.value;
    let evidence = |revision, window| {
        let subject = Subject { model: rollout.model.clone(), region: region.clone(), revision };
        ledger.evidence(&subject, window, now)
    };
    let since = rollout.users_since().map_or(Duration::ZERO, |at| elapsed(at, now));
    let past = rollout.from.map(|from| evidence(from, since.saturating_add(PAST)));
    let monitors = working.revision.spec.monitors_of(region);
    verdict::judge(&monitors, &evidence(rollout.revision, since), past.as_ref())
}
