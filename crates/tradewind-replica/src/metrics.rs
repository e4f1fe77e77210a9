//! Counters of one replica, in Prometheus' text format 0.0.4. Probes are not counted.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the inference duration, in seconds; the last bucket, `+Inf`, is the count of all.
const BUCKETS: [f64; 14] =
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

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: AtomicU64,
    errors: [AtomicU64; Reason::ALL.len()],
    buckets: [AtomicU64; BUCKETS.len()],
    inferences: AtomicU64,
    inference_nanoseconds: AtomicU64,
}

impl Metrics {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn error(&self, reason: Reason) {
        self.errors[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn inference(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|&bound| seconds <= bound) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
        self.inferences.fetch_add(1, Relaxed);
        self.inference_nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn render(&self, ready: bool, in_flight: usize) -> String {
        let mut text = String::with_capacity(4096);
        describe(&mut text, "ready", "gauge", "1 once the model is loaded and warm.");
        line(&mut text, "ready", "", f64::from(u8::from(ready)));
        describe(&mut text, "requests_in_flight", "gauge", "Inference requests being read, waiting or running.");
        line(&mut text, "requests_in_flight", "", in_flight as f64);
        describe(&mut text, "requests_total", "counter", "Inference requests received.");
        line(&mut text, "requests_total", "", self.requests.load(Relaxed) as f64);
        describe(&mut text, "errors_total", "counter", "Inference requests that failed, by reason.");
        for (reason, label) in Reason::ALL {
            let labels = format!("{{reason=\"{label}\"}}");
            line(&mut text, "errors_total", &labels, self.errors[reason as usize].load(Relaxed) as f64);
        }
        self.render_durations(&mut text);
        text
    }

    fn render_durations(&self, text: &mut String) {
        const NAME: &str = "inference_duration_seconds";
        describe(text, NAME, "histogram", "Time that the model ran, without waiting.");
        let mut cumulative = 0;
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS) {
            cumulative += bucket.load(Relaxed);
            line(text, &format!("{NAME}_bucket"), &format!("{{le=\"{bound}\"}}"), cumulative as f64);
        }
        // The count may have moved on since the buckets were read; a histogram must not shrink towards +Inf.
        let count = self.inferences.load(Relaxed).max(cumulative) as f64;
        line(text, &format!("{NAME}_bucket"), "{le=\"+Inf\"}", count);
        line(text, &format!("{NAME}_sum"), "", self.inference_nanoseconds.load(Relaxed) as f64 / 1e9);
        line(text, &format!("{NAME}_count"), "", count);
    }
}

fn describe(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP tradewind_replica_{name} {help}\n# TYPE tradewind_replica_{name} {kind}\n");
}

fn line(text: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(text, "tradewind_replica_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative_and_reasons_are_in_order() {
        for (position, (reason, _)) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position);
        }
        let metrics = Metrics::default();
        metrics.inference(Duration::from_micros(70));
        metrics.inference(Duration::from_secs(60));
        let text = metrics.render(true, 0);
        for expected in [
            "_bucket{le=\"0.00005\"} 0\n",
            "_bucket{le=\"0.0001\"} 1\n",
            "_bucket{le=\"10\"} 1\n",
            "_bucket{le=\"+Inf\"} 2\n",
            "_sum 60.00007\n",
            "_count 2\n",
        ] {
            let expected = format!("tradewind_replica_inference_duration_seconds{expected}");
            assert!(text.contains(&expected), "{expected} is not in\n{text}");
        }
    }
}
