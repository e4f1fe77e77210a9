//! What an agent shows of itself and of the slots of its region.

use super::definition::metrics;

metrics! {
    "tradewind_agent_"
    Gauge CONTROL_CONNECTED = "tradewind_agent_control_connected"(region): "1 while the stream of assignments is open.";
    Gauge DESIRED_REVISION = "tradewind_agent_desired_revision"(region): "The store's revision that is held.";
    Gauge EVENTS_WAITING = "tradewind_agent_events_waiting"(region): "Events that control has not stored yet.";
    Counter MESSAGES_REFUSED = "tradewind_agent_messages_refused_total"(region):
        "Assignments that were older than what is held.";
    Counter REPORTS_FAILED = "tradewind_agent_reports_failed_total"(region): "Reports that control did not take.";
    Counter DRIFT_FOUND = "tradewind_agent_drift_found_total"(region): "Installed bundles that were found altered.";
    Counter DRIFT_REPAIRED = "tradewind_agent_drift_repaired_total"(region):
        "Installed bundles that were installed again.";
    Gauge DISK_SIZE = "tradewind_agent_disk_size_bytes"(region): "Size of the disk that the data directory is on.";
    Gauge DISK_AVAILABLE = "tradewind_agent_disk_available_bytes"(region): "Room that is left on it.";
    Gauge REPLICAS = "tradewind_agent_replicas"(region, model, slot, state):
        "Replicas that run: ready, or not yet or no longer.";
    Gauge REPLICAS_READY = "tradewind_agent_replicas_ready"(region, model, slot): "Replicas that are announced as ready.";
    Gauge REPLICAS_DESIRED = "tradewind_agent_replicas_desired"(region, model, slot):
        "Replicas that the slot should have.";
    Gauge DEMAND = "tradewind_agent_demand"(region, model, slot):
        "Requests of the region's users in flight, those who wait included; absent while no gateway tells.";
    Gauge REPLICAS_SUSPECT = "tradewind_agent_replicas_suspect"(region, model, slot):
        "Replicas that answered golden cases wrongly and are not replaced yet.";
    Counter GOLDEN_CASES = "tradewind_agent_golden_cases_total"(region, model, slot, result):
        "Golden cases that were asked of replicas that serve.";
    Gauge SLOT_REVISION = "tradewind_agent_slot_revision"(region, model, slot): "The revision that the slot holds.";
    Gauge SLOT_STATE = "tradewind_agent_slot_state"(region, model, slot, state):
        "1 for the state that the slot is in: fetching, starting, ready, failed or draining.";
    Counter REPLICA_RESTARTS = "tradewind_agent_replica_restarts_total"(region, model, slot):
        "Replicas that ended and were started again.";
    Counter REPLICA_OOM_KILLS = "tradewind_agent_replica_oom_kills_total"(region, model, slot):
        "Replicas that were killed for want of memory: over their own, or their machine had none left.";
    Gauge REPLICA_MEMORY = "tradewind_agent_replica_memory_bytes"(region, model, slot, replica):
        "Memory of a replica with a budget and of all that it started, with what the kernel keeps of files for them.";
    Gauge REPLICA_MEMORY_PEAK = "tradewind_agent_replica_memory_peak_bytes"(region, model, slot, replica):
        "The most there was of it at one time since the replica started.";
    Gauge REPLICA_MEMORY_LIMIT = "tradewind_agent_replica_memory_limit_bytes"(region, model, slot, replica):
        "What it may take; whether anybody keeps it to that, `tradewind status` says.";
    Counter REPLICA_CPU = "tradewind_agent_replica_cpu_seconds_total"(region, model, slot, replica):
        "Processor time that a replica with a budget has used.";
    Counter REPLICA_THROTTLED = "tradewind_agent_replica_cpu_throttled_seconds_total"(region, model, slot, replica):
        "Time in which it had used up its processor time and stood still, of all its threads together.";
    Counter PROBES_SUCCEEDED = "tradewind_agent_probes_succeeded_total"(region, model, slot):
        "Probes of monitored slots that were answered well.";
    Counter PROBES_FAILED = "tradewind_agent_probes_failed_total"(region, model, slot):
        "Probes of monitored slots that were not.";
    Histogram PROBE_DURATION = "tradewind_agent_probe_duration_seconds"(region, model, slot):
        "Time that probes of monitored slots took that were answered well.";
}
