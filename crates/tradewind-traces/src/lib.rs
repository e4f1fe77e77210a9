//! Traces over OTLP: each process records spans of its own work, and sends them to whoever collects them.
//!
//! A span is a record that is made as the work goes on and handed over when it ends. Whoever works never waits for it:
//! spans go through a bounded queue to one exporter for the process, and are dropped and counted when it is full or when
//! the collector does not take them. Where nothing is exported, or a request is not being recorded, a span is not made
//! at all.
//!
//! The encoding and the transport are OpenTelemetry's own. Its tracers and `tracing` spans are not used: they cost a
//! request more than it takes to route it, and cannot say what took place in several processes, as the step of a rollout
//! does.

mod exporter;
mod options;
mod span;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc;
use tradewind_core::trace::TraceParent;

pub use exporter::Exporter;
pub use opentelemetry::KeyValue;
pub use options::{Error, Options};
pub use span::{Kind, Span};

/// Spans that wait for the exporter.
const QUEUE_LIMIT: usize = 4096;

/// A trace context for a child process, as OpenTelemetry's specification of environment carriers names it.
const TRACE_VARIABLE: &str = "TRACEPARENT";

/// Of this process, once it exports.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

#[derive(Debug)]
struct Outlet {
    queue: mpsc::Sender<SpanData>,
    endpoint: String,
    /// The part of the requests without a trace that begin one.
    sample: f64,
    dropped: AtomicU64,
}

impl Outlet {
    fn send(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.drop(1);
        }
    }

    fn drop(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }
}

/// Exports from now on, if the options or the environment name a collector. The exporter has to run.
pub fn install(service: &str, options: &Options) -> Result<Option<Exporter>, Error> {
    let Some(endpoint) = options.endpoint()? else { return Ok(None) };
    let sender = exporter::sender(service, &endpoint, &options.attributes)?;
    let (queue, spans) = mpsc::channel(QUEUE_LIMIT);
    let outlet = OUTLET.get_or_init(|| Outlet { queue, endpoint, sample: options.sample, dropped: AtomicU64::new(0) });
    Ok(Some(Exporter::new(sender, spans, outlet)))
}

/// What a child process is told, so that it exports to where this one does, as a part of `trace`.
pub fn environment(trace: Option<TraceParent>) -> Vec<(&'static str, String)> {
    let endpoint = OUTLET.get().map(|outlet| (options::TRACES_ENDPOINT, outlet.endpoint.clone()));
    endpoint.into_iter().chain(trace.map(|trace| (TRACE_VARIABLE, trace.to_string()))).collect()
}

/// The trace that this process was started in.
pub fn started_in() -> Option<TraceParent> {
    std::env::var(TRACE_VARIABLE).ok()?.parse().ok()
}

/// Spans that nobody took, since the process started.
pub fn dropped() -> u64 {
    OUTLET.get().map_or(0, |outlet| outlet.dropped.load(Ordering::Relaxed))
}

/// A part of a trace that is being recorded; `None` for every other.
pub fn child(name: &'static str, kind: Kind, parent: Option<TraceParent>) -> Option<Span> {
    let parent = parent.filter(|parent| parent.sampled)?;
    let outlet = OUTLET.get()?;
    Some(Span::new(outlet, name, kind, parent.child(rand::random()), Some(parent)))
}

/// A part of a trace whose place in it was given out before; `None` where the trace is not being recorded.
pub fn placed(name: &'static str, kind: Kind, place: TraceParent, parent: TraceParent) -> Option<Span> {
    let outlet = OUTLET.get().filter(|_| place.sampled)?;
    Some(Span::new(outlet, name, kind, place, Some(parent)))
}

/// The beginning of a trace that is `begun` already, or of a new one.
pub fn root(name: &'static str, kind: Kind, begun: Option<TraceParent>) -> Option<Span> {
    let outlet = OUTLET.get()?;
    let begun = begun.unwrap_or_else(|| TraceParent::begin(rand::random, true));
    begun.sampled.then(|| Span::new(outlet, name, kind, begun, None))
}

/// Whether a request that came without a trace begins one; `random` has 64 random bits.
pub fn draws(random: impl FnOnce() -> u64) -> bool {
    let Some(outlet) = OUTLET.get().filter(|outlet| outlet.sample > 0.0) else { return false };
    // 53 bits are what the fraction of a float holds.
    (random() >> 11) as f64 / (1_u64 << 53) as f64 <= outlet.sample
}
