//! Where traces of this process go, as its command line says.

use tokio_util::sync::CancellationToken;
use tradewind_traces::{Exporter, Options};

use crate::failure::Failure;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct TracesArgs {
    /// Send traces to this OTLP/HTTP collector [env: OTEL_EXPORTER_OTLP_ENDPOINT] [default: to nobody]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

impl TracesArgs {
    pub(crate) fn install(
        &self,
        service: &str,
        sample: f64,
        attributes: Vec<(&'static str, String)>,
    ) -> Result<Option<Exporter>, Failure> {
        let options = Options { endpoint: self.otlp_endpoint.clone(), sample, attributes };
        tradewind_traces::install(service, &options).map_err(|error| Failure::usage(error.to_string()))
    }
}

/// Runs `work` while its spans are exported; then those that are left.
pub(crate) async fn exporting<T>(exporter: Option<Exporter>, work: impl Future<Output = T>) -> T {
    let Some(exporter) = exporter else { return work.await };
    let over = CancellationToken::new();
    let working = async {
        let result = work.await;
        over.cancel();
        result
    };
    tokio::join!(working, exporter.run(over.clone())).0
}
