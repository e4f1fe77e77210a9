//! What a revision says about its number of replicas: one that is fixed, or bounds within which it follows demand.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::{
    Timestamp,
    batch::{BatchMode, BatchOptions, ROWS_LIMIT},
    duration::Span,
    resources::{Cpu, Memory},
};

/// The most replicas of one slot in one region.
pub const REPLICAS_LIMIT: u32 = 1000;
/// The most requests in flight that a replica may be said to take.
pub const CONCURRENCY_LIMIT: u32 = 65_536;
/// The most threads of one inference.
pub const THREADS_LIMIT: u32 = 256;
/// The most inferences side by side in a replica.
pub const INSTANCES_LIMIT: u32 = 64;
/// The least and the most time on cores that a replica can be given: a hundredth of a core is 1 ms of every 100 ms.
const CPU_LIMITS: (Cpu, Cpu) = (Cpu::from_milli(10), Cpu::from_milli(1_024_000));
/// The least and the most memory. With less, not even an empty server starts.
const MEMORY_LIMITS: (Memory, Memory) = (Memory::from_bytes(16 << 20), Memory::from_bytes(16 << 40));
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
    /// Threads that one inference may use inside a replica. Without it, as many as its `cpu` is worth for each of its
    /// instances; one where that is not said either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Inferences that a replica runs side by side, each on a session of its own that shares the model's weights.
    #[serde(skip_serializing_if = "is_one")]
    pub instances: u32,
    /// Time on cores that a replica may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory that a replica may take: one that takes more is ended, and started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The most rows of one inference that is made of several requests; 1: requests run one by one. Without it, as the
    /// model's bundle says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_rows: Option<u32>,
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
        Self {
            replicas: 1,
            threads: None,
            instances: 1,
            cpu: None,
            memory: None,
            max_batch_rows: None,
            concurrency: None,
            bounds: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it may skip so")]
fn is_one(number: &u32) -> bool {
    *number == 1
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
        if self.threads.is_some_and(|threads| threads == 0 || threads > THREADS_LIMIT) {
            return Err(format!("threads are between 1 and {THREADS_LIMIT}"));
        }
        if self.instances == 0 || self.instances > INSTANCES_LIMIT {
            return Err(format!(
                "the instances of a replica are between 1 and {INSTANCES_LIMIT}, not {}",
                self.instances
            ));
        }
        if let Some(cpu) = self.cpu.filter(|cpu| *cpu < CPU_LIMITS.0 || *cpu > CPU_LIMITS.1) {
            return Err(format!("a replica has between {} and {} cores, not {cpu}", CPU_LIMITS.0, CPU_LIMITS.1));
        }
        if let Some(memory) = self.memory.filter(|memory| *memory < MEMORY_LIMITS.0 || *memory > MEMORY_LIMITS.1) {
            let (least, most) = MEMORY_LIMITS;
            return Err(format!("a replica has between {least} and {most} of memory, not {memory}"));
        }
        if self.max_batch_rows.is_some_and(|rows| rows == 0 || rows > ROWS_LIMIT) {
            return Err(format!("the most rows of a batch are between 1 and {ROWS_LIMIT}"));
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

    /// Threads of one inference.
    pub fn threads(&self) -> u32 {
        let of_cpu = |cpu: Cpu| (cpu.milli() / 1000 / self.instances.max(1)).clamp(1, THREADS_LIMIT);
        self.threads.or(self.cpu.map(of_cpu)).unwrap_or(1)
    }

    /// How requests run together, of a model whose bundle says that.
    pub fn batching(&self, of_bundle: BatchOptions) -> BatchOptions {
        match self.max_batch_rows {
            None => of_bundle,
            Some(1) => BatchOptions { mode: BatchMode::Off, ..of_bundle },
            Some(max_rows) => BatchOptions { max_rows, ..of_bundle },
        }
    }

    /// What is wanted of replicas, for people: `3`, or `1 to 10, 2 in flight each`.
    pub fn words(&self) -> String {
        self.bounds.as_ref().map_or_else(|| self.replicas.to_string(), ToString::to_string)
    }

    /// What each replica has, for people: `1 thread`, or `4 threads, 2 instances, at most 4 cores, at most 2GiB`.
    pub fn of_each(&self) -> String {
        let counted = |number: u32, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let instances = (self.instances > 1).then(|| counted(self.instances, "instance"));
        let rows = self.max_batch_rows.map(|rows| format!("batches up to {}", counted(rows, "row")));
        let limits = [
            self.cpu.map(|cpu| format!("at most {cpu} cores")),
            self.memory.map(|memory| format!("at most {memory}")),
            self.concurrency.map(|limit| format!("at most {limit} in flight")),
        ];
        let said = [Some(counted(self.threads(), "thread")), instances, rows].into_iter().chain(limits);
        said.flatten().collect::<Vec<_>>().join(", ")
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
    fn threads_are_what_is_said_or_what_the_cores_are_worth() {
        let threads = |threads, cpu: Option<&str>, instances| {
            Scale { threads, cpu: cpu.map(|cpu| cpu.parse().unwrap()), instances, ..Scale::default() }.threads()
        };
        assert_eq!(threads(None, None, 4), 1);
        assert_eq!(threads(None, Some("4"), 1), 4);
        assert_eq!(threads(None, Some("4.9"), 2), 2);
        assert_eq!(threads(None, Some("0.5"), 1), 1);
        assert_eq!(threads(None, Some("2"), 4), 1);
        assert_eq!(threads(None, Some("1024"), 1), THREADS_LIMIT);
        assert_eq!(threads(Some(3), Some("8"), 1), 3);
    }

    #[test]
    fn what_each_replica_has_is_said_in_words() {
        assert_eq!(Scale::default().of_each(), "1 thread");
        let scale = Scale {
            instances: 2,
            cpu: Some(Cpu::from_milli(4500)),
            memory: Some(Memory::from_bytes(2 << 30)),
            max_batch_rows: Some(1),
            ..Scale::default()
        };
        assert_eq!(scale.of_each(), "2 threads, 2 instances, batches up to 1 row, at most 4.5 cores, at most 2GiB");
    }

    #[test]
    fn the_deployment_bounds_the_batches_of_the_bundle() {
        let of_bundle = BatchOptions { mode: BatchMode::On, max_rows: 16 };
        let batching = |max_batch_rows| Scale { max_batch_rows, ..Scale::default() }.batching(of_bundle);
        assert_eq!(batching(None), of_bundle);
        assert_eq!(batching(Some(128)), BatchOptions { max_rows: 128, ..of_bundle });
        assert_eq!(batching(Some(1)).mode, BatchMode::Off);
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
            (Scale { threads: Some(0), ..Scale::default() }, "between 1 and 256"),
            (Scale { instances: 65, ..Scale::default() }, "between 1 and 64, not 65"),
            (Scale { cpu: Some(Cpu::from_milli(5)), ..Scale::default() }, "between 0.01 and 1024 cores, not 0.005"),
            (Scale { memory: Some(Memory::from_bytes(1000)), ..Scale::default() }, "between 16MiB and 16TiB of memory"),
            (Scale { max_batch_rows: Some(4097), ..Scale::default() }, "between 1 and 4096"),
        ] {
            let problem = scale.check().unwrap_err();
            assert!(problem.contains(message), "{problem}");
        }
    }
}
