//! Telling receivers of alerts. A task for each, so that one that is slow or away holds up no other.
//!
//! What a receiver took is written into the alert; what was not written is sent again, with the same id, so nothing is lost and
//! a receiver can tell what it has had before.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tradewind_core::{
    ReceiverName, Timestamp,
    alert::{
        Alert,
        receiver::{self, Format, Receiver, State},
        silence::Silence,
    },
    backoff::Backoff,
    causes::chain,
};
use tradewind_store::Txn;

use super::{Secret, message};
use crate::{
    changes::Changes,
    keys,
    repository::{Kept, Repository, Result, put},
    view::alerts::view_of,
};

/// A receiver that has not answered after this time has failed the attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Silences end, and alerts have to be told again, without anything being written.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// After a failure: 1 s, doubling to a minute.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), limit: Duration::from_secs(60) };
/// Of a refusal's body, so much is kept, in characters.
const REFUSAL_SHOWN: usize = 200;

/// How deliveries to one receiver stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Since this control plane started.
    pub delivered: u64,
    /// Why the last attempt failed.
    pub failing: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Couriers {
    repository: Repository,
    http: reqwest::Client,
    standings: Mutex<BTreeMap<ReceiverName, Standing>>,
}

impl Couriers {
    pub(crate) fn new(repository: Repository, http: reqwest::Client) -> Self {
        Self { repository, http, standings: Mutex::default() }
    }

    pub(crate) fn standing(&self, name: &ReceiverName) -> Standing {
        self.standings().get(name).cloned().unwrap_or_default()
    }

