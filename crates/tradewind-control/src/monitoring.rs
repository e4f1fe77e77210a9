//! Monitoring: counts become findings, what lasts becomes an alert, and whoever is to know is told.
//!
//! Once a second everything that members last reported is looked at. Alerts are kept in the store, so that each fires once and
//! is told once, whoever looks; counts are kept beside it, since no metric is written to the store.

mod courier;
mod findings;
mod ledger;
mod message;
mod signature;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tradewind_api::auth::write_private;
use tradewind_core::{
    ModelName, RevisionNumber, Timestamp,
    alert::{Alert, AlertKey, Change, Holds, silence::Silence},
    deployment::Revision,
    event::{EventKind, EventRecord, Severity},
    monitor::Monitors,
    region::Region,
    route::Route,
};
use tradewind_store::{Compare, Op, Txn};

use self::findings::{Findings, Look};
pub(crate) use self::{
    courier::Couriers,
    ledger::{Ledger, Subject},
    signature::Secret,
};
use crate::{
    changes::Changes,
    events,
    hub::Hub,
    keys,
    repository::{Kept, Repository, Result, put},
    view::sight::{Regions, Sight},
};

/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Whether each region's users would fit elsewhere is worked out at every so many looks.
const UNFIT_LOOKS: u32 = 10;
/// The ledger is written down this often.
const PAGE_INTERVAL: Duration = Duration::from_secs(30);
/// So many alerts that are over are kept, at least.
const RESOLVED_RETAINED: usize = 1000;
/// So many more may gather until the oldest are removed.
const RESOLVED_TRIM_AT: usize = RESOLVED_RETAINED + 100;
/// The ledger's file in the data directory.
const PAGE_FILE: &str = "monitoring.json";

/// Reads the ledger that an earlier control plane wrote down. One that cannot be read is left behind: counts begin anew.
pub(crate) fn open_ledger(directory: &Path) -> Ledger {
    let path = directory.join(PAGE_FILE);
    let page = match std::fs::read(&path) {
        Ok(page) => page,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ledger::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was counted before cannot be read");
            return Ledger::default();
        }
    };
    Ledger::read(&page).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what was counted before does not parse");
        Ledger::default()
    })
}

/// Looks at everything once a second.
#[derive(Debug)]
pub(crate) struct Monitoring {
    repository: Repository,
    hub: Arc<Hub>,
    ledger: Arc<Ledger>,
    directory: PathBuf,
    known: Known,
    holds: Holds,
    /// What each loss of a region would mean, and how many looks ago that was worked out: it costs more than all else.
    unfit: (Findings, u32),
    /// Tells alerts of one millisecond apart.
    sequence: AtomicU64,
}

/// What the store has, as of the last change.
#[derive(Debug, Default)]
struct Known {
    routes: Vec<Route>,
    regions: Regions,
    revisions: BTreeMap<(ModelName, RevisionNumber), Revision>,
    firing: BTreeMap<AlertKey, Kept<Alert>>,
    silences: Vec<Silence>,
}

