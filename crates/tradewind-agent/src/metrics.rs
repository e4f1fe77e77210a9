//! What this agent counts, and the page that shows it.

mod usage;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tradewind_api::{
    agent::{CaseCounts, SlotScaling},
    metrics::{Buckets, Counter, Gauge, Metric, Page, SECONDS, agent as of, process},
};
use tradewind_core::{RegionName, assignment::SlotPhase};

use crate::{
    agent::Context,
    board::{SlotKey, SlotView},
};

/// Counters are never taken back; those of a slot that is gone stay until the agent restarts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connected: AtomicBool,
    pub(crate) refused: AtomicU64,
    pub(crate) reports_failed: AtomicU64,
    pub(crate) drift_found: AtomicU64,
    pub(crate) drift_repaired: AtomicU64,
    slots: Mutex<BTreeMap<SlotKey, SlotCounters>>,
}

/// Samples of a monitored slot, and restarts.
#[derive(Debug)]
struct SlotCounters {
    /// Of probes that were answered.
    probes: Buckets,
    probes_failed: u64,
    restarts: u64,
    oom_kills: u64,
}

impl Default for SlotCounters {
    fn default() -> Self {
        Self { probes: Buckets::new(&SECONDS), probes_failed: 0, restarts: 0, oom_kills: 0 }
    }
}

impl Metrics {
    /// One sample of a monitored slot: whether the replica was available, and how long it took to say so.
    pub(crate) fn sample(&self, key: &SlotKey, ok: bool, took: Duration) {
        let mut slots = self.lock();
        let counters = slots.entry(key.clone()).or_default();
        if ok {
            counters.probes.record(took);
        } else {
            counters.probes_failed += 1;
        }
    }

    pub(crate) fn restarted(&self, key: &SlotKey) {
        self.lock().entry(key.clone()).or_default().restarts += 1;
    }

    pub(crate) fn killed_for_memory(&self, key: &SlotKey) {
        self.lock().entry(key.clone()).or_default().oom_kills += 1;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SlotKey, SlotCounters>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts everything on a page that is still empty.
pub(crate) fn write(page: &mut Page, context: &Context) {
    let (metrics, region) = (&context.metrics, &context.region);
    process::write(page, "agent", Some(region));
    page.one(&process::SPANS_DROPPED, tradewind_traces::dropped());
    let revision = context.desired.current().map_or(0, |desired| desired.revision);
    let gauges: [(&'static Metric<Gauge, 1>, u64); 3] = [
        (&of::CONTROL_CONNECTED, metrics.connected.load(Ordering::Relaxed).into()),
        (&of::DESIRED_REVISION, revision),
        (&of::EVENTS_WAITING, context.events.count() as u64),
    ];
    for (metric, value) in gauges {
        page.begin(metric).add([region], value);
    }
    let counters: [(&'static Metric<Counter, 1>, &AtomicU64); 4] = [
        (&of::MESSAGES_REFUSED, &metrics.refused),
        (&of::REPORTS_FAILED, &metrics.reports_failed),
        (&of::DRIFT_FOUND, &metrics.drift_found),
        (&of::DRIFT_REPAIRED, &metrics.drift_repaired),
    ];
    for (metric, counter) in counters {
        page.begin(metric).add([region], counter.load(Ordering::Relaxed));
    }
    if let Some(room) = context.home.room() {
        page.begin(&of::DISK_SIZE).add([region], room.total_bytes);
        page.begin(&of::DISK_AVAILABLE).add([region], room.free_bytes);
    }
    let board = context.board.slots();
    slots(page, region, &board);
    usage::write(page, region, &board);
    demand(page, region, &context.board.scaling());
    counts(page, region, &metrics.lock());
}

fn slots(page: &mut Page, region: &RegionName, slots: &BTreeMap<SlotKey, SlotView>) {
    let mut replicas = page.begin(&of::REPLICAS);
    for ((model, slot), view) in slots {
        let ready = view.replicas.iter().filter(|replica| replica.status.ready).count();
        replicas.add([region, model, slot, &"ready"], ready);
        replicas.add([region, model, slot, &"unready"], view.replicas.len() - ready);
    }
    type Of = fn(&SlotView) -> u64;
    let gauges: [(&'static Metric<Gauge, 3>, Of); 4] = [
        (&of::REPLICAS_READY, |view| view.status.replicas.ready.into()),
        (&of::REPLICAS_DESIRED, |view| view.status.replicas.desired.into()),
        (&of::REPLICAS_SUSPECT, |view| view.cases.suspects.into()),
        (&of::SLOT_REVISION, |view| view.status.revision.0),
    ];
    for (metric, value) in gauges {
        let mut series = page.begin(metric);
        for ((model, slot), view) in slots {
            series.add([region, model, slot], value(view));
        }
    }
    let mut cases = page.begin(&of::GOLDEN_CASES);
    for ((model, slot), SlotView { cases: CaseCounts { asked, wrong, unanswered, .. }, .. }) in slots {
        let right = asked.saturating_sub(*wrong).saturating_sub(*unanswered);
        for (result, count) in [("right", right), ("wrong", *wrong), ("unanswered", *unanswered)] {
            cases.add([region, model, slot, &result], count);
        }
    }
    let mut states = page.begin(&of::SLOT_STATE);
    for ((model, slot), view) in slots {
        for state in STATES {
            states.add([region, model, slot, &state], state == state_of(&view.status.phase));
        }
    }
}

fn demand(page: &mut Page, region: &RegionName, scaling: &[SlotScaling]) {
    let mut demand = page.begin(&of::DEMAND);
    for told in scaling {
        if let Some(in_flight) = told.in_flight {
            demand.add([region, &told.model, &told.slot], in_flight);
        }
    }
}

const STATES: [&str; 5] = ["fetching", "starting", "ready", "failed", "draining"];

fn state_of(phase: &SlotPhase) -> &'static str {
    match phase {
        SlotPhase::Fetching { .. } => "fetching",
        SlotPhase::Starting => "starting",
        SlotPhase::Ready => "ready",
        SlotPhase::Failed { .. } => "failed",
        SlotPhase::Draining => "draining",
    }
}

fn counts(page: &mut Page, region: &RegionName, slots: &BTreeMap<SlotKey, SlotCounters>) {
    type Of = fn(&SlotCounters) -> u64;
    let counters: [(&'static Metric<Counter, 3>, Of); 4] = [
        (&of::REPLICA_RESTARTS, |counters| counters.restarts),
        (&of::REPLICA_OOM_KILLS, |counters| counters.oom_kills),
        (&of::PROBES_SUCCEEDED, |counters| counters.probes.read().count),
        (&of::PROBES_FAILED, |counters| counters.probes_failed),
    ];
    for (metric, value) in counters {
        let mut series = page.begin(metric);
        for ((model, slot), counters) in slots {
            series.add([region, model, slot], value(counters));
        }
    }
    let mut durations = page.begin(&of::PROBE_DURATION);
    for ((model, slot), counters) in slots {
        durations.add([region, model, slot], &counters.probes.read());
    }
}
