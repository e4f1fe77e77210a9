//! The metrics as a page. Labels are models, regions and slots of the snapshot, so there is a bound on their number.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tradewind_api::metrics::{Counter, Distribution, Gauge, Metric, Page, SECONDS, gateway as of, process};
use tradewind_core::{ModelName, RegionName, Slot, histogram::Histogram};

use super::{Metrics, Outcome, Series};
use crate::{clock::Millis, gateway::Gateway, world::World};

/// Revisions share a line: a label for them would grow without end.
type Lines<'a> = BTreeMap<(&'a ModelName, &'a RegionName, Slot), Vec<&'a Series>>;

/// Puts everything on a page that is still empty.
pub(crate) fn write(page: &mut Page, gateway: &Gateway) {
    process::write(page, "gateway", Some(&gateway.region));
    page.one(&process::SPANS_DROPPED, tradewind_traces::dropped());
    requests(page, &gateway.metrics);
    totals(page, &gateway.metrics);
    if let Some(log) = &gateway.access {
        page.one(&of::ACCESS_LOG_DROPPED, log.dropped());
    }
    if let Some(world) = gateway.world.load().as_ref() {
        peers(page, world);
        models(page, world);
        replicas(page, world);
    }
}

fn requests(page: &mut Page, metrics: &Metrics) {
    let series = metrics.series.load();
    let mut lines = Lines::new();
    for (key, series) in series.iter() {
        lines.entry((&key.model, &key.region, key.slot)).or_default().push(series);
    }
    let mut requests = page.begin(&of::REQUESTS);
    for ((model, region, slot), series) in &lines {
        for outcome in Outcome::ALL {
            let count: u64 = series.iter().map(|series| series.of(outcome)).sum();
            requests.add([model, region, slot, &outcome.as_str()], count);
        }
    }
    type Of = fn(&Series) -> &AtomicU64;
    let counters: [(&'static Metric<Counter, 3>, Of); 3] = [
        (&of::RETRIES, |series| &series.retries),
        (&of::SPILLED, |series| &series.spilled),
        (&of::EJECTIONS, |series| &series.ejections),
    ];
    for (metric, counter) in counters {
        let mut counts = page.begin(metric);
        for ((model, region, slot), series) in &lines {
            let count: u64 = series.iter().map(|series| counter(series).load(Ordering::Relaxed)).sum();
            counts.add([model, region, slot], count);
        }
    }
    let mut durations = page.begin(&of::REQUEST_DURATION);
    for ((model, region, slot), series) in &lines {
        durations.add([model, region, slot], &distribution(series));
    }
}

fn distribution(series: &[&Series]) -> Distribution {
    let mut durations = Histogram::default();
    series.iter().for_each(|series| durations.add(&series.durations.read()));
    let sum_us: u64 = series.iter().map(|series| series.durations.sum_us()).sum();
    Distribution {
        bounds: &SECONDS,
        // Each is a bound of a cell too.
        cumulative: SECONDS.map(|bound| durations.within(Duration::from_secs_f64(bound))).into(),
        count: durations.count(),
        sum_seconds: sum_us as f64 / 1e6,
    }
}

fn totals(page: &mut Page, metrics: &Metrics) {
    let counters: [(&'static Metric<Counter, 0>, &AtomicU64); 8] = [
        (&of::RETRIES_REFUSED, &metrics.retries_refused),
        (&of::DOOMED, &metrics.doomed),
        (&of::PEER_REQUESTS, &metrics.for_peers),
        (&of::OVERLOAD, &metrics.overload),
        (&of::CONFIG_RELISTS, &metrics.relists),
        (&of::CONFIG_REFUSED, &metrics.configs_refused),
        (&of::TLS_HANDSHAKES_FAILED, &metrics.handshakes_failed),
        (&of::TLS_CERTIFICATES_REFUSED, &metrics.certificates_refused),
    ];
    for (metric, counter) in counters {
        page.one(metric, counter.load(Ordering::Relaxed));
    }
    page.one(&of::REQUESTS_IN_FLIGHT, metrics.concurrent.load(Ordering::Relaxed));
}

fn peers(page: &mut Page, world: &World) {
    let peers = || world.regions.iter().filter(|(region, _)| **region != world.own);
    let mut healthy = page.begin(&of::PEER_HEALTHY);
    for (region, state) in peers() {
        healthy.add([region], state.reachable());
    }
    let mut round_trips = page.begin(&of::PEER_ROUND_TRIP);
    for (region, state) in peers() {
        if let Some(time) = state.round_trip() {
            round_trips.add([region], time.as_secs_f64());
        }
    }
}

fn models(page: &mut Page, world: &World) {
    let mut models: Vec<_> = world.models.iter().collect();
    models.sort_by_key(|(model, _)| *model);
    let routed = || models.iter().filter_map(|(name, model)| Some((name, model.live()?)));
    let mut epochs = page.begin(&of::ROUTE_EPOCH);
    for (model, serving) in routed() {
        epochs.add([model], serving.state.epoch.0);
    }
    let mut served = page.begin(&of::MODEL_SERVED);
    for (model, serving) in routed() {
        served.add([model], world.eligible(model, serving));
    }
    let mut waiting = page.begin(&of::REQUESTS_WAITING);
    for (model, known) in &models {
        waiting.add([model], known.lane.gate.waiting());
    }
    let mut asleep = page.begin(&of::REQUESTS_ASLEEP);
    for (model, known) in &models {
        asleep.add([model], known.lane.sleepers());
    }
}

/// Replicas of one model in one slot.
#[derive(Debug, Default)]
struct Group {
    /// Ready, left out, down.
    states: [u32; 3],
    in_flight: u64,
    limit: u64,
}

/// The replicas of the own region, as this gateway sees them.
fn replicas(page: &mut Page, world: &World) {
    let mut groups: BTreeMap<(&ModelName, Slot), Group> = BTreeMap::new();
    let now = Millis::now();
    for replica in &world.replicas {
        let group = groups.entry((&replica.endpoint.model, replica.endpoint.slot)).or_default();
        let state = match replica {
            replica if !replica.ready() => 2,
            replica if replica.target.ejected(now) => 1,
            _ => 0,
        };
        group.states[state] += 1;
        group.in_flight += u64::from(replica.target.in_flight());
        group.limit += u64::from(replica.target.limit());
    }
    let own = &world.own;
    let mut states = page.begin(&of::REPLICAS);
    for ((model, slot), group) in &groups {
        for (state, count) in ["ready", "left_out", "down"].into_iter().zip(group.states) {
            states.add([model, own, slot, &state], count);
        }
    }
    type Of = fn(&Group) -> u64;
    let gauges: [(&'static Metric<Gauge, 3>, Of); 2] = [
        (&of::REPLICA_REQUESTS_IN_FLIGHT, |group| group.in_flight),
        (&of::REPLICA_REQUESTS_LIMIT, |group| group.limit),
    ];
    for (metric, value) in gauges {
        let mut series = page.begin(metric);
        for ((model, slot), group) in &groups {
            series.add([model, own, slot], value(group));
        }
    }
}
