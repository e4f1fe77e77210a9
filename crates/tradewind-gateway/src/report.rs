//! What the gateway tells control: what it has prepared and serves, whom it reaches, and where requests went.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tradewind_api::{
    Client,
    gateway::{Committed, GatewayReport, HEARTBEAT, PeerHealth, Traffic, config::ConfigVersion},
};
use tradewind_core::{Epoch, ModelName, RegionName, Timestamp};

use crate::{
    gateway::Gateway,
    metrics::{Key, Series},
    world::World,
};

/// Rates are over this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Quantiles span one to two of these.
const QUANTILE_ROTATION: Duration = Duration::from_secs(30);

/// What this gateway stands for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Acknowledged {
    pub(crate) prepared: BTreeMap<ModelName, Epoch>,
    pub(crate) committed: BTreeMap<ModelName, Committed>,
    /// What is taken up.
    pub(crate) config: Option<ConfigVersion>,
    pub(crate) snapshot_refused: Option<String>,
    /// Why a prepared route is not acknowledged yet.
    pub(crate) route_refused: Option<String>,
    /// Where users of the own region are sent, by routed model.
    pub(crate) users_go_to: BTreeMap<ModelName, Option<RegionName>>,
}

impl Acknowledged {
    /// Takes in the world as it is served now; whether a prepared route is still to be acknowledged.
    pub(crate) fn observe(&mut self, world: &World) -> bool {
        let mut prepared = BTreeMap::new();
        let mut committed = BTreeMap::new();
        self.users_go_to.clear();
        self.route_refused = None;
        for route in &world.snapshot.routes {
            let Some(model) = world.models.get(route.model.as_str()) else { continue };
            if let Some(serving) = &model.committed {
                let epoch = serving.state.epoch;
                let known = self.committed.get(&route.model).filter(|known| known.epoch == epoch);
                let entry = known.cloned().unwrap_or_else(|| Committed { epoch, at: Timestamp::now() });
                committed.insert(route.model.clone(), entry);
                let goes_to = world.users_go_to(route.model.as_str(), serving).cloned();
                self.users_go_to.insert(route.model.clone(), goes_to);
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
        config: acknowledged.config,
        peers: gateway.world.load().as_ref().map(|world| peers(world)).unwrap_or_default(),
        traffic: traffic(gateway, rates),
        users_go_to: acknowledged.users_go_to,
        load: gateway.load.read(),
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
            let counts = Counts::of(series);
            let [p50_us, p99_us] = series.quantiles();
            let [per_second, errors_per_second] = rates.observe(key, counts, now);
            Traffic {
                model: key.model.clone(),
                revision: key.revision,
                region: key.region.clone(),
                requests: counts.requests,
                errors: counts.errors,
                p50_us,
                p99_us,
                per_second,
                errors_per_second,
            }
        })
        .collect();
    traffic.sort_by(|a, b| (&a.model, a.revision, &a.region).cmp(&(&b.model, b.revision, &b.region)));
    traffic
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u64,
    errors: u64,
}

impl Counts {
    fn of(series: &Series) -> Self {
        // Errors first: a request that ends meanwhile must not make them more than the requests.
        let errors = series.errors();
        Self { requests: series.requests(), errors }
    }
}

/// Requests and errors per second, both over the last [`RATE_WINDOW`].
#[derive(Debug, Default)]
struct Rates {
    known: HashMap<Key, VecDeque<(Instant, Counts)>>,
}

impl Rates {
    fn observe(&mut self, key: &Key, counts: Counts, now: Instant) -> [f64; 2] {
        let samples = self.known.entry(key.clone()).or_insert_with(|| VecDeque::from([(now, Counts::default())]));
        while samples.len() > 1 && samples.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            samples.pop_front();
        }
        let (since, before) = samples.front().copied().unwrap_or((now, counts));
        // Reports may follow each other closely; one sample in a while is enough.
        if samples.back().is_none_or(|(at, _)| now - *at >= HEARTBEAT / 2) {
            samples.push_back((now, counts));
        }
        let seconds = (now - since).max(HEARTBEAT).as_secs_f64();
        [counts.requests - before.requests, counts.errors - before.errors].map(|count| count as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_last_seconds() {
        let key = Key {
            model: "digits".parse().unwrap(),
            revision: tradewind_core::RevisionNumber(1),
            slot: tradewind_core::Slot::Blue,
            region: "us-east1".parse().unwrap(),
        };
        let start = Instant::now();
        let mut rates = Rates::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Something was wrong before, and is not any more.
        let mut check = |seconds, requests, expected: [f64; 2]| {
            let rates = rates.observe(&key, Counts { requests, errors: requests.min(200) / 2 }, at(seconds));
            let close = rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1.0);
            assert!(close, "after {seconds} s: {rates:?}, not {expected:?}");
        };
        check(0, 0, [0.0, 0.0]);
        for (second, errors) in (1..).zip([50.0, 50.0, 33.3, 25.0, 20.0, 10.0, 0.0, 0.0, 0.0, 0.0]) {
            check(second, second * 100, [100.0, errors]);
        }
        for second in 11..20 {
            rates.observe(&key, Counts { requests: 1000, errors: 100 }, at(second));
        }
        assert_eq!(rates.observe(&key, Counts { requests: 1000, errors: 100 }, at(20)), [0.0, 0.0]);
    }
}
