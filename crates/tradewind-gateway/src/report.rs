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
use tradewind_core::{Epoch, ModelName, RegionName, Timestamp, histogram::Histogram};

use crate::{
    gateway::Gateway,
    metrics::{Key, Series},
    world::World,
};

/// Rates are over this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Quantiles are over at least this time, and at most twice of it.
const QUANTILE_WINDOW: Duration = Duration::from_secs(30);

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
            if let Some(serving) = model.live() {
                let epoch = serving.state.epoch;
                let known = self.committed.get(&route.model).filter(|known| known.epoch == epoch);
                let entry = known.cloned().unwrap_or_else(|| Committed { epoch, at: Timestamp::now() });
                committed.insert(route.model.clone(), entry);
                let goes_to = world.users_go_to(route.model.as_str(), serving).cloned();
                self.users_go_to.insert(route.model.clone(), goes_to);
            }
            if let Some(routed) = &model.prepared {
                let epoch = routed.epoch();
                let known = self.prepared.get(&route.model) == Some(&epoch);
                let unserved = routed.served().find(|serving| !world.eligible(route.model.as_str(), serving));
                match unserved.filter(|_| !known) {
                    None => drop(prepared.insert(route.model.clone(), epoch)),
                    Some(serving) => {
                        let why = world.why_not(route.model.as_str(), serving);
                        self.route_refused = Some(format!("epoch {epoch} is not prepared: {why}"));
                    }
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
    let mut recent = Recent::default();
    let mut reachable = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = heartbeat.tick() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
        changes.mark_unchanged();
        let report = compose(&gateway, &mut recent);
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

fn compose(gateway: &Gateway, recent: &mut Recent) -> GatewayReport {
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
        traffic: traffic(gateway, recent),
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
fn traffic(gateway: &Gateway, recent: &mut Recent) -> Vec<Traffic> {
    let series = gateway.metrics.all();
    recent.0.retain(|key, _| series.contains_key(key));
    let now = Instant::now();
    let mut traffic: Vec<Traffic> = series
        .iter()
        .filter(|(_, series)| series.requests() > 0)
        .map(|(key, series)| {
            let counts = Counts::of(series);
            let durations = series.durations.read();
            let past = recent.0.entry(key.clone()).or_insert_with(|| Past::new(now));
            let [p50_us, p99_us] = past.quantiles(&durations, now);
            let [per_second, errors_per_second] = past.rates(counts, now);
            Traffic {
                model: key.model.clone(),
                revision: key.revision,
                region: key.region.clone(),
                requests: counts.requests,
                errors: counts.errors,
                durations,
                duration_us: series.durations.sum_us(),
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

/// What was counted some time ago.
#[derive(Debug, Default)]
struct Recent(HashMap<Key, Past>);

/// Of one series, oldest first.
#[derive(Debug)]
struct Past {
    counts: VecDeque<(Instant, Counts)>,
    durations: VecDeque<(Instant, Histogram)>,
}

impl Past {
    fn new(now: Instant) -> Self {
        Self {
            counts: VecDeque::from([(now, Counts::default())]),
            durations: VecDeque::from([(now, Histogram::default())]),
        }
    }

    /// Requests and errors per second, both over the last [`RATE_WINDOW`].
    fn rates(&mut self, counts: Counts, now: Instant) -> [f64; 2] {
        // Reports may follow each other closely; one sample in a while is enough.
        let (since, before) = at_least(&mut self.counts, RATE_WINDOW, HEARTBEAT / 2, counts, now);
        let seconds = (now - since).max(HEARTBEAT).as_secs_f64();
        [counts.requests - before.requests, counts.errors - before.errors].map(|count| count as f64 / seconds)
    }

    /// In microseconds; 0 where nothing was answered.
    fn quantiles(&mut self, durations: &Histogram, now: Instant) -> [u64; 2] {
        let (_, before) = at_least(&mut self.durations, QUANTILE_WINDOW, QUANTILE_WINDOW, durations.clone(), now);
        let recent = durations.since(&before);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        [0.5, 0.99].map(|quantile| recent.quantile(quantile).map_or(0, micros))
    }
}

/// What was there at least `window` ago, or at the beginning; `present` is kept for later, one in each `step`.
fn at_least<T: Clone>(
    past: &mut VecDeque<(Instant, T)>,
    window: Duration,
    step: Duration,
    present: T,
    now: Instant,
) -> (Instant, T) {
    while past.len() > 1 && past.get(1).is_some_and(|(at, _)| now - *at >= window) {
        past.pop_front();
    }
    let oldest = past.front().cloned().unwrap_or_else(|| (now, present.clone()));
    if past.back().is_none_or(|(at, _)| now - *at >= step) {
        past.push_back((now, present));
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_last_seconds() {
        let start = Instant::now();
        let mut past = Past::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        // Something was wrong before, and is not any more.
        let mut check = |seconds, requests, expected: [f64; 2]| {
            let rates = past.rates(Counts { requests, errors: requests.min(200) / 2 }, at(seconds));
            let close = rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1.0);
            assert!(close, "after {seconds} s: {rates:?}, not {expected:?}");
        };
        check(0, 0, [0.0, 0.0]);
        for (second, errors) in (1..).zip([50.0, 50.0, 33.3, 25.0, 20.0, 10.0, 0.0, 0.0, 0.0, 0.0]) {
            check(second, second * 100, [100.0, errors]);
        }
        for second in 11..20 {
            past.rates(Counts { requests: 1000, errors: 100 }, at(second));
        }
        assert_eq!(past.rates(Counts { requests: 1000, errors: 100 }, at(20)), [0.0, 0.0]);
    }

    #[test]
    fn quantiles_forget_after_two_windows() {
        let start = Instant::now();
        let mut past = Past::new(start);
        let mut durations = Histogram::default();
        let mut at = |seconds, durations: &Histogram| past.quantiles(durations, start + Duration::from_secs(seconds));
        assert_eq!(at(0, &durations), [0, 0]);
        (1..=100).for_each(|millis| durations.record(Duration::from_millis(millis)));
        for second in 1..30 {
            assert_eq!(at(second, &durations), [50_000, 100_000], "after {second} s");
        }
        let forgotten = (30..100).find(|second| at(*second, &durations) == [0, 0]);
        assert!(forgotten.is_some_and(|second| (30..=61).contains(&second)), "{forgotten:?}");
    }
}