impl Monitoring {
    pub(crate) fn new(repository: Repository, hub: Arc<Hub>, ledger: Arc<Ledger>, directory: PathBuf) -> Self {
        let (known, holds, sequence) = (Known::default(), Holds::default(), AtomicU64::new(0));
        let unfit = (Findings::new(), UNFIT_LOOKS);
        Self { repository, hub, ledger, directory, known, holds, unfit, sequence }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let prefixes = [keys::ROUTES, keys::REGIONS, keys::REVISIONS, keys::ALERTS, keys::SILENCES];
        let mut changes = Changes::of(self.repository.store(), prefixes.map(str::to_owned));
        let mut look = ticks(LOOK_INTERVAL);
        let mut page = ticks(PAGE_INTERVAL);
        let mut stale = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                open = changes.wait() => {
                    if !open {
                        break;
                    }
                    stale = true;
                }
                _ = page.tick() => self.write_page().await,
                _ = look.tick() => {
                    if let Err(error) = self.look(&mut stale).await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "alerts cannot be recorded for now");
                    }
                }
            }
        }
        self.write_page().await;
    }

    async fn look(&mut self, stale: &mut bool) -> Result<()> {
        if *stale {
            self.known = Known::load(&self.repository).await?;
            *stale = false;
        }
        let now = Timestamp::now();
        let findings = self.findings(now);
        let firing = self.known.firing.iter().map(|(key, kept)| (key.clone(), kept.value.clone())).collect();
        for change in self.holds.advance(&findings, &firing, now) {
            // What somebody else has written meanwhile is read before the next look.
            *stale = true;
            self.apply(change, now).await?;
        }
        Ok(())
    }

    fn findings(&mut self, now: Timestamp) -> Findings {
        // A copy, so that no report waits.
        let seen = self.hub.seen().clone();
        self.ledger.take(&seen, &|subject| self.known.monitors(subject), now);
        let sight = Sight::new(&self.known.regions, &seen, now);
        let look = Look {
            sight: &sight,
            routes: &self.known.routes,
            ledger: &self.ledger,
            spec: &|model, live| self.known.revision(model, live.revision).map(|revision| &revision.spec),
            disk: tradewind_artifacts::room(&self.directory).ok(),
        };
        let (unfit, looks) = &mut self.unfit;
        *looks += 1;
        if *looks >= UNFIT_LOOKS {
            (*unfit, *looks) = (look.unfit(), 0);
        }
        let mut findings = look.findings();
        findings.extend(unfit.clone());
        findings
    }

    async fn apply(&self, change: Change, now: Timestamp) -> Result<()> {
        let txn = match change {
            Change::Fire { key, severity, detail, since } => {
                let number = self.sequence.fetch_add(1, Ordering::Relaxed) % 1000;
                let id = format!("{:015}-{number:03}", now.as_millisecond());
                let alert = Alert {
                    id,
                    key,
                    severity,
                    detail,
                    since,
                    fired_at: now,
                    resolved_at: None,
                    hushed: false,
                    deliveries: BTreeMap::new(),
                };
                let place = keys::firing(&alert.key);
                let txn = Txn::new().when(Compare::absent(&place)).then(put(place, &alert));
                txn.then(event(&alert, EventKind::AlertFired, now))
            }
            Change::Update { key, severity, detail } => {
                let Some(kept) = self.known.firing.get(&key) else { return Ok(()) };
                let alert = Alert { severity, detail, ..kept.value.clone() };
                let txn = Txn::new().when(kept.unchanged()).then(put(&kept.key, &alert));
                txn.then(event(&alert, EventKind::AlertFired, now))
            }
            Change::Resolve { key } => {
                let Some(kept) = self.known.firing.get(&key) else { return Ok(()) };
                let mut alert = kept.value.clone();
                alert.resolve(self.known.is_silenced(&key, now), now);
                let txn = Txn::new().when(kept.unchanged()).then(Op::delete(&kept.key));
                txn.then(put(keys::resolved(&alert.id), &alert)).then(event(&alert, EventKind::AlertResolved, now))
            }
        };
        self.repository.commit(txn).await?;
        self.trim().await
    }

    /// Keeps the number of alerts that are over within bounds.
    async fn trim(&self) -> Result<()> {
        let listed = self.repository.list::<Alert>(keys::RESOLVED).await?;
        let surplus = if listed.items.len() > RESOLVED_TRIM_AT { listed.items.len() - RESOLVED_RETAINED } else { 0 };
        let oldest = listed.items.iter().take(surplus);
        for batch in oldest.map(|kept| Op::delete(&kept.key)).collect::<Vec<_>>().chunks(tradewind_store::MAX_TXN_OPS) {
            self.repository.commit(batch.iter().cloned().fold(Txn::new(), Txn::then)).await?;
        }
        Ok(())
    }

    async fn write_page(&self) {
        let (page, path) = (self.ledger.page(), self.directory.join(PAGE_FILE));
        let written = tokio::task::spawn_blocking(move || write_private(&path, &page)).await;
        if let Err(error) = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            tracing::warn!(%error, "what was counted cannot be written down");
        }
    }
}

impl Known {
    async fn load(repository: &Repository) -> Result<Self> {
        let regions = repository.list::<Region>(keys::REGIONS).await?.values();
        let revisions = repository.list::<Revision>(keys::REVISIONS).await?.values();
        let firing = repository.list::<Alert>(keys::FIRING).await?.items;
        Ok(Self {
            routes: repository.list::<Route>(keys::ROUTES).await?.values(),
            regions: regions.into_iter().map(|region| (region.name.clone(), region)).collect(),
            revisions: revisions.into_iter().map(|each| ((each.spec.model.clone(), each.number), each)).collect(),
            firing: firing.into_iter().map(|kept| (kept.value.key.clone(), kept)).collect(),
            silences: repository.list::<Silence>(keys::SILENCES).await?.values(),
        })
    }

    fn revision(&self, model: &ModelName, number: RevisionNumber) -> Option<&Revision> {
        self.revisions.get(&(model.clone(), number))
    }

    fn monitors(&self, subject: &Subject) -> Option<Monitors> {
        let revision = self.revision(&subject.model, subject.revision)?;
        Some(revision.spec.monitors_of(&subject.region))
    }

    fn is_silenced(&self, key: &AlertKey, now: Timestamp) -> bool {
        self.silences.iter().any(|silence| silence.covers(key, now))
    }
}

fn event(alert: &Alert, kind: EventKind, now: Timestamp) -> Op {
    let severity = match (kind, alert.severity) {
        (EventKind::AlertResolved, _) => Severity::Info,
        (_, tradewind_core::alert::Severity::Warning) => Severity::Warning,
        (_, tradewind_core::alert::Severity::Critical) => Severity::Error,
    };
    let word = if kind == EventKind::AlertResolved { "is over" } else { "fires" };
    let message = format!("{} {word}: {}", alert.key, alert.detail);
    let record = EventRecord {
        region: alert.key.region.clone(),
        model: alert.key.model.clone(),
        ..events::of(kind, severity, now, message)
    };
    events::record(now, &format!("alert/{}/{kind:?}/{}", alert.id, alert.severity), &record)
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
