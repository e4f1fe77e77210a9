//! Golden cases on schedule: replicas that serve are asked again, and one that answers wrongly is replaced.

use std::time::{Duration, Instant};

use tradewind_core::{
    Timestamp,
    event::{EventKind, Severity},
};

use super::{Holding, SlotTask};
use crate::verify::Round;

/// What golden cases have shown since this slot took up what it holds.
#[derive(Debug)]
pub(super) struct Golden {
    /// The case that the next round begins with.
    pub(super) next: usize,
    pub(super) asking: bool,
    /// When the last round ended, or the first was waited for.
    last: Instant,
    pub(super) asked: u64,
    pub(super) wrong: u64,
    pub(super) unanswered: u64,
    pub(super) asked_at: Option<Timestamp>,
    pub(super) last_wrong: Option<String>,
}

impl Default for Golden {
    fn default() -> Self {
        Self {
            next: 0,
            asking: false,
            last: Instant::now(),
            asked: 0,
            wrong: 0,
            unanswered: 0,
            asked_at: None,
            last_wrong: None,
        }
    }
}

impl Holding {
    /// When golden cases are to be asked again; `None` while they are, and where they never are.
    pub(super) fn golden_due_after(&self) -> Option<Duration> {
        let interval = self.assignment.monitors.golden_interval.duration();
        let wanted = self.assignment.monitored && !interval.is_zero() && !self.releasing;
        (wanted && !self.golden.asking).then(|| interval.saturating_sub(self.golden.last.elapsed()))
    }
}

impl SlotTask {
    pub(super) fn asked_again(&mut self, round: Round) {
        let Some(holding) = &mut self.holding else { return };
        let golden = &mut holding.golden;
        (golden.asking, golden.last, golden.asked_at) = (false, Instant::now(), Some(Timestamp::now()));
        golden.next = round.next;
        golden.asked += round.asked;
        golden.wrong += round.wrong;
        golden.unanswered += round.unanswered;
        let version = holding.assignment.version;
        for (id, problem) in round.suspects {
            let Some(replica) = self.replicas.iter_mut().find(|replica| replica.record.id == id) else { continue };
            golden.last_wrong = Some(problem.clone());
            if !replica.is_suspect() {
                replica.suspect();
                let message = format!("replica {id} of {} {version} answers wrongly: {problem}", self.key.0);
                self.context.events.emit(Severity::Error, EventKind::WrongAnswer, Some(&self.key.0), message);
            }
        }
    }
}
