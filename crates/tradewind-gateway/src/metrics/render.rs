//! The metrics as text. Labels are models, regions and slots of the snapshot, so there is a bound on their number.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tradewind_core::{ModelName, RegionName, Slot, histogram::Histogram};

use super::{Metrics, Outcome, Series};
use crate::{clock::Millis, world::World};

/// Upper bounds of the buckets that Prometheus is shown; each is a bound of a cell.
const BOUNDS: [Duration; 16] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// One of the counts of a series.
type Count = fn(&Series) -> &AtomicU64;

/// What is counted beside requests, by the region that has to do with it.
const COUNTERS: [(&str, &str, Count); 3] = [
    ("tradewind_gateway_retries_total", "Requests sent there after another replica or region had failed.", |s| {
        &s.retries
    }),
    ("tradewind_gateway_spilled_total", "Requests sent there because the own region was full.", |s| &s.spilled),
    ("tradewind_gateway_ejections_total", "Times that a replica there was left out because its answers failed.", |s| {
        &s.ejections
    }),
];

impl Metrics {
    /// Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, world: Option<&World>) -> String {
        let mut text = String::new();
        self.render_requests(&mut text).expect("writing to a string cannot fail");
        self.render_totals(&mut text).expect("writing to a string cannot fail");
        if let Some(world) = world {
            render_world(&mut text, world).expect("writing to a string cannot fail");
            render_replicas(&mut text, world).expect("writing to a string cannot fail");
        }
        text
    }

    fn render_requests(&self, text: &mut String) -> fmt::Result {
        let series = self.series.load();
        // Revisions share a line: a label for them would grow without end.
        let mut lines: BTreeMap<(&ModelName, &RegionName, Slot), Vec<&Series>> = BTreeMap::new();
        for (key, series) in series.iter() {
            lines.entry((&key.model, &key.region, key.slot)).or_default().push(series);
        }
        head(text, "tradewind_gateway_requests_total", "counter", "Requests that entered here, by who answered.")?;
        for ((model, region, slot), series) in &lines {
            for outcome in Outcome::ALL {
                let count: u64 = series.iter().map(|series| series.of(outcome)).sum();
                let outcome = outcome.as_str();
                writeln!(
                    text,
                    "tradewind_gateway_requests_total{{model=\"{model}\",region=\"{region}\",slot=\"{slot}\",outcome=\"{outcome}\"}} {count}"
                )?;
            }
        }
        for (name, help, of) in COUNTERS {
            head(text, name, "counter", help)?;
            for ((model, region, slot), series) in &lines {
                let count: u64 = series.iter().map(|series| of(series).load(Ordering::Relaxed)).sum();
                writeln!(text, "{name}{{model=\"{model}\",region=\"{region}\",slot=\"{slot}\"}} {count}")?;
            }
        }
        let name = "tradewind_gateway_request_duration_seconds";
        head(text, name, "histogram", "From the request's head to the end of its answer.")?;
        for ((model, region, slot), series) in &lines {
            let labels = format!("model=\"{model}\",region=\"{region}\",slot=\"{slot}\"");
            let mut durations = Histogram::default();
            series.iter().for_each(|series| durations.add(&series.durations.read()));
            for bound in BOUNDS {
                let count = durations.within(bound);
                writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {count}", bound.as_secs_f64())?;
            }
            let count = durations.count();
            let sum_us: u64 = series.iter().map(|series| series.durations.sum_us()).sum();
            let sum = sum_us as f64 / 1e6;
            writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
            writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")?;
        }
        Ok(())
    }

    fn render_totals(&self, text: &mut String) -> fmt::Result {
        for (name, help, count) in [
            (
                "retries_refused_total",
                "Requests not sent again because the budget of retries was spent.",
                &self.retries_refused,
            ),
            (
                "doomed_total",
                "Requests refused because an equal one was in flight on replicas that died.",
                &self.doomed,
            ),
            ("peer_requests_total", "Requests taken for gateways of other regions.", &self.for_peers),
            ("overload_total", "Requests refused because too many were under way.", &self.overload),
            (
                "config_relists_total",
                "Times that control was asked for its whole configuration because a change did not fit.",
                &self.relists,
            ),
            ("config_refused_total", "Times that a bad configuration was refused.", &self.configs_refused),
            ("tls_handshakes_failed_total", "TLS handshakes that came to nothing.", &self.handshakes_failed),
            (
                "tls_certificates_refused_total",
                "Times that a changed certificate or its key could not be used.",
                &self.certificates_refused,
            ),
        ] {
            let name = format!("tradewind_gateway_{name}");
            head(text, &name, "counter", help)?;
            writeln!(text, "{name} {}", count.load(Ordering::Relaxed))?;
        }
        let name = "tradewind_gateway_requests_in_flight";
        head(text, name, "gauge", "Requests under way.")?;
        writeln!(text, "{name} {}", self.concurrent.load(Ordering::Relaxed))?;
        Ok(())
    }
}

