//! What is counted: each request once, at the gateway where it entered.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tradewind_core::{ModelName, RegionName, RevisionNumber, Slot};

use crate::{
    histogram::{BOUNDS, Buckets, Window},
    world::World,
};

/// The most series; beyond it, those of revisions that are no longer routed are dropped.
const SERIES_LIMIT: usize = 4096;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The user's mistake.
    ClientError,
    ServerError,
    /// No region could serve it.
    Unavailable,
    /// The user left before the answer was complete.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Ok, Self::ClientError, Self::ServerError, Self::Unavailable, Self::Cancelled];

    pub(crate) fn of(status: http::StatusCode) -> Self {
        match status.as_u16() {
            ..400 => Self::Ok,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// Of gRPC's `grpc-status`.
    pub(crate) fn of_grpc(code: &http::HeaderValue) -> Self {
        match code.as_bytes() {
            b"0" => Self::Ok,
            // What the caller has done: cancelled, wrong arguments, not found, not allowed, too late and the like.
            b"1" | b"3" | b"5" | b"6" | b"7" | b"9" | b"10" | b"11" | b"12" | b"16" => Self::ClientError,
            b"14" => Self::Unavailable,
            _ => Self::ServerError,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What is counted apart. All of it comes from the snapshot, so it is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) model: ModelName,
    pub(crate) revision: RevisionNumber,
    pub(crate) slot: Slot,
    /// The region that answered.
    pub(crate) region: RegionName,
}

#[derive(Debug, Default)]
pub(crate) struct Series {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    durations: Buckets,
    window: Window,
}

impl Series {
    pub(crate) fn record(&self, outcome: Outcome, duration: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome != Outcome::Cancelled {
            self.durations.record(duration);
            self.window.record(duration);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.outcomes.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        [Outcome::ServerError, Outcome::Unavailable].map(|outcome| self.of(outcome)).iter().sum()
    }

    /// In microseconds, over the last minute or so.
    pub(crate) fn quantiles(&self) -> [u64; 2] {
        self.window.quantiles([0.5, 0.99])
    }

    fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: ArcSwap<HashMap<Key, Arc<Series>>>,
    pub(crate) retries: AtomicU64,
    /// Not tried again because the budget was spent.
    pub(crate) retries_refused: AtomicU64,
    pub(crate) ejections: AtomicU64,
    /// Sent to another region for want of room.
    pub(crate) spilled: AtomicU64,
    /// Refused because an equal one was in flight on replicas that died.
    pub(crate) doomed: AtomicU64,
    /// Requests answered for gateways of other regions.
    pub(crate) for_peers: AtomicU64,
    /// Refused because too many were under way.
    pub(crate) overload: AtomicU64,
    /// Under way now.
    pub(crate) concurrent: AtomicUsize,
}

impl Metrics {
    pub(crate) fn all(&self) -> Arc<HashMap<Key, Arc<Series>>> {
        self.series.load_full()
    }

    pub(crate) fn rotate(&self) {
        self.series.load().values().for_each(|series| series.window.rotate());
    }

    /// Keeps the number of series within its limit.
    pub(crate) fn trim(&self, world: &World) {
        if self.series.load().len() <= SERIES_LIMIT {
            return;
        }
        let routed = |key: &Key| {
            let serving = world.models.get(key.model.as_str()).and_then(|model| model.committed.as_ref());
            serving.is_some_and(|serving| serving.state.revision == key.revision)
        };
        self.series.rcu(|series| {
            let kept = series.iter().filter(|(key, _)| routed(key));
            kept.map(|(key, series)| (key.clone(), Arc::clone(series))).collect::<HashMap<_, _>>()
        });
    }

    pub(crate) fn series(&self, key: &Key) -> Arc<Series> {
        if let Some(series) = self.series.load().get(key) {
            return Arc::clone(series);
        }
        let fresh = Arc::new(Series::default());
        self.series.rcu(|series| {
            let mut series = HashMap::clone(series);
            series.entry(key.clone()).or_insert_with(|| Arc::clone(&fresh));
            series
        });
        self.series.load().get(key).map_or(fresh, Arc::clone)
    }

    /// Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, world: Option<&World>) -> String {
        let mut text = String::new();
        self.render_requests(&mut text).expect("writing to a string cannot fail");
        self.render_gauges(&mut text, world).expect("writing to a string cannot fail");
        text
    }

    fn render_requests(&self, text: &mut String) -> std::fmt::Result {
        let series = self.series.load();
        // Revisions share a line: a label for them would grow without end.
        let mut lines: BTreeMap<(&ModelName, &RegionName, Slot), Vec<&Series>> = BTreeMap::new();
        for (key, series) in series.iter() {
            lines.entry((&key.model, &key.region, key.slot)).or_default().push(series);
        }
        head(text, "tradewind_gateway_requests_total", "counter", "Requests that entered here, by who answered.")?;
        for ((model, region, slot), series) in &lines {
            for outcome in Outcome::ALL {
                let count: u64 = series.iter().map(|series| series.of(outcome)).sum();
                let outcome = outcome.as_str();
                writeln!(
                    text,
                    "tradewind_gateway_requests_total{{model=\"{model}\",region=\"{region}\",slot=\"{slot}\",outcome=\"{outcome}\"}} {count}"
                )?;
            }
        }
        let name = "tradewind_gateway_request_duration_seconds";
        head(text, name, "histogram", "From the request's head to the end of its answer.")?;
        for ((model, region, slot), series) in &lines {
            let labels = format!("model=\"{model}\",region=\"{region}\",slot=\"{slot}\"");
            let read: Vec<_> = series.iter().map(|series| series.durations.read()).collect();
            for (index, bound) in BOUNDS.iter().enumerate() {
                let count: u64 = read.iter().map(|(cumulative, ..)| cumulative[index]).sum();
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}")?;
            }
            let count: u64 = read.iter().map(|(_, count, _)| count).sum();
            let sum: f64 = read.iter().map(|(.., sum)| sum).sum();
            writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")?;
        }
        Ok(())
    }

    fn render_gauges(&self, text: &mut String, world: Option<&World>) -> std::fmt::Result {
        for (name, help, count) in [
            ("retries_total", "Requests sent again to another replica or region.", &self.retries),
            (
                "retries_refused_total",
                "Requests not sent again because the budget of retries was spent.",
                &self.retries_refused,
            ),
            ("ejections_total", "Times that a replica was left out because its answers failed.", &self.ejections),
            ("spilled_total", "Requests sent to another region because the own one was full.", &self.spilled),
            (
                "doomed_total",
                "Requests refused because an equal one was in flight on replicas that died.",
                &self.doomed,
            ),
            ("peer_requests_total", "Requests taken for gateways of other regions.", &self.for_peers),
            ("overload_total", "Requests refused because too many were under way.", &self.overload),
        ] {
            let name = format!("tradewind_gateway_{name}");
            head(text, &name, "counter", help)?;
            writeln!(text, "{name} {}", count.load(Ordering::Relaxed))?;
        }
        let name = "tradewind_gateway_requests_in_flight";
        head(text, name, "gauge", "Requests under way.")?;
        writeln!(text, "{name} {}", self.concurrent.load(Ordering::Relaxed))?;
        let Some(world) = world else { return Ok(()) };
        let name = "tradewind_gateway_peer_healthy";
        head(text, name, "gauge", "Whether a gateway of that region answers.")?;
        for (region, state) in world.regions.iter().filter(|(region, _)| **region != world.own) {
            writeln!(text, "{name}{{region=\"{region}\"}} {}", u8::from(state.reachable()))?;
        }
        let name = "tradewind_gateway_route_epoch";
        head(text, name, "gauge", "The epoch that is served.")?;
        let mut models: Vec<_> = world.models.iter().collect();
        models.sort_by_key(|(model, _)| *model);
        for (model, serving) in models.into_iter().filter_map(|(name, model)| Some((name, model.committed.as_ref()?))) {
            writeln!(text, "{name}{{model=\"{model}\"}} {}", serving.state.epoch)?;
        }
        let name = "tradewind_gateway_requests_waiting";
        head(text, name, "gauge", "Requests that wait for a replica to have room.")?;
        let mut models: Vec<_> = world.models.iter().collect();
        models.sort_by_key(|(model, _)| *model);
        for (model, lane) in models.into_iter().map(|(model, known)| (model, &known.lane)) {
            writeln!(text, "{name}{{model=\"{model}\"}} {}", lane.gate.waiting())?;
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
