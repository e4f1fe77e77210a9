//! Whether the users of a region would find room elsewhere, if it were lost now: from what its replicas have in flight,
//! and from what those of the other regions have and may have.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ModelName, RegionName};

#[cfg(test)]
mod tests;

/// This part of what a region can do is kept for its own users and for bursts: nobody gets it who comes for want of room
/// elsewhere.
pub const SPARE: f64 = 0.1;
/// What is in flight is smoothed over about this long: a peak is noise.
pub const SMOOTHING: Duration = Duration::from_secs(5);
/// Less than this in flight is what smoothing leaves of nothing.
const NEGLIGIBLE: f64 = 0.01;

/// What is in flight, smoothed, when `now` is in flight so long after it was `before`.
pub fn smoothed(before: f64, now: f64, passed: Duration) -> f64 {
    let kept = (-passed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp();
    now + (before - now) * kept
}

/// What the replicas of a region do for one model, and how much they may do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    /// Requests that they have in flight, and those that wait for them, smoothed over some seconds.
    pub in_flight: f64,
    /// The same at the last look.
    #[serde(default)]
    pub in_flight_now: u32,
    /// The most that they may have in flight together; absent (null) where the deployment declares no concurrency.
    pub limit: Option<u32>,
    /// Those that are ready.
    pub replicas: u32,
}

impl Capacity {
    /// The part of the limit that is in use; `None` where there is no limit.
    pub fn utilisation(&self) -> Option<f64> {
        self.utilisation_with(0.0)
    }

    /// The same with so much more in flight.
    fn utilisation_with(&self, more: f64) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0).map(|limit| (self.in_flight + more) / f64::from(limit))
    }

    /// How much more it takes before others are asked. Without a limit gateways ask nobody else until its replicas
    /// have shown that they can do no more.
    fn room(&self) -> f64 {
        self.limit.map_or(f64::INFINITY, |limit| (f64::from(limit) * (1.0 - SPARE) - self.in_flight).max(0.0))
    }

    /// Whether it can certainly take so much: within the limit or, where none is declared, no more than one request in
    /// flight for each replica, since any replica works on one.
    fn certainly_takes(&self, more: f64) -> bool {
        self.limit.is_some() || self.in_flight + more <= f64::from(self.replicas)
    }
}

/// Users whose requests are answered in the region that is lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Movers {
    /// Of their requests, smoothed.
    pub in_flight: f64,
    /// The regions that may answer them then, as these users see them.
    pub nearest_first: Vec<RegionName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    Fits,
    /// A region would get more than one request at a time for each replica, and nothing says what its replicas can do.
    Unknown,
    DoesNotFit,
}

/// Where the users of a region would go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failover {
    /// That of the model that fits worst.
    pub fit: Fit,
    /// The models that the region serves, by name.
    pub models: Vec<ModelFailover>,
}

impl Failover {
    pub fn of(models: Vec<ModelFailover>) -> Self {
        Self { fit: models.iter().map(|model| model.fit).max().unwrap_or(Fit::Fits), models }
    }

    /// The model that fits worst.
    pub fn worst(&self) -> Option<&ModelFailover> {
        let share = |model: &ModelFailover| model.share.unwrap_or(1.0);
        self.models.iter().max_by(|a, b| a.fit.cmp(&b.fit).then(share(b).total_cmp(&share(a))))
    }
}

/// The same for the users of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelFailover {
    pub model: ModelName,
    pub fit: Fit,
    /// Of their requests in the region, smoothed.
    pub in_flight: f64,
    /// The part of the users that finds room; absent (null) when that is not known.
    pub share: Option<f64>,
    /// Who takes them, by name.
    pub targets: Vec<Target>,
}

/// A region that takes users of another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    pub region: RegionName,
    /// Requests in flight that come there in addition.
    pub in_flight: f64,
    /// The part of its limit that is in use now; absent (null) without a limit.
    pub utilisation: Option<f64>,
    /// The same with those who come.
    pub utilisation_then: Option<f64>,
}

/// Where all of them go, one after the other, each to the nearest that has room, as gateways send them. Regions without
/// an entry in `capacities` take nobody.
pub fn fail_over(model: ModelName, movers: &[Movers], capacities: &BTreeMap<RegionName, Capacity>) -> ModelFailover {
    let mut taken: BTreeMap<&RegionName, f64> = BTreeMap::new();
    let (mut left, mut stranded) = (0.0, false);
    for users in movers {
        let mut waiting = users.in_flight.max(0.0);
        let mut open = users.nearest_first.iter().filter_map(|name| Some((name, capacities.get(name)?))).peekable();
        // They would come back at any moment, to nobody.
        stranded |= open.peek().is_none();
        for (name, capacity) in open {
            let before = taken.entry(name).or_default();
            let takes = waiting.min((capacity.room() - *before).max(0.0));
            *before += takes;
            waiting -= takes;
            if waiting <= NEGLIGIBLE {
                break;
            }
        }
        left += waiting;
    }
    let in_flight: f64 = movers.iter().map(|users| users.in_flight.max(0.0)).sum();
    let sure = taken.iter().all(|(name, takes)| *takes <= NEGLIGIBLE || capacities[*name].certainly_takes(*takes));
    let fit = match (stranded || left > NEGLIGIBLE, sure) {
        (true, _) => Fit::DoesNotFit,
        (false, true) => Fit::Fits,
        (false, false) => Fit::Unknown,
    };
    let share = match (in_flight > NEGLIGIBLE, sure) {
        (_, false) => None,
        (true, true) => Some(((in_flight - left) / in_flight).clamp(0.0, 1.0)),
        (false, true) => Some(if stranded { 0.0 } else { 1.0 }),
    };
    let target = |(name, takes): (&RegionName, f64)| {
        let capacity = capacities[name];
        Target {
            region: name.clone(),
            in_flight: takes,
            utilisation: capacity.utilisation(),
            utilisation_then: capacity.utilisation_with(takes),
        }
    };
    ModelFailover { model, fit, in_flight, share, targets: taken.into_iter().map(target).collect() }
}
