//! What a replica counts. Probes and golden cases are left out.

use super::definition::metrics;

metrics! {
    "tradewind_replica_"
    Gauge READY = "tradewind_replica_ready"(model, version): "1 once the model is loaded and warm.";
    Gauge LOAD_DURATION = "tradewind_replica_load_duration_seconds"(model, version):
        "Time that it took to load the model and to warm it up; absent before.";
    Gauge REQUESTS_IN_FLIGHT = "tradewind_replica_requests_in_flight"(model, version):
        "Inference requests being read, waiting or running.";
    Gauge REQUEST_BYTES_IN_FLIGHT = "tradewind_replica_request_bytes_in_flight"():
        "Bytes of all requests under way, decompressed where they came compressed.";
    Gauge REQUESTS_QUEUED = "tradewind_replica_requests_queued"(model, version):
        "Inference requests that wait for the model.";
    Gauge BATCHES = "tradewind_replica_batches"(model, version): "1 where requests run together that wait at the same time.";
    Counter EXECUTIONS = "tradewind_replica_executions_total"(model, version):
        "Times that the model ran, for one request or for several; for probes too.";
    Counter REQUESTS = "tradewind_replica_requests_total"(model, version): "Inference requests received.";
    Counter ERRORS = "tradewind_replica_errors_total"(model, version, reason):
        "Inference requests that failed, by reason.";
    Histogram REQUEST_DURATION = "tradewind_replica_request_duration_seconds"(model, version):
        "From the request's head to its answer, waiting included; those that failed are left out.";
    Histogram INFERENCE_DURATION = "tradewind_replica_inference_duration_seconds"(model, version):
        "Time that the model ran, without waiting.";
}
