//! What one replica counts. Probes are not counted.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tradewind_api::metrics::{Buckets, Gauge, Metric, Page, SECONDS, process, replica as of};
use tradewind_core::{ModelName, VersionNumber};

/// Upper bounds of the inference duration, in seconds: small models take less than a request does.
const INFERENCE_SECONDS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// Why a request was not answered with an inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Invalid,
    TooLarge,
    UnknownModel,
    Loading,
    Overloaded,
    Stopping,
    Deadline,
    Refused,
    Inference,
    Encoding,
}

impl Reason {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Invalid, "invalid"),
        (Self::TooLarge, "too_large"),
        (Self::UnknownModel, "unknown_model"),
        (Self::Loading, "loading"),
        (Self::Overloaded, "overloaded"),
        (Self::Stopping, "stopping"),
        (Self::Deadline, "deadline"),
        (Self::Refused, "refused"),
        (Self::Inference, "inference"),
        (Self::Encoding, "encoding"),
    ];
}

#[derive(Debug)]
pub(crate) struct Metrics {
    requests: AtomicU64,
    errors: [AtomicU64; Reason::ALL.len()],
    answers: Buckets,
    inferences: Buckets,
}

/// What a replica is at the moment.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    pub(crate) model: &'a ModelName,
    pub(crate) version: VersionNumber,
    pub(crate) ready: bool,
    /// How long it took to load the model and to warm it up, once that is done.
    pub(crate) loaded_in: Option<Duration>,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) queued: usize,
    pub(crate) batches: bool,
    pub(crate) executions: u64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            errors: Default::default(),
            answers: Buckets::new(&SECONDS),
            inferences: Buckets::new(&INFERENCE_SECONDS),
        }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self, reason: Reason) {
        self.errors[reason as usize].fetch_add(1, Relaxed);
    }

    /// An answer that was ready after so long.
    pub(crate) fn answer(&self, took: Duration) {
        self.answers.record(took);
    }

    pub(crate) fn inference(&self, took: Duration) {
        self.inferences.record(took);
    }

    /// Puts everything on a page that is still empty.
    pub(crate) fn write(&self, page: &mut Page, now: &Now<'_>) {
        process::write(page, "replica", None);
        page.one(&process::SPANS_DROPPED, tradewind_traces::dropped());
        let (model, version) = (now.model, &now.version);
        let gauges: [(&'static Metric<Gauge, 2>, usize); 5] = [
            (&of::READY, now.ready.into()),
            (&of::REQUESTS_IN_FLIGHT, now.in_flight),
            (&of::REQUEST_BYTES_IN_FLIGHT, now.bytes),
            (&of::REQUESTS_QUEUED, now.queued),
            (&of::BATCHES, now.batches.into()),
        ];
        for (metric, value) in gauges {
            page.begin(metric).add([model, version], value);
        }
        if let Some(loaded_in) = now.loaded_in {
            page.begin(&of::LOAD_DURATION).add([model, version], loaded_in.as_secs_f64());
        }
        page.begin(&of::EXECUTIONS).add([model, version], now.executions);
        page.begin(&of::REQUESTS).add([model, version], self.requests.load(Relaxed));
        let mut errors = page.begin(&of::ERRORS);
        for (reason, word) in Reason::ALL {
            errors.add([model, version, &word], self.errors[reason as usize].load(Relaxed));
        }
        page.begin(&of::REQUEST_DURATION).add([model, version], &self.answers.read());
        page.begin(&of::INFERENCE_DURATION).add([model, version], &self.inferences.read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_order() {
        for (position, (reason, _)) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position);
        }
    }
}