fn render_world(text: &mut String, world: &World) -> fmt::Result {
    let name = "tradewind_gateway_peer_healthy";
    head(text, name, "gauge", "Whether a gateway of that region answers.")?;
    for (region, state) in world.regions.iter().filter(|(region, _)| **region != world.own) {
        writeln!(text, "{name}{{region=\"{region}\"}} {}", u8::from(state.reachable()))?;
    }
    let name = "tradewind_gateway_route_epoch";
    head(text, name, "gauge", "The epoch that is served.")?;
    let mut models: Vec<_> = world.models.iter().collect();
    models.sort_by_key(|(model, _)| *model);
    for (model, serving) in models.into_iter().filter_map(|(name, model)| Some((name, model.committed.as_ref()?))) {
        writeln!(text, "{name}{{model=\"{model}\"}} {}", serving.state.epoch)?;
    }
    let name = "tradewind_gateway_requests_waiting";
    head(text, name, "gauge", "Requests that wait for a replica to have room.")?;
    let mut models: Vec<_> = world.models.iter().collect();
    models.sort_by_key(|(model, _)| *model);
    for (model, lane) in models.into_iter().map(|(model, known)| (model, &known.lane)) {
        writeln!(text, "{name}{{model=\"{model}\"}} {}", lane.gate.waiting())?;
    }
    Ok(())
}

/// The replicas of the own region, as this gateway sees them.
fn render_replicas(text: &mut String, world: &World) -> fmt::Result {
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
    let name = "tradewind_gateway_replicas";
    head(text, name, "gauge", "Replicas of this region: ready, left out because their answers fail, or down.")?;
    for ((model, slot), group) in &groups {
        for (state, count) in ["ready", "left_out", "down"].into_iter().zip(group.states) {
            writeln!(text, "{name}{{model=\"{model}\",region=\"{own}\",slot=\"{slot}\",state=\"{state}\"}} {count}")?;
        }
    }
    let in_flight: fn(&Group) -> u64 = |group| group.in_flight;
    let limit: fn(&Group) -> u64 = |group| group.limit;
    for (name, help, of) in [
        (
            "tradewind_gateway_replica_requests_in_flight",
            "Requests that this gateway has with this region's replicas.",
            in_flight,
        ),
        ("tradewind_gateway_replica_requests_limit", "The most of them that there may be.", limit),
    ] {
        head(text, name, "gauge", help)?;
        for ((model, slot), group) in &groups {
            writeln!(text, "{name}{{model=\"{model}\",region=\"{own}\",slot=\"{slot}\"}} {}", of(group))?;
        }
    }
    Ok(())
}

/// Replicas of one model in one slot.
#[derive(Debug, Default)]
struct Group {
    /// Ready, left out, down.
    states: [u32; 3],
    in_flight: u64,
    limit: u64,
}

/// Only of a gateway with an access log.
pub(crate) fn render_dropped_lines(text: &mut String, dropped: u64) {
    let name = "tradewind_gateway_access_log_dropped_total";
    head(text, name, "counter", "Lines of the access log that were not written.")
        .and_then(|()| writeln!(text, "{name} {dropped}"))
        .expect("writing to a string cannot fail");
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
