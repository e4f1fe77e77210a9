//! What a revision says about its number of replicas: one that is fixed, or bounds within which it follows demand.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::{Timestamp, duration::Span};

/// The most replicas of one slot in one region.
pub const REPLICAS_LIMIT: u32 = 1000;
/// The most requests in flight that a replica may be said to take.
pub const CONCURRENCY_LIMIT: u32 = 65_536;
/// The most minimums that hold at some times only.
pub const SCHEDULE_LIMIT: usize = 32;
/// A replica works on one request while the next one waits (Ray Serve's default too).
pub const DEFAULT_TARGET: u32 = 2;
/// A lull is shorter than this, and a replica that was ended too early is missed for as long as it takes to load its
/// model again: minutes for a large one. Ray Serve waits as long.
pub const DEFAULT_SCALE_DOWN_AFTER: Span = Span::from_secs(600);
/// The longest time that a number of replicas outlives the demand for it.
const SCALE_DOWN_AFTER_LIMIT: Span = Span::from_secs(24 * 3600);
/// The shortest: demand is told once a second.
const SCALE_DOWN_AFTER_LEAST: Span = Span::from_secs(1);
const MINUTES_OF_DAY: u16 = 24 * 60;

/// Replicas of one slot in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// The number of replicas; with `bounds`, the number that a slot is brought up with when nobody asks.
    pub replicas: u32,
    /// Threads that one inference may use inside a replica.
    pub threads: u32,
    /// The most requests that a replica should have in flight. With it, a region that is full sends what is beyond to
    /// the nearest region with room; without it, gateways find out what a replica can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// With them the number follows demand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
}

impl Default for Scale {
    fn default() -> Self {
        Self { replicas: 1, threads: 1, concurrency: None, bounds: None }
    }
}

/// Within what, and how, the number of replicas follows demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// 0: without demand there is no replica, and requests wait while the first one starts.
    pub min: u32,
    pub max: u32,
    /// Requests in flight for each replica, those that wait included.
    pub target: u32,
    /// The number goes down when it was not needed for this long.
    pub scale_down_after: Span,
    /// Minimums that hold at some times only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<ScheduledMinimum>,
}

/// A minimum that holds from one time of the day to another, in UTC. Past midnight it belongs to the day on which it
/// began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledMinimum {
    pub from: TimeOfDay,
    pub to: TimeOfDay,
    pub min: u32,
    /// Empty: every day.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<Day>,
}

/// A time of the day to the minute, written `08:00`; `24:00` is its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, examples("08:00"))]
pub struct TimeOfDay(u16);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of the day: write 08:00, or 24:00 for its end")]
pub struct InvalidTime(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

const WEEK: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

impl Scale {
    /// What is wrong with it, for people.
    pub fn check(&self) -> Result<(), String> {
        if self.replicas == 0 || self.replicas > REPLICAS_LIMIT {
            return Err(format!("replicas are between 1 and {REPLICAS_LIMIT}, not {}", self.replicas));
        }
        if self.concurrency.is_some_and(|limit| limit == 0 || limit > CONCURRENCY_LIMIT) {
            return Err(format!("a replica's concurrency is between 1 and {CONCURRENCY_LIMIT}"));
        }
        let Some(bounds) = &self.bounds else { return Ok(()) };
        bounds.check()?;
        match self.concurrency.filter(|limit| *limit < bounds.target) {
            Some(limit) => Err(format!(
                "a replica takes {limit} requests (its concurrency), so it never has the {} that are its target",
                bounds.target
            )),
            None => Ok(()),
        }
    }

    /// What is wanted of replicas, for people: `3`, or `1 to 10, 2 in flight each`.
    pub fn words(&self) -> String {
        self.bounds.as_ref().map_or_else(|| self.replicas.to_string(), ToString::to_string)
    }
}

impl Bounds {
    fn check(&self) -> Result<(), String> {
        let Self { min, max, target, scale_down_after, schedule } = self;
        if *max == 0 || *max > REPLICAS_LIMIT {
            return Err(format!("the most replicas are between 1 and {REPLICAS_LIMIT}, not {max}"));
        }
        if min > max {
            return Err(format!("the fewest replicas ({min}) are more than the most ({max})"));
        }
        if *target == 0 || *target > CONCURRENCY_LIMIT {
            return Err(format!("the requests in flight for each replica are between 1 and {CONCURRENCY_LIMIT}"));
        }
        if *scale_down_after < SCALE_DOWN_AFTER_LEAST || *scale_down_after > SCALE_DOWN_AFTER_LIMIT {
            return Err(format!(
                "replicas are ended after {SCALE_DOWN_AFTER_LEAST} to {SCALE_DOWN_AFTER_LIMIT} without demand, not \
                 {scale_down_after}"
            ));
        }
        if schedule.len() > SCHEDULE_LIMIT {
            return Err(format!("there are at most {SCHEDULE_LIMIT} scheduled minimums"));
        }
        for entry in schedule {
            if entry.min > *max {
                return Err(format!("the minimum {entry} is more than the most replicas ({max})"));
            }
            if entry.from == entry.to || entry.from.0 == MINUTES_OF_DAY {
                return Err(format!("the minimum {entry} never holds; a whole day is from 00:00 to 24:00"));
            }
        }
        Ok(())
    }

    /// The fewest replicas at that time, and the scheduled minimum that says so if one does.
    pub fn min_at(&self, now: Timestamp) -> (u32, Option<&ScheduledMinimum>) {
        let holding = self.schedule.iter().filter(|entry| entry.min > self.min && entry.holds_at(now));
        let highest = holding.max_by_key(|entry| entry.min);
        (highest.map_or(self.min, |entry| entry.min), highest)
    }

    /// What a slot is brought up with when nobody asks: it is verified by a replica at least.
    pub fn first(&self) -> u32 {
        self.min.max(1)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, target, scale_down_after, schedule } = self;
        write!(f, "{min} to {max}, {target} in flight each, down after {scale_down_after}")?;
        for entry in schedule {
            write!(f, ", at least {entry}")?;
        }
        Ok(())
    }
}

