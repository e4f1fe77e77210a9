//! What the control plane shows.

use super::definition::metrics;

metrics! {
    "tradewind_control_"
    Counter REQUESTS = "tradewind_control_requests_total"(method, route, status): "Requests that were answered.";
    Histogram REQUEST_DURATION = "tradewind_control_request_duration_seconds"(method, route):
        "From the request's head to the head of its answer; a stream goes on after it.";
    Gauge RECONCILING = "tradewind_control_reconciling"(): "1 while the reconcilers run.";
    Gauge AGENTS = "tradewind_control_agents"(): "Agents that report.";
    Gauge GATEWAYS = "tradewind_control_gateways"(): "Gateways that report.";
    Gauge GATEWAYS_STALE = "tradewind_control_gateways_stale"(region):
        "Gateways that have not taken up the newest route of some model.";
    Gauge STREAMS = "tradewind_control_streams"(): "Streams that are open.";
    Gauge REGION_HEALTHY = "tradewind_control_region_healthy"(region):
        "1 while an agent and a gateway of the region report; absent until that is known, and for a drained region.";
    Gauge REGION_DRAINED = "tradewind_control_region_drained"(region): "1 while the region takes no users.";
    Gauge MODEL_HEALTHY = "tradewind_control_model_healthy"(model, region):
        "1 while a routed region has replicas of the model that are ready; absent while nothing is known of the region.";
    Gauge MODEL_SERVED = "tradewind_control_model_served"(model, region):
        "1 while users of a routed region are served, there or elsewhere; 0 where no region can.";
    Gauge MODEL_DRIFTED = "tradewind_control_model_drifted"(model, region):
        "1 while a routed region holds another revision than users should get; absent while its agent is not heard.";
    Gauge MODEL_UTILISATION = "tradewind_control_model_utilisation_ratio"(model, region):
        "What a region's replicas have in flight, of what they may have; absent where no concurrency is declared.";
    Gauge FAILOVER_FITS = "tradewind_control_failover_fits"(region):
        "1 if the users of the region would find room elsewhere, 0 if not; absent where nobody knows, or where the region serves nothing that others serve too.";
    Gauge MODELS = "tradewind_control_models"(): "Models in the registry.";
    Gauge MODEL_REVISION = "tradewind_control_model_revision"(model): "The revision that users get.";
    Gauge MODEL_EPOCH = "tradewind_control_model_epoch"(model): "The epoch of the route that is committed.";
    Gauge ROLLOUTS = "tradewind_control_rollouts"(state): "Deployments whose newest rollout is in that state.";
    Gauge EVENTS = "tradewind_control_events"(): "Events that are kept.";
    Counter EVENTS_RECORDED = "tradewind_control_events_recorded_total"(kind, severity): "Events since the start, by what happened.";
    Gauge STORE_BYTES = "tradewind_control_store_bytes"(): "Bytes that the store holds, history included.";
    Counter STORE_TRANSACTIONS = "tradewind_control_store_transactions_total"():
        "Transactions that changed something since the start.";
    Gauge DISK_SIZE = "tradewind_control_disk_size_bytes"(): "Size of the disk that the data directory is on.";
    Gauge DISK_AVAILABLE = "tradewind_control_disk_available_bytes"(): "Room that is left on it.";
}
