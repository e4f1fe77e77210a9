//! What the gateway tells control: what it has prepared and serves, whom it reaches, and where requests went.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Client,
    gateway::{Committed, GatewayReport, HEARTBEAT, PeerHealth, Traffic},
};
use tradewind_core::{Epoch, ModelName, Timestamp};

use crate::{gateway::Gateway, metrics::Key, world::World};

/// Rates are over this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Quantiles span one to two of these.
const QUANTILE_ROTATION: Duration = Duration::from_secs(30);

/// What this gateway stands for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Acknowledged {
    pub(crate) prepared: BTreeMap<ModelName, Epoch>,
    pub(crate) committed: BTreeMap<ModelName, Committed>,
    pub(crate) snapshot_refused: Option<String>,
    /// Why a prepared route is not acknowledged yet.
    pub(crate) route_refused: Option<String>,
}

impl Acknowledged {
    /// Takes in the world as it is served now; whether a prepared route is still to be acknowledged.
    pub(crate) fn observe(&mut self, world: &World) -> bool {
        let mut prepared = BTreeMap::new();
        let mut committed = BTreeMap::new();
        self.route_refused = None;
        for route in &world.snapshot.routes {
            let Some(model) = world.models.get(route.model.as_str()) else { continue };
            if let Some(serving) = &model.committed {
                let epoch = serving.state.epoch;
                let known = self.committed.get(&route.model).filter(|known| known.epoch == epoch);
                let entry = known.cloned().unwrap_or_else(|| Committed { epoch, at: Timestamp::now() });
                committed.insert(route.model.clone(), entry);
            }
            if let Some(serving) = &model.prepared {
                let epoch = serving.state.epoch;
                let known = self.prepared.get(&route.model) == Some(&epoch);
                if known || world.eligible(route.model.as_str(), serving) {
                    prepared.insert(route.model.clone(), epoch);
                } else {
                    let why = world.why_not(route.model.as_str(), serving);
                    self.route_refused = Some(format!("epoch {epoch} is not prepared: {why}"));
                }
            }
        }
        (self.prepared, self.committed) = (prepared, committed);
        self.route_refused.is_some()
    }
}

/// Reports at every change and at each heartbeat, until told to stop.
pub(crate) async fn run(gateway: Arc<Gateway>, client: Client, shutdown: CancellationToken) {
    let mut changes = gateway.acknowledged.subscribe();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rates = Rates::default();
    let mut rotated = Instant::now();
    let mut reachable = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = heartbeat.tick() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
        changes.mark_unchanged();
        if rotated.elapsed() >= QUANTILE_ROTATION {
            gateway.metrics.rotate();
            rotated = Instant::now();
        }
        let report = compose(&gateway, &mut rates);
        let Some(told) = shutdown.run_until_cancelled(client.report_gateway(&report)).await else { return };
        if told.is_ok() != reachable {
            reachable = told.is_ok();
            match told {
                Ok(()) => tracing::info!("control takes reports again"),
                Err(error) => tracing::warn!(%error, "control takes no reports"),
            }
        }
    }
}

fn compose(gateway: &Gateway, rates: &mut Rates) -> GatewayReport {
    let acknowledged = gateway.acknowledged.borrow().clone();
    GatewayReport {
        region: gateway.region.clone(),
        pid: std::process::id(),
        started_at: gateway.started_at,
        address: gateway.address.clone(),
        prepared: acknowledged.prepared,
        committed: acknowledged.committed,
        refused: acknowledged.snapshot_refused.or(acknowledged.route_refused),
        peers: gateway.world.load().as_ref().map(|world| peers(world)).unwrap_or_default(),
        traffic: traffic(gateway, rates),
    }
}

fn peers(world: &World) -> Vec<PeerHealth> {
    let others = world.regions.iter().filter(|(name, _)| **name != world.own);
    others
        .map(|(name, region)| PeerHealth {
            region: name.clone(),
            healthy: region.reachable(),
            round_trip_us: region.round_trip().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        })
        .collect()
}

/// Slots are told together: a revision is in one slot at a time.
fn traffic(gateway: &Gateway, rates: &mut Rates) -> Vec<Traffic> {
    let series = gateway.metrics.all();
    rates.known.retain(|key, _| series.contains_key(key));
    let now = Instant::now();
    let mut traffic: Vec<Traffic> = series
        .iter()
        .filter(|(_, series)| series.requests() > 0)
        .map(|(key, series)| {
            let requests = series.requests();
            let [p50_us, p99_us] = series.quantiles();
            Traffic {
                model: key.model.clone(),
                revision: key.revision,
                region: key.region.clone(),
                requests,
                errors: series.errors(),
                p50_us,
                p99_us,
                per_second: rates.observe(key, requests, now),
            }
        })
        .collect();
    traffic.sort_by(|a, b| (&a.model, a.revision, &a.region).cmp(&(&b.model, b.revision, &b.region)));
    traffic
}

/// Requests per second over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
struct Rates {
    known: HashMap<Key, VecDeque<(Instant, u64)>>,
}

impl Rates {
    fn observe(&mut self, key: &Key, requests: u64, now: Instant) -> f64 {
        let samples = self.known.entry(key.clone()).or_insert_with(|| VecDeque::from([(now, 0)]));
        while samples.len() > 1 && samples.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            samples.pop_front();
        }
        let (since, before) = samples.front().copied().unwrap_or((now, requests));
        // Reports may follow each other closely; one sample in a while is enough.
        if samples.back().is_none_or(|(at, _)| now - *at >= HEARTBEAT / 2) {
            samples.push_back((now, requests));
        }
        (requests - before) as f64 / (now - since).max(HEARTBEAT).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_the_last_seconds() {
        let key = Key {
            model: "digits".parse().unwrap(),
            revision: tradewind_core::RevisionNumber(1),
            slot: tradewind_core::Slot::Blue,
            region: "us-east1".parse().unwrap(),
        };
        let start = Instant::now();
        let mut rates = Rates::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..=10 {
            rates.observe(&key, second * 100, at(second));
        }
        assert!((rates.observe(&key, 1100, at(11)) - 100.0).abs() < 1.0);
        for second in 12..20 {
            rates.observe(&key, 1100, at(second));
        }
        assert!(rates.observe(&key, 1100, at(20)).abs() < 1e-9);
    }
}
