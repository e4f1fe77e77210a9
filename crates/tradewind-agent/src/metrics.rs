//! What this agent counts, in the text format 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::board::{SlotKey, SlotView};

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
#[derive(Debug, Clone, Copy, Default)]
struct SlotCounters {
    probes_ok: u64,
    probes_failed: u64,
    probe_time: Duration,
    restarts: u64,
}

impl Metrics {
    /// One sample of a monitored slot: whether the replica was available, and how long it took to say so.
    pub(crate) fn sample(&self, key: &SlotKey, ok: bool, took: Duration) {
        let mut slots = self.lock();
        let counters = slots.entry(key.clone()).or_default();
        if ok {
            counters.probes_ok += 1;
            counters.probe_time += took;
        } else {
            counters.probes_failed += 1;
        }
    }

    pub(crate) fn restarted(&self, key: &SlotKey) {
        self.lock().entry(key.clone()).or_default().restarts += 1;
    }

    pub(crate) fn render(&self, slots: &BTreeMap<SlotKey, SlotView>, revision: Option<u64>, events: usize) -> String {
        let mut page = Page::default();
        let connected = self.connected.load(Ordering::Relaxed);
        page.single("control_connected", "gauge", "Whether the stream of assignments is open.", u64::from(connected));
        page.single("desired_revision", "gauge", "The store's revision that is held.", revision.unwrap_or(0));
        page.single("events_waiting", "gauge", "Events that control has not stored yet.", events as u64);
        for (name, help, counter) in [
            ("messages_refused_total", "Assignments that were older than what is held.", &self.refused),
            ("reports_failed_total", "Reports that control did not take.", &self.reports_failed),
            ("drift_found_total", "Installed bundles that were found altered.", &self.drift_found),
            ("drift_repaired_total", "Installed bundles that were installed again.", &self.drift_repaired),
        ] {
            page.single(name, "counter", help, counter.load(Ordering::Relaxed));
        }
        page.slots("replicas_ready", "gauge", "Replicas that are announced as ready.", slots, |view| {
            u64::from(view.status.replicas.ready).to_string()
        });
        page.slots("replicas_desired", "gauge", "Replicas that the slot should have.", slots, |view| {
            u64::from(view.status.replicas.desired).to_string()
        });
        let counters = self.lock().clone();
        page.slots(
            "replica_restarts_total",
            "counter",
            "Replicas that ended and were started again.",
            &counters,
            |c| c.restarts.to_string(),
        );
        page.slots(
            "probes_succeeded_total",
            "counter",
            "Probes of monitored slots that were answered.",
            &counters,
            |c| c.probes_ok.to_string(),
        );
        page.slots("probes_failed_total", "counter", "Probes of monitored slots that were not.", &counters, |c| {
            c.probes_failed.to_string()
        });
        page.slots("probe_seconds_total", "counter", "Time that answered probes took.", &counters, |c| {
            format!("{:.6}", c.probe_time.as_secs_f64())
        });
        page.0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SlotKey, SlotCounters>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP tradewind_agent_{name} {help}\n# TYPE tradewind_agent_{name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "tradewind_agent_{name} {value}");
    }

    fn slots<T>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        slots: &BTreeMap<SlotKey, T>,
        value: impl Fn(&T) -> String,
    ) {
        self.head(name, kind, help);
        for ((model, slot), each) in slots {
            // Names need no escaping: they are letters, digits, `.`, `_` and `-`.
            let _ = writeln!(self.0, "tradewind_agent_{name}{{model=\"{model}\",slot=\"{slot}\"}} {}", value(each));
        }
    }
}
