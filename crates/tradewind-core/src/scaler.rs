//! How many replicas a slot should have now: from what a revision says, what a person has set, and what the gateways of
//! the region had in flight over the last time.
//!
//! Up at once and down slowly. The number of replicas is what is in flight, divided by the target; a small excess is
//! noise. It goes up as soon as that is more (the mean over some seconds, or a single second that is far beyond what is
//! there), and down only to what was needed at some moment of a whole `scale_down_after`, all of which was seen: numbers
//! that are missing end nobody's replica.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Timestamp,
    duration::Span,
    scale::{Bounds, Scale},
};

#[cfg(test)]
mod tests;

/// What is in flight is a mean over this long (Knative's panic window).
pub const SHORT_WINDOW: Duration = Duration::from_secs(6);
/// A single second with so many times what the replicas are meant for is no noise (Knative's panic threshold).
const FAR_BEYOND: f64 = 2.0;
/// So much more than the replicas are meant for is noise (the tolerance of Kubernetes).
const TOLERANCE: f64 = 0.1;
/// Less than this in flight is nothing.
const NEGLIGIBLE: f64 = 0.001;
/// What was needed is remembered in so many parts of the window.
const PARTS: u32 = 60;
/// The most observations within the short window; they come once a second, and at once where somebody waits.
const OBSERVATIONS_LIMIT: usize = 64;

/// What the gateways of a region say of a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Demand {
    /// Requests on their way and those that wait.
    pub in_flight: f64,
    /// Somebody has asked since the last observation, perhaps too shortly to be seen in flight.
    pub asked: bool,
}

impl Demand {
    pub fn and(self, other: Self) -> Self {
        Self { in_flight: self.in_flight + other.in_flight, asked: self.asked || other.asked }
    }
}

/// A number that a person has set, until another is set or it is given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByHand {
    pub replicas: u32,
    /// `user@host`
    pub by: String,
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// What is decided upon.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    pub scale: &'a Scale,
    pub by_hand: Option<&'a ByHand>,
    /// The time since some fixed moment.
    pub at: Duration,
    /// The time of the day.
    pub now: Timestamp,
    /// The number that was decided last; `None` for a slot that has none yet.
    pub current: Option<u32>,
    /// So many are needed whatever is asked: a slot is brought up and verified by one at least.
    pub least: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub replicas: u32,
    /// Why, for people: `7.2 in flight, 2 for each replica`.
    pub reason: String,
}

/// What is remembered of one slot's demand.
#[derive(Debug, Clone, Default)]
pub struct Scaler {
    /// Everything since then was seen.
    seen_since: Option<Duration>,
    /// Within the short window, oldest first.
    recent: VecDeque<(Duration, Demand)>,
    /// The most replicas that were needed in each part of the window, oldest first, by when it began.
    needed: VecDeque<(Duration, u32)>,
}

impl Scaler {
    /// Takes in what is in flight; `None` when nobody says, or somebody who did has fallen silent.
    pub fn observe(&mut self, at: Duration, demand: Option<Demand>) {
        let Some(demand) = demand else {
            *self = Self::default();
            return;
        };
        self.seen_since.get_or_insert(at);
        self.recent.retain(|(then, _)| at.saturating_sub(*then) < SHORT_WINDOW);
        if self.recent.len() == OBSERVATIONS_LIMIT {
            self.recent.pop_front();
        }
        self.recent.push_back((at, demand));
    }

    /// What is in flight as it counts where so many would be right.
    fn felt(&self, right: f64) -> Option<Demand> {
        let newest = self.recent.back()?.1;
        if newest.in_flight > right * FAR_BEYOND {
            return Some(newest);
        }
        let sum = self.recent.iter().map(|(_, demand)| demand.in_flight).sum::<f64>();
        let asked = self.recent.iter().any(|(_, demand)| demand.asked);
        Some(Demand { in_flight: sum / self.recent.len() as f64, asked })
    }