impl ScheduledMinimum {
    fn holds_at(&self, now: Timestamp) -> bool {
        let seconds = now.as_second();
        let days = seconds.div_euclid(86_400);
        let minute = TimeOfDay(u16::try_from(seconds.rem_euclid(86_400) / 60).unwrap_or(0));
        // The first day of the epoch was a Thursday.
        let on = |days: i64| {
            let day = WEEK[usize::try_from((days + 3).rem_euclid(7)).unwrap_or(0)];
            self.days.is_empty() || self.days.contains(&day)
        };
        if self.from < self.to {
            return on(days) && (self.from..self.to).contains(&minute);
        }
        (minute >= self.from && on(days)) || (minute < self.to && on(days - 1))
    }
}

impl fmt::Display for ScheduledMinimum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, min, days } = self;
        write!(f, "{min} from {from} to {to} UTC")?;
        for (at, day) in days.iter().enumerate() {
            write!(f, "{}{day:?}", if at == 0 { " on " } else { ", " })?;
        }
        Ok(())
    }
}

impl FromStr for TimeOfDay {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime(text.chars().take(40).collect());
        let two_digits = |part: &str| match part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u16>().map_err(|_| invalid()),
            false => Err(invalid()),
        };
        let (hours, minutes) = text.split_once(':').ok_or_else(invalid)?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
        let time = hours * 60 + minutes;
        if minutes < 60 && time <= MINUTES_OF_DAY { Ok(Self(time)) } else { Err(invalid()) }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(min: u32, max: u32) -> Bounds {
        Bounds { min, max, target: 2, scale_down_after: DEFAULT_SCALE_DOWN_AFTER, schedule: Vec::new() }
    }

    fn entry(from: &str, to: &str, min: u32, days: &[Day]) -> ScheduledMinimum {
        let time = |text: &str| text.parse().unwrap();
        ScheduledMinimum { from: time(from), to: time(to), min, days: days.iter().copied().collect() }
    }

    #[test]
    fn times_of_the_day_are_read_and_printed() {
        for text in ["00:00", "08:05", "23:59", "24:00"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        for text in ["", "8:00", "24:01", "12:60", "+1:00", "12:3a", "0800", "99:99", "08:00:00"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_highest_minimum_that_holds_is_the_minimum() {
        let weekdays = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri];
        let schedule = vec![
            entry("08:00", "18:00", 4, &weekdays),
            entry("12:00", "13:00", 6, &[]),
            entry("22:00", "02:00", 3, &[Day::Sat]),
            entry("00:00", "24:00", 1, &[]),
        ];
        let bounds = Bounds { schedule, ..bounds(0, 10) };
        assert_eq!(Scale { bounds: Some(bounds.clone()), ..Scale::default() }.check(), Ok(()));
        for (now, expected) in [
            ("2026-11-02T07:59:59Z", 1), // a Monday
            ("2026-11-02T08:00:00Z", 4),
            ("2026-11-02T12:30:00Z", 6),
            ("2026-11-02T18:00:00Z", 1),
            ("2026-11-07T09:00:00Z", 1), // a Saturday
            ("2026-11-07T23:00:00Z", 3),
            ("2026-11-08T01:59:00Z", 3),
            ("2026-11-08T02:00:00Z", 1),
            ("2026-11-07T01:00:00Z", 1),
            ("1969-12-31T12:30:00Z", 6),
        ] {
            assert_eq!(bounds.min_at(now.parse().unwrap()).0, expected, "{now}");
        }
    }

    #[test]
    fn bounds_that_cannot_be_are_refused() {
        let with = |bounds| Scale { bounds: Some(bounds), concurrency: Some(8), ..Scale::default() };
        assert_eq!(with(bounds(0, 1)).check(), Ok(()));
        let scheduled = |entry| Bounds { schedule: vec![entry], ..bounds(1, 4) };
        for (scale, message) in [
            (with(bounds(3, 2)), "more than the most"),
            (with(bounds(0, 0)), "between 1 and 1000"),
            (with(bounds(1, 1001)), "between 1 and 1000"),
            (with(Bounds { target: 0, ..bounds(1, 2) }), "between 1 and 65536"),
            (with(Bounds { target: 9, ..bounds(1, 2) }), "its concurrency"),
            (with(Bounds { scale_down_after: Span::from_millis(10), ..bounds(1, 2) }), "without demand, not 10ms"),
            (with(scheduled(entry("08:00", "09:00", 5, &[]))), "more than the most"),
            (with(scheduled(entry("08:00", "08:00", 2, &[]))), "never holds"),
            (with(scheduled(entry("24:00", "08:00", 2, &[]))), "never holds"),
            (with(Bounds { schedule: vec![entry("01:00", "02:00", 1, &[]); 33], ..bounds(1, 2) }), "at most 32"),
            (Scale { replicas: 0, ..Scale::default() }, "replicas are between"),
            (Scale { concurrency: Some(0), ..Scale::default() }, "concurrency is between"),
        ] {
            let problem = scale.check().unwrap_err();
            assert!(problem.contains(message), "{problem}");
        }
    }
}
