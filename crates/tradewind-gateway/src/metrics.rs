//! What is counted: each request once, at the gateway where it entered.

mod render;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tradewind_core::{ModelName, RegionName, RevisionNumber, Slot};

use crate::{histogram::Durations, world::World};

pub(crate) use render::write;

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
    pub(crate) fn of_grpc(code: &[u8]) -> Self {
        match code {
            b"0" => Self::Ok,
            // What the caller has done: cancelled, wrong arguments, not found, not allowed, too late and the like.
            b"1" | b"3" | b"5" | b"6" | b"7" | b"9" | b"10" | b"11" | b"12" | b"16" => Self::ClientError,
            b"14" => Self::Unavailable,
            _ => Self::ServerError,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
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
    /// Sent to that region after somebody else had failed to answer.
    pub(crate) retries: AtomicU64,
    /// Sent to that region for want of room in the own one.
    pub(crate) spilled: AtomicU64,
    /// Replicas of the own region that were left out for their answers.
    pub(crate) ejections: AtomicU64,
    pub(crate) durations: Durations,
}

impl Series {
    pub(crate) fn record(&self, outcome: Outcome, duration: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome != Outcome::Cancelled {
            self.durations.record(duration);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.outcomes.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn errors(&self) -> u64 {
        [Outcome::ServerError, Outcome::Unavailable].map(|outcome| self.of(outcome)).iter().sum()
    }

    fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: ArcSwap<HashMap<Key, Arc<Series>>>,
    /// Not tried again because the budget was spent.
    pub(crate) retries_refused: AtomicU64,
    /// Refused because an equal one was in flight on replicas that died.
    pub(crate) doomed: AtomicU64,
    /// Requests answered for gateways of other regions.
    pub(crate) for_peers: AtomicU64,
    /// Refused because too many were under way.
    pub(crate) overload: AtomicU64,
    /// Times that control was asked for everything anew, for what it sent did not fit.
    pub(crate) relists: AtomicU64,
    pub(crate) configs_refused: AtomicU64,
    /// TLS handshakes that came to nothing.
    pub(crate) handshakes_failed: AtomicU64,
    /// Times that new files with a certificate and its key could not be used.
    pub(crate) certificates_refused: AtomicU64,
    /// Under way now.
    pub(crate) concurrent: AtomicUsize,
    /// Held by whoever writes the page.
    pub(crate) page: tokio::sync::Mutex<()>,
}

impl Metrics {
    pub(crate) fn all(&self) -> Arc<HashMap<Key, Arc<Series>>> {
        self.series.load_full()
    }

    /// Keeps the number of series within its limit.
    pub(crate) fn trim(&self, world: &World) {
        if self.series.load().len() <= SERIES_LIMIT {
            return;
        }
        let routed = |key: &Key| {
            let model = world.models.get(key.model.as_str());
            model.is_some_and(|model| model.served().any(|serving| serving.state.revision == key.revision))
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
}