    fn standings(&self) -> MutexGuard<'_, BTreeMap<ReceiverName, Standing>> {
        // Whoever panicked has left the data whole.
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one courier for each receiver that there is.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = Changes::of(self.repository.store(), [keys::RECEIVERS.to_owned()]);
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<ReceiverName, (Receiver, CancellationToken)> = BTreeMap::new();
        loop {
            match self.repository.list::<Receiver>(keys::RECEIVERS).await {
                Ok(listed) => {
                    let receivers = listed.values();
                    running.retain(|_, (receiver, over)| {
                        let stays = receivers.contains(receiver);
                        if !stays {
                            over.cancel();
                        }
                        stays
                    });
                    for receiver in receivers {
                        if running.contains_key(&receiver.name) {
                            continue;
                        }
                        let over = shutdown.child_token();
                        let courier = Courier::new(Arc::clone(&self), receiver.clone());
                        tasks.spawn(courier.run(over.clone()));
                        running.insert(receiver.name.clone(), (receiver, over));
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "receivers of alerts cannot be read for now"),
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                open = changes.wait() => if !open { break },
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Tries a receiver out.
    pub(crate) async fn test(self: &Arc<Self>, receiver: Receiver) -> Result<(), String> {
        let courier = Courier::new(Arc::clone(self), receiver);
        let now = Timestamp::now();
        let id = format!("test-{}", now.as_millisecond());
        courier.post(&id, &message::test(courier.receiver.format, now), now).await
    }
}

struct Courier {
    couriers: Arc<Couriers>,
    receiver: Receiver,
    secret: Option<Secret>,
    /// When an Alertmanager was last told what still fires.
    refreshed: Instant,
}

impl Courier {
    fn new(couriers: Arc<Couriers>, receiver: Receiver) -> Self {
        // It was checked before it was stored.
        let secret = receiver.secret.as_deref().and_then(|text| Secret::parse(text).ok());
        Self { couriers, receiver, secret, refreshed: Instant::now() }
    }

    async fn run(mut self, over: CancellationToken) {
        let prefixes = [keys::ALERTS, keys::SILENCES].map(str::to_owned);
        let mut changes = Changes::of(self.couriers.repository.store(), prefixes);
        let mut failures = 0;
        loop {
            let worked = tokio::select! {
                () = over.cancelled() => return,
                worked = self.work() => worked,
            };
            failures = if worked.is_ok() { 0 } else { failures + 1 };
            self.note(worked.as_ref().err());
            let wait = if failures == 0 { LOOK_INTERVAL } else { RETRY.spread(failures, rand::random()) };
            tokio::select! {
                () = over.cancelled() => return,
                open = changes.wait(), if failures == 0 => if !open { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells everything that is to be told, the oldest first, until something goes wrong.
    async fn work(&mut self) -> Result<(), String> {
        let unreadable = |error: crate::repository::Error| chain(&error).to_string();
        loop {
            let now = Timestamp::now();
            let (alerts, silences) = self.read().await.map_err(unreadable)?;
            let due = alerts.iter().find_map(|kept| {
                let silenced = silences.iter().any(|silence| silence.covers(&kept.value.key, now));
                receiver::next(&kept.value, &self.receiver, silenced, now).map(|state| (kept, state))
            });
            let Some((kept, state)) = due else {
                return self.refresh(alerts.iter().map(|kept| &kept.value), now).await;
            };
            let was = receiver::worse_than_told(&kept.value, &self.receiver);
            let worse = was.map(|_| format!("-{}", kept.value.severity)).unwrap_or_default();
            let id = format!("{}-{}{worse}", kept.value.id, state.as_str());
            let change = message::Change { alert: view_of(kept.value.clone(), false), state, was };
            let body = message::change(self.receiver.format, &change, now);
            self.post(&id, &body, now).await?;
            self.couriers.standings().entry(self.receiver.name.clone()).or_default().delivered += 1;
            self.write_told(kept.clone(), state, now).await.map_err(unreadable)?;
        }
    }

    async fn read(&self) -> Result<(Vec<Kept<Alert>>, Vec<Silence>)> {
        let repository = &self.couriers.repository;
        let mut alerts = repository.list::<Alert>(keys::ALERTS).await?.items;
        alerts.sort_by(|one, other| one.value.id.cmp(&other.value.id));
        Ok((alerts, repository.list::<Silence>(keys::SILENCES).await?.values()))
    }

    /// Writes into the alert that it was told. It may have resolved meanwhile, and then lies elsewhere.
    async fn write_told(&self, kept: Kept<Alert>, state: State, now: Timestamp) -> Result<()> {
        let repository = &self.couriers.repository;
        let mut current = Some(kept);
        while let Some(mut kept) = current {
            kept.value.told(&self.receiver.name, state, now);
            let txn = Txn::new().when(kept.unchanged()).then(put(&kept.key, &kept.value));
            if repository.commit(txn).await?.is_some() {
                return Ok(());
            }
            let resolved = keys::resolved(&kept.value.id);
            let is_same = |found: &Kept<Alert>| found.value.id == kept.value.id;
            current = match repository.get::<Alert>(kept.key.clone()).await?.filter(is_same) {
                Some(found) => Some(found),
                None => repository.get::<Alert>(resolved).await?,
            };
        }
        Ok(())
    }

    async fn refresh<'a>(&mut self, alerts: impl Iterator<Item = &'a Alert>, now: Timestamp) -> Result<(), String> {
        if self.receiver.format != Format::Alertmanager || self.refreshed.elapsed() < message::REFRESH {
            return Ok(());
        }
        let held = alerts.filter(|alert| receiver::holds(alert, &self.receiver));
        let held: Vec<_> = held.map(|alert| view_of(alert.clone(), false)).collect();
        if !held.is_empty() {
            self.post(&format!("refresh-{}", now.as_second()), &message::refresh(&held, now), now).await?;
        }
        self.refreshed = Instant::now();
        Ok(())
    }

    async fn post(&self, id: &str, body: &Value, now: Timestamp) -> Result<(), String> {
        let body = serde_json::to_vec(body).expect("JSON is written as JSON");
        let timestamp = now.as_second();
        let mut request = self.couriers.http.post(&self.receiver.url).timeout(TIMEOUT);
        request = request.header("content-type", "application/json").header("webhook-id", id);
        request = request.header("webhook-timestamp", timestamp);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", secret.sign(id, timestamp, &body));
        }
        let mut response = request.body(body).send().await.map_err(|error| chain(&error.without_url()).to_string())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.chunk().await.ok().flatten().unwrap_or_default();
        let text: String = String::from_utf8_lossy(&text).chars().take(REFUSAL_SHOWN).collect();
        Err(format!("it answered with {status}: {text}"))
    }

    fn note(&self, problem: Option<&String>) {
        let name = &self.receiver.name;
        let mut standings = self.couriers.standings();
        let standing = standings.entry(name.clone()).or_default();
        if let Some(problem) = problem.filter(|_| standing.failing.is_none()) {
            tracing::warn!(receiver = %name, %problem, "a receiver does not take alerts");
        }
        standing.failing = problem.cloned();
    }
}
