//! Judging a revision in a region by what was counted: healthy, failed, or not to be told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Monitors,
    evidence::{Evidence, Objective, ObjectiveKind},
    statistics,
};

/// Fewer answers than this, of users and golden cases together, clear nothing.
pub const ENOUGH: u64 = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Healthy,
    /// Proved to be worse than it may be, and worse than it was. The reason is one phrase for people.
    Failed {
        reason: String,
    },
    /// The evidence neither clears nor condemns.
    Inconclusive {
        reason: String,
    },
}

impl Verdict {
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::Failed { reason } | Self::Inconclusive { reason } => Some(reason),
        }
    }
}

/// Judges what was counted. `past` is the same region before the change that is judged, where there was anything: a
/// region that was as bad before does not condemn what came after. Wrong answers condemn by themselves.
pub fn judge(monitors: &Monitors, evidence: &Evidence, past: Option<&Evidence>) -> Verdict {
    let tally = &evidence.tally;
    if tally.wrong > 0 {
        let reason = format!("{} of {} golden cases answered wrongly", tally.wrong, tally.cases);
        return Verdict::Failed { reason };
    }
    let past = past.filter(|past| past.tally.requests > 0);
    let mut doubt = None;
    for objective in monitors.objectives() {
        let missed = objective.counts(tally);
        if !objective.burns(tally, 1.0) {
            if objective.burn(tally).is_some_and(|burn| burn > 1.0) {
                doubt.get_or_insert_with(|| format!("{}: too few to tell", told(&objective, missed)));
            }
            continue;
        }
        let reason = told(&objective, missed);
        match past.map(|past| objective.counts(&past.tally)) {
            Some(before) if !statistics::larger(missed, before) => {
                doubt.get_or_insert_with(|| format!("{reason}, as before"));
            }
            _ => return Verdict::Failed { reason },
        }
    }
    let answered =
        (tally.requests - tally.failed.min(tally.requests)) + (tally.cases - tally.unanswered.min(tally.cases));
    match doubt {
        Some(reason) => Verdict::Inconclusive { reason },
        None if tally.unanswered > 0 && tally.requests == 0 => Verdict::Inconclusive {
            reason: format!("{} of {} golden cases not answered", tally.unanswered, tally.cases),
        },
        None if answered < ENOUGH => Verdict::Inconclusive { reason: format!("only {answered} answers to judge by") },
        None => Verdict::Healthy,
    }
}

/// `12 of 400 requests failed`
fn told(objective: &Objective, (bad, total): (u64, u64)) -> String {
    let what = match objective.kind {
        ObjectiveKind::Availability => "failed",
        ObjectiveKind::Latency => "were slower than their objective",
    };
    format!("{bad} of {total} requests {what}")
}

/// How one slot stands beside another, or beside its own past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "comparison", rename_all = "snake_case")]
pub enum Comparison {
    /// Nothing shows that it is worse.
    NoWorse,
    Worse {
        reason: String,
    },
    /// Too little was counted on one side.
    Unknown,
}

/// Answers are compared by how many are slower than all but this share of the other side's.
const SLOW_QUANTILE: f64 = 0.95;
/// So many times as many of them is a difference that users feel.
const SLOWER_BY: f64 = 2.0;

/// Whether one side fails more, or is slower: proved, and by so much that it matters. No objective is needed, so this
/// also judges deployments that state none.
pub fn compare(candidate: &Evidence, baseline: &Evidence) -> Comparison {
    let (one, other) = (&candidate.tally, &baseline.tally);
    if one.requests < ENOUGH || other.requests < ENOUGH {
        return Comparison::Unknown;
    }
    if statistics::larger((one.failed, one.requests), (other.failed, other.requests)) {
        let percent = |failed: u64, requests: u64| failed as f64 * 100.0 / requests as f64;
        let reason = format!(
            "{:.2} % of requests failed, {:.2} % there",
            percent(one.failed, one.requests),
            percent(other.failed, other.requests)
        );
        return Comparison::Worse { reason };
    }
    let Some(limit) = baseline.quantile(SLOW_QUANTILE) else { return Comparison::NoWorse };
    let slow = |evidence: &Evidence| (evidence.durations.slower_than(limit), evidence.durations.count());
    let ((slow_here, here), (slow_there, there)) = (slow(candidate), slow(baseline));
    let matters = slow_here as f64 * there as f64 > SLOWER_BY * (slow_there as f64 * here as f64) && here > 0;
    if matters && statistics::larger((slow_here, here), (slow_there, there)) {
        let p95 = candidate.quantile(SLOW_QUANTILE).unwrap_or_default();
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let reason = format!("p95 is {} ms, {} ms there", millis(p95), millis(limit));
        return Comparison::Worse { reason };
    }
    Comparison::NoWorse
}

#[cfg(test)]
mod tests;