    /// Decides. What was needed is remembered for the decisions that follow.
    pub fn decide(&mut self, situation: Situation<'_>) -> Decision {
        let Situation { scale, by_hand, least, .. } = situation;
        let followed = scale.bounds.as_ref().map(|bounds| self.follow(bounds, situation));
        let decision = match (by_hand, followed) {
            (Some(hand), _) => {
                Decision { replicas: hand.replicas, reason: format!("set by hand by {}", who(&hand.by)) }
            }
            (None, Some(followed)) => followed,
            (None, None) => Decision { replicas: scale.replicas, reason: "fixed by the revision".to_owned() },
        };
        if decision.replicas < least {
            let reason = "brought up and verified with as many".to_owned();
            return Decision { replicas: least, reason };
        }
        decision
    }

    fn follow(&mut self, bounds: &Bounds, situation: Situation<'_>) -> Decision {
        let Situation { at, now, current, .. } = situation;
        let (floor, scheduled) = bounds.min_at(now);
        let current = current.unwrap_or_else(|| bounds.first()).clamp(floor, bounds.max);
        let right = f64::from(current) * f64::from(bounds.target);
        let Some(felt) = self.felt(right) else {
            let reason = "no gateway says what is in flight: it stays".to_owned();
            return Decision { replicas: current, reason };
        };
        let asked = asked_for(felt, bounds.target, current);
        let needed = asked.clamp(floor, bounds.max);
        let window = bounds.scale_down_after.duration();
        self.note(at, needed, window);
        if needed < current {
            let peak = self.peak(at, window).max(needed);
            if peak >= current {
                return Decision { replicas: current, reason: self.why_still(at, bounds.scale_down_after, asked) };
            }
            return Decision { replicas: peak, reason: why(felt, bounds, asked, peak, scheduled) };
        }
        Decision { replicas: needed, reason: why(felt, bounds, asked, needed, scheduled) }
    }

    fn note(&mut self, at: Duration, needed: u32, window: Duration) {
        let part = window / PARTS;
        match self.needed.back_mut() {
            Some((began, most)) if at.saturating_sub(*began) < part => *most = needed.max(*most),
            _ => self.needed.push_back((at, needed)),
        }
        // A part counts until its end has left the window.
        self.needed.retain(|(began, _)| at.saturating_sub(*began) < window + part);
    }

    /// The most that was needed in the window; without an end as long as not all of it was seen.
    fn peak(&self, at: Duration, window: Duration) -> u32 {
        let is_seen = self.seen_since.is_some_and(|since| at.saturating_sub(since) >= window);
        if !is_seen {
            return u32::MAX;
        }
        self.needed.iter().map(|(_, needed)| *needed).max().unwrap_or(u32::MAX)
    }

    fn why_still(&self, at: Duration, window: Span, asked: u32) -> String {
        let seen = self.seen_since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
        if seen >= window.duration() {
            return format!("{asked} would do now; it goes down when no more were needed for {window}");
        }
        format!("{asked} would do now; what is in flight is known for {} s, and {window} must be", seen.as_secs())
    }
}

/// The replicas that so much asks for. A little more than those there are meant for asks for no other one.
fn asked_for(felt: Demand, target: u32, current: u32) -> u32 {
    let Demand { in_flight, asked } = felt;
    if in_flight < NEGLIGIBLE {
        return u32::from(asked);
    }
    let right = f64::from(current) * f64::from(target);
    if in_flight > right && in_flight <= right * (1.0 + TOLERANCE) {
        return current;
    }
    // The cast saturates.
    ((in_flight / f64::from(target)).ceil() as u32).max(1)
}

fn why(
    felt: Demand,
    bounds: &Bounds,
    asked: u32,
    replicas: u32,
    scheduled: Option<&crate::scale::ScheduledMinimum>,
) -> String {
    let in_flight = match (felt.in_flight >= NEGLIGIBLE, felt.asked) {
        (true, _) => format!("{:.1} in flight, {} for each replica", felt.in_flight, bounds.target),
        (false, true) => "few requests".to_owned(),
        (false, false) => "nobody asks".to_owned(),
    };
    match scheduled {
        _ if replicas == 0 => "scaled to zero: nobody asks".to_owned(),
        _ if asked > replicas => format!("{in_flight}; at most {replicas}"),
        Some(entry) if asked < replicas && entry.min == replicas => format!("{in_flight}; scheduled: {entry}"),
        None if asked < replicas && bounds.min == replicas => format!("{in_flight}; at least {replicas}"),
        _ => in_flight,
    }
}

fn who(by: &str) -> &str {
    if by.is_empty() { "somebody" } else { by }
}
