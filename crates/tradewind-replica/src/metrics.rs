//! What one replica counts. Probes are not counted.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tradewind_api::metrics::{Buckets, Histogram, Metric, Page, SECONDS, Single, Value, process, replica as of};
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
    Unloaded,
    Overloaded,
    Stopping,
    Deadline,
    Refused,
    Inference,
    Encoding,
}

impl Reason {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Invalid, "invalid"),
        (Self::TooLarge, "too_large"),
        (Self::UnknownModel, "unknown_model"),
        (Self::Loading, "loading"),
        (Self::Unloaded, "unloaded"),
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
}

/// Puts everything on a page that is still empty.
pub(crate) fn write(page: &mut Page, bytes_in_flight: usize, models: &[(&Metrics, Now<'_>)]) {
    process::write(page, "replica", None);
    page.one(&process::SPANS_DROPPED, tradewind_traces::dropped());
    page.one(&of::REQUEST_BYTES_IN_FLIGHT, bytes_in_flight);
    single(page, &of::READY, models, |_, now| u64::from(now.ready));
    single(page, &of::REQUESTS_IN_FLIGHT, models, |_, now| now.in_flight);
    single(page, &of::REQUESTS_QUEUED, models, |_, now| now.queued);
    single(page, &of::BATCHES, models, |_, now| u64::from(now.batches));
    single(page, &of::EXECUTIONS, models, |_, now| now.executions);
    single(page, &of::REQUESTS, models, |metrics, _| metrics.requests.load(Relaxed));
    let loaded = || models.iter().filter_map(|(_, now)| Some((now, now.loaded_in?)));
    if loaded().next().is_some() {
        let mut samples = page.begin(&of::LOAD_DURATION);
        for (now, loaded_in) in loaded() {
            samples.add([now.model, &now.version], loaded_in.as_secs_f64());
        }
    }
    let mut samples = page.begin(&of::ERRORS);
    for (metrics, now) in models {
        for (reason, word) in Reason::ALL {
            samples.add([now.model, &now.version, &word], metrics.errors[reason as usize].load(Relaxed));
        }
    }
    durations(page, &of::REQUEST_DURATION, models, |metrics| &metrics.answers);
    durations(page, &of::INFERENCE_DURATION, models, |metrics| &metrics.inferences);
}

fn single<K: Single, V: Into<Value>>(
    page: &mut Page,
    metric: &'static Metric<K, 2>,
    models: &[(&Metrics, Now<'_>)],
    value: impl Fn(&Metrics, &Now<'_>) -> V,
) {
    let mut samples = page.begin(metric);
    for (metrics, now) in models {
        samples.add([now.model, &now.version], value(metrics, now));
    }
}

fn durations(
    page: &mut Page,
    metric: &'static Metric<Histogram, 2>,
    models: &[(&Metrics, Now<'_>)],
    buckets: impl Fn(&Metrics) -> &Buckets,
) {
    let mut samples = page.begin(metric);
    for (metrics, now) in models {
        samples.add([now.model, &now.version], &buckets(metrics).read());
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
