//! Drills: a region is taken for lost for a while, and what happens is measured against what was expected.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    DrillNumber, ModelName, RegionName, Timestamp,
    capacity::{Failover, Fit},
    duration::Span,
    health::RETURN_TIME,
};

pub mod measure;

/// The shortest drill: probes must have time to notice.
pub const SHORTEST: Span = Span::from_secs(5);
/// The longest: gateways end one by themselves after this time, whatever they were told.
pub const LONGEST: Span = Span::from_secs(600);
/// A change reaches all gateways within this time, as long as nothing else was measured.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// That the last user is back is known this much later, as gateways report.
const REPORTED_WITHIN: Duration = Duration::from_secs(2);
/// So many earlier drills say how long it takes.
const EARLIER: usize = 5;

/// A drill as the store keeps it, from its start to the last user's return.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drill {
    pub number: DrillNumber,
    pub region: RegionName,
    pub lasts: Span,
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// `user@host`
    pub started_by: String,
    /// It was begun although users would not fit elsewhere, or something else spoke against it.
    pub forced: bool,
    pub state: DrillState,
    /// When the region was let back, and why.
    pub ended: Option<DrillEnd>,
    pub estimate: DrillEstimate,
    /// What had been counted when it began; absent (null) when not all gateways of the region had been heard.
    pub before: Option<Counted>,
    pub measured: Measured,
    /// The control plane was away for a part of it: what is missing was not seen.
    pub interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrillState {
    /// The region is taken for lost.
    Running,
    /// It is let back, and its users return.
    Returning,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillEnd {
    #[schema(value_type = String)]
    pub at: Timestamp,
    pub reason: EndReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its time was over.
    Time,
    /// Somebody stopped it.
    Stopped,
}

/// Answers since the gateways started, by whose users asked: the region's, and those of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    pub requests: u64,
    /// With a status of 500 or more.
    pub failed: u64,
    pub requests_of_others: u64,
    pub failed_of_others: u64,
}

impl Counted {
    /// What came after `before`; `None` where a gateway began to count anew.
    pub fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_sub(before.requests)?,
            failed: self.failed.checked_sub(before.failed)?,
            requests_of_others: self.requests_of_others.checked_sub(before.requests_of_others)?,
            failed_of_others: self.failed_of_others.checked_sub(before.failed_of_others)?,
        })
    }
}

/// What was expected before it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrillEstimate {
    pub failover: Failover,
    /// Until users are elsewhere, at most.
    pub moved_ms: u64,
    /// Absent (null) unless users fit elsewhere.
    pub failed: Option<u64>,
    /// Of the region's users while they are elsewhere; absent (null) when they asked for nothing before.
    pub p99_us: Option<u64>,
    /// From the end until all of them are back, at most.
    pub returned_ms: u64,
}

/// What was seen. What was not is absent (null).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Measured {
    /// From the start until users were elsewhere.
    pub moved_ms: Option<u64>,
    /// From the start until the users were back.
    pub counted: Option<Counted>,
    /// Of the region's users, each over the last minute or so: at home when it began, elsewhere when it ended, and at home
    /// when they were back.
    pub p99_before_us: Option<u64>,
    pub p99_during_us: Option<u64>,
    pub p99_after_us: Option<u64>,
    /// How full the regions that took the users were at most.
    pub targets: Vec<TargetUse>,
    /// From the end until the users were back.
    pub returned_ms: Option<u64>,
}

/// How full a region was with a model, at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetUse {
    pub model: ModelName,
    pub region: RegionName,
    pub in_flight: f64,
    /// Absent (null) without a limit.
    pub utilisation: Option<f64>,
}

impl Drill {
    /// When the region is let back, unless somebody stops it before.
    pub fn due(&self) -> Timestamp {
        self.started_at.checked_add(self.lasts.duration()).unwrap_or(Timestamp::MAX)
    }

    /// Whether gateways are told of it.
    pub fn runs(&self, now: Timestamp) -> bool {
        self.state == DrillState::Running && now < self.due()
    }

    /// Lets the region back.
    #[must_use]
    pub fn ending(mut self, at: Timestamp, reason: EndReason) -> Self {
        if self.state == DrillState::Running {
            self.state = DrillState::Returning;
            self.ended = Some(DrillEnd { at, reason });
        }
        self
    }
}

impl DrillEstimate {
    /// From where users would go, the worst p99 that they have now, the longest way to those who would answer them, and
    /// the drills of the region before, oldest first.
    pub fn of(failover: Failover, p99_now_us: Option<u64>, way: Option<Duration>, earlier: &[&Drill]) -> Self {
        let failed = (failover.fit == Fit::Fits).then_some(0);
        let way_us = way.map_or(0, |way| u64::try_from(way.as_micros()).unwrap_or(u64::MAX));
        let p99_us = p99_now_us.map(|p99| p99.saturating_add(way_us));
        let returned_ms = millis(RETURN_TIME + REPORTED_WITHIN);
        Self { moved_ms: moving_ms(earlier), failover, failed, p99_us, returned_ms }
    }
}

/// How long it takes at most until users are elsewhere: twice what the slowest of the last drills took, if there were
/// any.
pub fn moving_ms(earlier: &[&Drill]) -> u64 {
    let last = &earlier[earlier.len().saturating_sub(EARLIER)..];
    let slowest = last.iter().filter_map(|drill| drill.measured.moved_ms).max();
    slowest.map_or_else(|| millis(TOLD_WITHIN), |slowest| slowest.saturating_mul(2))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
