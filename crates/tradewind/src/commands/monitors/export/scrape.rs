//! How Prometheus finds what to scrape: it asks control, which knows every role.

use std::path::Path;

use serde_json::json;
use tradewind_api::metrics::TARGETS_PATH;

/// For `prometheus.yml`. Strings are written as JSON, which YAML takes.
pub(super) fn config(control: &str, token_file: &Path) -> String {
    let url = json!(format!("{control}{TARGETS_PATH}"));
    let token_file = json!(token_file.display().to_string());
    format!(
        "\
# The token: tradewind token issue --role monitoring --data-dir DIR
scrape_configs:
  - job_name: tradewind
    http_sd_configs:
      - url: {url}
        refresh_interval: 15s
        authorization:
          type: Bearer
          credentials_file: {token_file}
"
    )
}
