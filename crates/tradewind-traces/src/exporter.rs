//! What takes spans from the queue to the collector.

use std::{env, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tradewind_api::client::http_client;

use crate::{Error, Outlet};

/// Spans that go together.
const BATCH_LIMIT: usize = 512;
/// Spans wait so long for others to go with.
const GATHER_TIME: Duration = Duration::from_millis(500);
/// When the process ends, the collector has so long to take what is left.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Of one process. It has to [run](Self::run).
#[derive(Debug)]
pub struct Exporter {
    sender: SpanExporter,
    spans: mpsc::Receiver<SpanData>,
    outlet: &'static Outlet,
    /// Whether the last batch was not taken.
    failing: bool,
}

pub(crate) fn sender(
    service: &str,
    endpoint: &str,
    attributes: &[(&'static str, String)],
) -> Result<SpanExporter, Error> {
    let client = http_client().build().expect("the client's settings are constant");
    let mut sender = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build()?;
    let mut resource =
        Resource::builder().with_attributes(attributes.iter().map(|(key, value)| KeyValue::new(*key, value.clone())));
    // People may have another name for it, in the variable of the specification.
    if env::var_os("OTEL_SERVICE_NAME").is_none_or(|name| name.is_empty()) {
        resource = resource.with_service_name(service.to_owned());
    }
    sender.set_resource(&resource.build());
    Ok(sender)
}

impl Exporter {
    pub(crate) fn new(sender: SpanExporter, spans: mpsc::Receiver<SpanData>, outlet: &'static Outlet) -> Self {
        Self { sender, spans, outlet, failing: false }
    }

    /// Exports until `over`, and then what is left, if that is taken within a moment.
    pub async fn run(mut self, over: CancellationToken) {
        let mut batch = Vec::new();
        while over.run_until_cancelled(self.spans.recv_many(&mut batch, BATCH_LIMIT)).await.is_some() {
            // Meanwhile more of them end.
            over.run_until_cancelled(sleep(GATHER_TIME)).await;
            self.gather(&mut batch);
            let sending = self.send(std::mem::take(&mut batch));
            let limited = async {
                over.cancelled().await;
                sleep(FLUSH_LIMIT).await;
            };
            tokio::select! {
                () = sending => {}
                () = limited => return,
            }
        }
        let rest = async {
            loop {
                self.gather(&mut batch);
                if batch.is_empty() {
                    break;
                }
                self.send(std::mem::take(&mut batch)).await;
            }
        };
        // What is not taken by then goes with the process.
        let _ = timeout(FLUSH_LIMIT, rest).await;
    }

    /// Fills a batch with what is there.
    fn gather(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < BATCH_LIMIT
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let result = self.sender.export(batch).await;
        if let Err(error) = &result {
            self.outlet.drop(spans);
            // Once for each outage.
            if !self.failing {
                tracing::warn!(%error, spans, "the collector of traces does not take spans; they are dropped");
            }
        }
        self.failing = result.is_err();
    }
}
