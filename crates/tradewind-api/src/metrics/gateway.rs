//! What a gateway counts: each request once, where it entered. `region` is the region that answered or was asked.

use super::definition::metrics;

metrics! {
    "tradewind_gateway_"
    Counter REQUESTS = "tradewind_gateway_requests_total"(model, region, slot, outcome):
        "Requests that entered here, by who answered.";
    Counter RETRIES = "tradewind_gateway_retries_total"(model, region, slot):
        "Requests sent there after another replica or region had failed.";
    Counter SPILLED = "tradewind_gateway_spilled_total"(model, region, slot):
        "Requests sent there because the own region was full.";
    Counter EJECTIONS = "tradewind_gateway_ejections_total"(model, region, slot):
        "Times that a replica there was left out because its answers failed.";
    Histogram REQUEST_DURATION = "tradewind_gateway_request_duration_seconds"(model, region, slot):
        "From the request's head to the end of its answer.";
    Counter RETRIES_REFUSED = "tradewind_gateway_retries_refused_total"():
        "Requests not sent again because the budget of retries was spent.";
    Counter DOOMED = "tradewind_gateway_doomed_total"():
        "Requests refused because an equal one was in flight on replicas that died.";
    Counter PEER_REQUESTS = "tradewind_gateway_peer_requests_total"(): "Requests taken for gateways of other regions.";
    Counter OVERLOAD = "tradewind_gateway_overload_total"(): "Requests refused because too many were under way.";
    Counter CONFIG_RELISTS = "tradewind_gateway_config_relists_total"():
        "Times that control was asked for its whole configuration because a change did not fit.";
    Counter CONFIG_REFUSED = "tradewind_gateway_config_refused_total"(): "Times that a bad configuration was refused.";
    Counter TLS_HANDSHAKES_FAILED = "tradewind_gateway_tls_handshakes_failed_total"():
        "TLS handshakes that came to nothing.";
    Counter TLS_CERTIFICATES_REFUSED = "tradewind_gateway_tls_certificates_refused_total"():
        "Times that a changed certificate or its key could not be used.";
    Counter ACCESS_LOG_DROPPED = "tradewind_gateway_access_log_dropped_total"():
        "Lines of the access log that were not written; absent without an access log.";
    Gauge REQUESTS_IN_FLIGHT = "tradewind_gateway_requests_in_flight"(): "Requests under way.";
    Gauge REQUESTS_WAITING = "tradewind_gateway_requests_waiting"(model):
        "Requests that wait for a replica to have room.";
    Gauge REQUESTS_ASLEEP = "tradewind_gateway_requests_waiting_for_start"(model):
        "Requests that wait for the first replica of a model that was scaled to zero.";
    Gauge PEER_HEALTHY = "tradewind_gateway_peer_healthy"(region): "Whether a gateway of that region answers.";
    Gauge PEER_ROUND_TRIP = "tradewind_gateway_peer_round_trip_seconds"(region):
        "The smallest round trip to that region of late.";
    Gauge ROUTE_EPOCH = "tradewind_gateway_route_epoch"(model): "The epoch that is served.";
    Gauge MODEL_SERVED = "tradewind_gateway_model_served"(model): "1 while some region can serve the model.";
    Gauge REPLICAS = "tradewind_gateway_replicas"(model, region, slot, state):
        "Replicas of this region: ready, left out because their answers fail, or down.";
    Gauge REPLICA_REQUESTS_IN_FLIGHT = "tradewind_gateway_replica_requests_in_flight"(model, region, slot):
        "Requests that this gateway has with this region's replicas.";
    Gauge REPLICA_REQUESTS_LIMIT = "tradewind_gateway_replica_requests_limit"(model, region, slot):
        "The most of them that there may be.";
}
