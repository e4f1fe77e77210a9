//! What the dashboard shows.

/// What one panel shows.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// As Grafana calls it.
    pub(super) kind: &'static str,
    /// As Grafana calls it: `reqps`, `percentunit`, `s`, ...
    pub(super) unit: &'static str,
    /// Of the 24 columns.
    pub(super) width: u64,
    pub(super) queries: Queries,
}

/// Queries, and what their series are called.
type Queries = &'static [(&'static str, &'static str)];

const fn panel(title: &'static str, kind: &'static str, unit: &'static str, width: u64, queries: Queries) -> Panel {
    Panel { title, kind, unit, width, queries }
}

const fn graph(title: &'static str, unit: &'static str, width: u64, queries: Queries) -> Panel {
    panel(title, "timeseries", unit, width, queries)
}

const fn stat(title: &'static str, unit: &'static str, queries: Queries) -> Panel {
    panel(title, "stat", unit, 4, queries)
}

/// The rows, each with its panels from left to right.
pub(super) const ROWS: &[(&str, &[Panel])] = &[
    ("Overview", OVERVIEW),
    ("Traffic", TRAFFIC),
    ("Latency", LATENCY),
    ("Regions", REGIONS),
    ("Replicas", REPLICAS),
    ("Control", CONTROL),
    ("Processes", PROCESSES),
];

const OVERVIEW: &[Panel] = &[
    stat("Regions that are well", "short", &[("sum(max by (region) (tradewind_control_region_healthy))", "")]),
    stat("Regions that are not", "short", &[("sum(1 - max by (region) (tradewind_control_region_healthy))", "")]),
    stat("Models that users get", "short", &[("count(max by (model) (tradewind_control_model_revision))", "")]),
    stat(
        "Requests",
        "reqps",
        &[(r#"sum(rate(tradewind_gateway_requests_total{model=~"$model"}[$__rate_interval]))"#, "")],
    ),
    stat(
        "Errors",
        "percentunit",
        &[(
            r#"sum(rate(tradewind_gateway_requests_total{model=~"$model",outcome=~"server_error|unavailable"}[$__rate_interval])) / sum(rate(tradewind_gateway_requests_total{model=~"$model",outcome!="cancelled"}[$__rate_interval]))"#,
            "",
        )],
    ),
    stat(
        "Alerts that fire",
        "short",
        &[(r#"count(ALERTS{service="tradewind",alertstate="firing"}) or vector(0)"#, "")],
    ),
    panel("Alerts", "table", "short", 24, &[(r#"ALERTS{service="tradewind"}"#, "")]),
];

const TRAFFIC: &[Panel] = &[
    graph(
        "Requests by model",
        "reqps",
        8,
        &[(
            r#"sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{model}}",
        )],
    ),
    graph(
        "Requests by the region that answered",
        "reqps",
        8,
        &[(
            r#"sum by (region) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{region}}",
        )],
    ),
    graph(
        "Requests by outcome",
        "reqps",
        8,
        &[(
            r#"sum by (outcome) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    graph(
        "Errors by model",
        "percentunit",
        12,
        &[(
            r#"sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region",outcome=~"server_error|unavailable"}[$__rate_interval])) / sum by (model) (rate(tradewind_gateway_requests_total{model=~"$model",region=~"$region",outcome!="cancelled"}[$__rate_interval]))"#,
            "{{model}}",
        )],
    ),
    graph(
        "Sent elsewhere",
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
    graph(
        "Latency by model",
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
    graph(
        "Inference, without waiting",
        "s",
        12,
        &[(
            r#"histogram_quantile(0.99, sum by (le, model) (rate(tradewind_replica_inference_duration_seconds_bucket{model=~"$model"}[$__rate_interval])))"#,
            "p99 {{model}}",
        )],
    ),
    graph(
        "Round trips between regions",
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
    graph(
        "Room on disks",
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
    graph(
        "Gateways that are behind",
        "short",
        12,
        &[(r#"max by (region) (tradewind_control_gateways_stale{region=~"$region"})"#, "{{region}}")],
    ),
];

const REPLICAS: &[Panel] = &[
    graph(
        "Replicas that are ready",
        "short",
        8,
        &[(
            r#"sum by (model, region, slot) (tradewind_agent_replicas_ready{model=~"$model",region=~"$region"})"#,
            "{{model}} {{slot}} in {{region}}",
        )],
    ),
    graph(
        "Replicas that are missing",
        "short",
        8,
        &[(
            r#"sum by (model, region, slot) (tradewind_agent_replicas_desired{model=~"$model",region=~"$region"} - tradewind_agent_replicas_ready)"#,
            "{{model}} {{slot}} in {{region}}",
        )],
    ),
    graph(
        "Replicas started again",
        "short",
        8,
        &[(
            r#"sum by (model, region) (increase(tradewind_agent_replica_restarts_total{model=~"$model",region=~"$region"}[$__rate_interval]))"#,
            "{{model}} in {{region}}",
        )],
    ),
    graph(
        "Saturation",
        "percentunit",
        8,
        &[(
            r#"sum by (model, region) (tradewind_gateway_replica_requests_in_flight{model=~"$model",region=~"$region"}) / (sum by (model, region) (tradewind_gateway_replica_requests_limit{model=~"$model",region=~"$region"}) > 0)"#,
            "{{model}} in {{region}}",
        )],
    ),
    graph(
        "Requests that wait",
        "short",
        8,
        &[
            (r#"sum by (model) (tradewind_gateway_requests_waiting{model=~"$model"})"#, "at gateways, {{model}}"),
            (r#"sum by (model) (tradewind_replica_requests_queued{model=~"$model"})"#, "at replicas, {{model}}"),
        ],
    ),
    graph(
        "Replicas by state, as gateways see them",
        "short",
        8,
        &[(
            r#"max by (model, region, state) (tradewind_gateway_replicas{model=~"$model",region=~"$region"})"#,
            "{{model}} in {{region}} {{state}}",
        )],
    ),
];

const CONTROL: &[Panel] = &[
    graph("Rollouts", "short", 8, &[("max by (state) (tradewind_control_rollouts) > 0", "{{state}}")]),
    graph(
        "Events",
        "short",
        8,
        &[(
            r#"sum by (kind) (increase(tradewind_control_events_recorded_total{severity!="info"}[$__rate_interval])) > 0"#,
            "{{kind}}",
        )],
    ),
    graph(
        "Latency of control, p99",
        "s",
        8,
        &[(
            "histogram_quantile(0.99, sum by (le, route) (rate(tradewind_control_request_duration_seconds_bucket[$__rate_interval])))",
            "{{route}}",
        )],
    ),
    graph("Store", "bytes", 8, &[("max(tradewind_control_store_bytes)", "bytes")]),
    graph("Streams", "short", 8, &[("sum(tradewind_control_streams)", "open")]),
    graph(
        "Agents and gateways",
        "short",
        8,
        &[("max(tradewind_control_agents)", "agents"), ("max(tradewind_control_gateways)", "gateways")],
    ),
];

const PROCESSES: &[Panel] = &[
    graph(
        "Processors",
        "short",
        8,
        &[(
            "rate(process_cpu_seconds_total[$__rate_interval]) * on (instance) group_left (role) tradewind_build_info",
            "{{role}} {{instance}}",
        )],
    ),
    graph(
        "Memory",
        "bytes",
        8,
        &[(
            "process_resident_memory_bytes * on (instance) group_left (role) tradewind_build_info",
            "{{role}} {{instance}}",
        )],
    ),
    graph("Versions", "short", 8, &[("count by (version, role) (tradewind_build_info)", "{{role}} {{version}}")]),
];
