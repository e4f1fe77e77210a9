//! What replicas use of their budgets, as the kernel counts it when the page is asked for.

use std::collections::BTreeMap;

use tradewind_api::metrics::{Kind, Metric, Page, Single, Value, agent as of};
use tradewind_core::{ModelName, RegionName, Slot, resources::Memory};
use tradewind_process::{Group, Usage};

use crate::board::{ReplicaView, SlotKey, SlotView};

/// A replica with a budget.
struct Measured<'a> {
    model: &'a ModelName,
    slot: Slot,
    place: u32,
    limit: Option<Memory>,
    usage: Usage,
}

pub(super) fn write(page: &mut Page, region: &RegionName, slots: &BTreeMap<SlotKey, SlotView>) {
    let measured: Vec<Measured<'_>> = slots.iter().flat_map(measure).collect();
    let each = |page: &mut Page, metric, value: fn(&Measured<'_>) -> Option<u64>| {
        series(page, region, &measured, metric, |each| value(each).map(Value::from));
    };
    each(page, &of::REPLICA_MEMORY, |each| each.usage.memory_bytes);
    each(page, &of::REPLICA_MEMORY_PEAK, |each| each.usage.memory_peak_bytes);
    each(page, &of::REPLICA_MEMORY_LIMIT, |each| each.limit.map(Memory::bytes));
    series(page, region, &measured, &of::REPLICA_CPU, |each| each.usage.cpu.map(|time| time.as_secs_f64().into()));
    series(page, region, &measured, &of::REPLICA_THROTTLED, |each| {
        each.usage.throttled.map(|time| time.as_secs_f64().into())
    });
}

fn series<K: Kind + Single>(
    page: &mut Page,
    region: &RegionName,
    measured: &[Measured<'_>],
    metric: &'static Metric<K, 4>,
    value: impl Fn(&Measured<'_>) -> Option<Value>,
) {
    let mut series = page.begin(metric);
    for each in measured {
        if let Some(value) = value(each) {
            series.add([region, each.model, &each.slot, &each.place], value);
        }
    }
}

/// One in each place: while another one takes a place, the one that comes.
fn measure<'a>(((model, slot), view): (&'a SlotKey, &'a SlotView)) -> impl Iterator<Item = Measured<'a>> {
    let mut newest: BTreeMap<u32, &ReplicaView> = BTreeMap::new();
    for replica in &view.replicas {
        let kept = newest.entry(replica.place).or_insert(replica);
        if replica.status.started_at > kept.status.started_at {
            *kept = replica;
        }
    }
    newest.into_iter().filter_map(move |(place, replica)| {
        let budget = replica.budget.as_ref()?;
        let usage = budget.group.as_ref().map(Group::usage).unwrap_or_default();
        Some(Measured { model, slot: *slot, place, limit: budget.memory, usage })
    })
}
