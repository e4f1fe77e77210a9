//! A dashboard for Grafana: one screen from the whole world down to its processes.

use serde_json::{Value, json};

/// What one panel shows.
struct Panel {
    title: &'static str,
    /// As Grafana calls it.
    kind: &'static str,
    /// As Grafana calls it: `reqps`, `percentunit`, `s`, ...
    unit: &'static str,
    /// Of the 24 columns.
    width: u64,
    /// Queries, and what their series are called.
    queries: &'static [(&'static str, &'static str)],
}

const fn panel(
    title: &'static str,
    kind: &'static str,
    unit: &'static str,
    width: u64,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, kind, unit, width, queries }
}

/// The rows, each with its panels from left to right.
const ROWS: &[(&str, &[Panel])] = &[
    ("Overview", OVERVIEW),
    ("Traffic", TRAFFIC),
    ("Latency", LATENCY),
    ("Regions", REGIONS),
    ("Replicas", REPLICAS),
    ("Control", CONTROL),
    ("Processes", PROCESSES),
];

const OVERVIEW: &[Panel] = &[
    panel(
        "Regions that are well",
        "stat",
        "short",
        4,
        &[("sum(max by (region) (tradewind_control_region_healthy))", "")],
    ),
    panel(
        "Regions that are not",
        "stat",
        "short",
        4,
        &[("sum(1 - max by (region) (tradewind_control_region_healthy))", "")],
    ),
    panel(
        "Models that users get",
        "stat",
        "short",
        4,
        &[("count(max by (model) (tradewind_control_model_revision))", "")],
    ),
    panel(
        "Requests",
        "stat",
        "reqps",
        4,
        &[(r#"sum(rate(tradewind_gateway_requests_total{model=~"$model"}[$__rate_interval]))"#, "")],
    ),
    panel(
        "Errors",
        "stat",
        "percentunit",
        4,
        &[(
            r#"sum(rate(tradewind_gateway_requests_total{model=~"$model",outcome=~"server_error|unavailable"}[$__rate_interval])) / sum(rate(tradewind_gateway_requests_total{model=~"$model",outcome!="cancelled"}[$__rate_interval]))"#,
            "",
        )],
    ),
    panel(
        "Alerts that fire",
        "stat",
        "short",
        4,
        &[(r#"count(ALERTS{service="tradewind",alertstate="firing"}) or vector(0)"#, "")],
    ),
    panel("Alerts", "table", "short", 24, &[(r#"ALERTS{service="tradewind"}"#, "")]),
];

const TRAFFIC: &[Panel] = &[
    panel(
        "Requests by model",
        "timeseries",
        "reqps",
        8,
        &[(
            r#"sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{model}}",
        )],
    ),
    panel(
        "Requests by the region that answered",
        "timeseries",
        "reqps",
        8,
        &[(
            r#"sum by (region) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{region}}",
        )],
    ),
    panel(
        "Requests by outcome",
        "timeseries",
        "reqps",
        8,
        &[(
            r#"sum by (outcome) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    panel(
        "Errors by model",
        "timeseries",
        "percentunit",
        12,
        &[(
            r#"sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region",outcome=~"server_error|unavailable"}[$__rate_interval])) / sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region",outcome!="cancelled"}[$__rate_interval]))"#,
            "{{model}}",
        )],
    ),
    panel(
        "Sent elsewhere",
        "timeseries",
        "reqps",
        12,
        &[
            (
                r#"sum by (region) (rate(tradewind_gateway_retries_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
                "retried in {{region}}",
            ),
            (
                r#"sum by (region) (rate(tradewind_gateway_spilled_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
                "spilled to {{region}}",
            ),
            (
                r#"sum by (region) (rate(tradewind_gateway_ejections_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
                "replicas left out in {{region}}",
            ),
        ],
    ),
];

const LATENCY: &[Panel] = &[
    panel(
        "Latency, all requests",
        "heatmap",
        "s",
        12,
        &[(
            r#"sum by (le) (increase(tradewind_gateway_request_duration_seconds_bucket{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{le}}",
        )],
    ),
    panel(
        "Latency by model",
        "timeseries",
        "s",
        12,
        &[
            (
                r#"histogram_quantile(0.5, sum by (le, model) (rate(tradewind_gateway_request_duration_seconds_bucket{model=~"$model",region=~"$region"}[$__rate_interval])))"#,
                "p50 {{model}}",
            ),
            (
                r#"histogram_quantile(0.99, sum by (le, model) (rate(tradewind_gateway_request_duration_seconds_bucket{model=~"$model",region=~"$region"}[$__rate_interval])))"#,
                "p99 {{model}}",
            ),
        ],
    ),
    panel(
        "Inference, without waiting",
        "timeseries",
        "s",
        12,
        &[(
            r#"histogram_quantile(0.99, sum by (le, model) (rate(tradewind_replica_inference_duration_seconds_bucket{model=~"$model"}[$__rate_interval])))"#,
            "p99 {{model}}",
        )],
    ),
    panel(
        "Round trips between regions",
        "timeseries",
        "s",
        12,
        &[(
            r#"min by (tradewind_region, region) (tradewind_gateway_peer_round_trip_seconds{region=~"$region"})"#,
            "{{tradewind_region}} to {{region}}",
        )],
    ),
];

const REGIONS: &[Panel] = &[
    panel(
        "Regions",
        "state-timeline",
        "bool_yes_no",
        12,
        &[(r#"max by (region) (tradewind_control_region_healthy{region=~"$region"})"#, "{{region}}")],
    ),
    panel(
        "Models by region",
        "state-timeline",
        "bool_yes_no",
        12,
        &[(
            r#"max by (model, region) (tradewind_control_model_healthy{model=~"$model",region=~"$region"})"#,
            "{{model}} in {{region}}",
        )],
    ),
    panel(
        "Room on disks",
        "timeseries",
        "percentunit",
        12,
        &[
            (
                r#"min by (region) (tradewind_agent_disk_available_bytes{region=~"$region"} / tradewind_agent_disk_size_bytes)"#,
                "{{region}}",
            ),
            ("min(tradewind_control_disk_available_bytes / tradewind_control_disk_size_bytes)", "control"),
        ],
    ),
    panel(
        "Gateways that are behind",
        "timeseries",
        "short",
        12,
        &[(r#"max by (region) (tradewind_control_gateways_stale{region=~"$region"})"#, "{{region}}")],
    ),
];

const REPLICAS: &[Panel] = &[
    panel(
        "Replicas that are ready",
        "timeseries",
        "short",
        8,
        &[(
            r#"sum by (model, region, slot) (tradewind_agent_replicas_ready{model=~"$model",region=~"$region"})"#,
            "{{model}} {{slot}} in {{region}}",
        )],
    ),
    panel(
        "Replicas that are missing",
        "timeseries",
        "short",
        8,
        &[(
            r#"sum by (model, region, slot) (tradewind_agent_replicas_desired{model=~"$model",region=~"$region"} - tradewind_agent_replicas_ready)"#,
            "{{model}} {{slot}} in {{region}}",
        )],
    ),
    panel(
        "Replicas started again",
        "timeseries",
        "short",
        8,
        &[(
            r#"sum by (model, region) (increase(tradewind_agent_replica_restarts_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{model}} in {{region}}",
        )],
    ),
    panel(
        "Saturation",
        "timeseries",
        "percentunit",
        8,
        &[(
            r#"sum by (model, region) (tradewind_gateway_replica_requests_in_flight{model=~"$model",region=~"$region"}) / (sum by (model, region) (tradewind_gateway_replica_requests_limit{model=~"$model",region=~"$region"}) > 0)"#,
            "{{model}} in {{region}}",
        )],
    ),
    panel(
        "Requests that wait",
        "timeseries",
        "short",
        8,
        &[
            (r#"sum by (model) (tradewind_gateway_requests_waiting{model=~"$model"})"#, "at gateways, {{model}}"),
            (r#"sum by (model) (tradewind_replica_requests_queued{model=~"$model"})"#, "at replicas, {{model}}"),
        ],
    ),
    panel(
        "Replicas by state, as gateways see them",
        "timeseries",
        "short",
        8,
        &[(
            r#"max by (model, region, state) (tradewind_gateway_replicas{model=~"$model",region=~"$region"})"#,
            "{{model}} in {{region}} {{state}}",
        )],
    ),
];

const CONTROL: &[Panel] = &[
    panel("Rollouts", "timeseries", "short", 8, &[("max by (state) (tradewind_control_rollouts) > 0", "{{state}}")]),
    panel(
        "Events",
        "timeseries",
        "short",
        8,
        &[(
            r#"sum by (kind) (increase(tradewind_control_events_recorded_total{severity!="info"}[$__rate_interval])) > 0"#,
            "{{kind}}",
        )],
    ),
    panel(
        "Latency of control, p99",
        "timeseries",
        "s",
        8,
        &[(
            "histogram_quantile(0.99, sum by (le, route) (rate(tradewind_control_request_duration_seconds_bucket[$__rate_interval])))",
            "{{route}}",
        )],
    ),
    panel("Store", "timeseries", "bytes", 8, &[("max(tradewind_control_store_bytes)", "bytes")]),
    panel("Streams", "timeseries", "short", 8, &[("sum(tradewind_control_streams)", "open")]),
    panel(
        "Agents and gateways",
        "timeseries",
        "short",
        8,
        &[("max(tradewind_control_agents)", "agents"), ("max(tradewind_control_gateways)", "gateways")],
    ),
];

const PROCESSES: &[Panel] = &[
    panel(
        "Processors",
        "timeseries",
        "short",
        8,
        &[(
            "rate(process_cpu_seconds_total[$__rate_interval]) * on (instance) group_left (role) tradewind_build_info",
            "{{role}} {{instance}}",
        )],
    ),
    panel(
        "Memory",
        "timeseries",
        "bytes",
        8,
        &[(
            "process_resident_memory_bytes * on (instance) group_left (role) tradewind_build_info",
            "{{role}} {{instance}}",
        )],
    ),
    panel(
        "Versions",
        "timeseries",
        "short",
        8,
        &[("count by (version, role) (tradewind_build_info)", "{{role}} {{version}}")],
    ),
];

/// The version of the form of dashboards that this is written in.
const SCHEMA_VERSION: u32 = 39;

pub(super) fn dashboard() -> Value {
    json!({
        "uid": "tradewind",
        "title": "Tradewind",
        "tags": ["tradewind"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": variables()},
        "panels": panels(),
    })
}

/// The data source to choose, then models and regions to look at.
fn variables() -> Value {
    let label = |name: &str, label: &str, metric: &str| {
        let query = format!("label_values({metric}, {name})");
        json!({
            "name": name, "label": label, "type": "query", "datasource": datasource(),
            "query": {"query": query, "refId": name}, "definition": query,
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        })
    };
    json!([
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        label("model", "Model", "tradewind_gateway_requests_total"),
        label("region", "Region", "tradewind_control_region_drained"),
    ])
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Places rows below each other, and panels side by side as far as they fit.
fn panels() -> Vec<Value> {
    let (mut placed, mut top) = (Vec::new(), 0);
    for (title, panels) in ROWS {
        let id = placed.len() + 1;
        placed.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }));
        top += 1;
        let (mut left, mut height) = (0, 0);
        for panel in *panels {
            if left + panel.width > COLUMNS {
                (left, top) = (0, top + height);
            }
            height = panel.height();
            placed.push(panel.placed(placed.len() + 1, left, top));
            left += panel.width;
        }
        top += height;
    }
    placed
}

const COLUMNS: u64 = 24;

impl Panel {
    fn height(&self) -> u64 {
        if self.kind == "stat" { 4 } else { 8 }
    }

    fn placed(&self, id: usize, left: u64, top: u64) -> Value {
        let targets: Vec<Value> = ('A'..).zip(self.queries).map(|(name, query)| self.target(name, query)).collect();
        let mut panel = json!({
            "id": id, "type": self.kind, "title": self.title, "datasource": datasource(), "targets": targets,
            "gridPos": {"x": left, "y": top, "w": self.width, "h": self.height()},
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0}, "overrides": []},
        });
        if self.kind == "heatmap" {
            panel["options"] = json!({"calculate": false, "yAxis": {"unit": self.unit}});
        }
        panel
    }

    fn target(&self, name: char, (query, legend): &(&str, &str)) -> Value {
        let format = match self.kind {
            "heatmap" => "heatmap",
            "table" => "table",
            _ => "time_series",
        };
        json!({
            "refId": name.to_string(), "datasource": datasource(), "expr": query, "legendFormat": legend,
            "format": format, "instant": matches!(self.kind, "stat" | "table"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn panels_lie_in_the_grid_and_upon_no_other() {
        let mut taken = BTreeSet::new();
        for panel in panels() {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(x + w <= COLUMNS, "{panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{panel} lies upon another");
            }
        }
    }

    #[test]
    fn queries_know_their_metrics() {
        for (query, _) in ROWS.iter().flat_map(|(_, panels)| *panels).flat_map(|panel| panel.queries) {
            super::super::queries::check(query);
        }
    }
}
