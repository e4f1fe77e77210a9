//! What was counted of every revision in every region, over days: the evidence that verdicts and alerts rest on.
//!
//! Gateways and agents report counts since their start. The ledger keeps the last counts of each, so that it can add what
//! came since, and is written to disk now and then, so that a restart of control forgets next to nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tradewind_api::{agent::CaseCounts, gateway::Traffic};
use tradewind_core::{
    ModelName, RegionName, RevisionNumber, Timestamp,
    histogram::Histogram,
    monitor::{
        Monitors,
        evidence::{Evidence, Tally},
        window::Windows,
    },
};

use crate::hub::{Seen, elapsed};

/// The most revisions in regions that are watched; what is beyond is not counted.
const SUBJECTS_LIMIT: usize = 20_000;
/// How many minutes of latencies are kept.
const LATENCY_MINUTES: i64 = 30;
/// A process that has started so short a time ago, and was never heard of, is counted from its start.
const FRESH: Duration = Duration::from_secs(30);

/// A revision in a region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub model: ModelName,
    pub region: RegionName,
    pub revision: RevisionNumber,
}

/// What was counted of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    windows: Windows,
    /// By minute of the epoch, oldest first.
    latencies: VecDeque<(i64, Histogram)>,
}

/// A process that reports, or rather one start of it, and what it reports of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Source {
    /// The address of a gateway, the instance of an agent.
    process: String,
    started_at: Timestamp,
    subject: Subject,
}

/// The last that a source told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Told {
    tally: Tally,
    durations: Histogram,
}

/// How a region is watched with a revision; nothing for one that does not exist any more.
pub(crate) type Specs<'a> = &'a dyn Fn(&Subject) -> Option<Monitors>;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Page", into = "Page")]
struct Accounts {
    accounts: BTreeMap<Subject, Account>,
    sources: BTreeMap<Source, Told>,
}

/// As it is written down: JSON has no keys but strings.
#[derive(Serialize, Deserialize)]
struct Page {
    accounts: Vec<(Subject, Account)>,
    sources: Vec<(Source, Told)>,
}

impl From<Page> for Accounts {
    fn from(page: Page) -> Self {
        Self { accounts: page.accounts.into_iter().collect(), sources: page.sources.into_iter().collect() }
    }
}

impl From<Accounts> for Page {
    fn from(accounts: Accounts) -> Self {
        Self { accounts: accounts.accounts.into_iter().collect(), sources: accounts.sources.into_iter().collect() }
    }
}

impl Ledger {
    /// Takes in everything that was reported last. What a source told before counts no more than once.
    pub(crate) fn take(&self, seen: &Seen, specs: Specs<'_>, now: Timestamp) {
        let mut accounts = self.lock();
        for gateway in seen.gateways.values().filter_map(|gateway| gateway.report.as_ref()) {
            for traffic in &gateway.traffic {
                accounts.take(&gateway.address, gateway.started_at, of_traffic(traffic), specs, now);
            }
        }
        for agent in seen.agents.values().map(|agent| &agent.report) {
            for cases in &agent.cases {
                accounts.take(&agent.instance, agent.started_at, of_cases(cases, &agent.region), specs, now);
            }
        }
        accounts.forget(seen, now);
    }

    /// What was counted in the window that ends now, of all revisions of a model in a region.
    pub(crate) fn over(&self, model: &ModelName, region: &RegionName, window: Duration, now: Timestamp) -> Tally {
        let accounts = self.lock();
        let mut sum = Tally::default();
        for (_, account) in accounts.of(model, region) {
            sum += account.windows.over(now.as_second(), window);
        }
        sum
    }

    /// For how long a model has been counted in a region.
    pub(crate) fn history(&self, model: &ModelName, region: &RegionName, now: Timestamp) -> Duration {
        let accounts = self.lock();
        accounts
            .of(model, region)
            .map(|(_, account)| account.windows.history(now.as_second()))
            .max()
            .unwrap_or_default()
    }

    pub(crate) fn over_revision(&self, subject: &Subject, window: Duration, now: Timestamp) -> Tally {
        let accounts = self.lock();
        accounts.accounts.get(subject).map(|account| account.windows.over(now.as_second(), window)).unwrap_or_default()
    }

    /// What was counted of one revision in the window that ends now, with its latencies.
    pub(crate) fn evidence(&self, subject: &Subject, window: Duration, now: Timestamp) -> Evidence {
        let accounts = self.lock();
        let Some(account) = accounts.accounts.get(subject) else { return Evidence::default() };
        let since = now.as_second().saturating_sub(window.as_secs() as i64).div_euclid(60);
        let mut durations = Histogram::default();
        let recent = account.latencies.iter().filter(|(minute, _)| *minute > since);
        recent.for_each(|(_, counted)| durations.add(counted));
        Evidence { tally: account.windows.over(now.as_second(), window), durations }
    }

    /// To be written down.
    pub(crate) fn page(&self) -> Vec<u8> {
        let accounts = self.lock().clone();
        serde_json::to_vec(&accounts).expect("what is kept has no keys but strings, and numbers are finite")
    }

    /// Goes on from what was written down.
    pub(crate) fn read(page: &[u8]) -> serde_json::Result<Self> {
        Ok(Self { accounts: Mutex::new(serde_json::from_slice(page)?) })
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        // Whoever panicked has left the data whole.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_traffic(traffic: &Traffic) -> (Subject, Told) {
    let Traffic { model, revision, region, requests, errors, durations, .. } = traffic;
    let subject = Subject { model: model.clone(), region: region.clone(), revision: *revision };
    let tally = Tally { requests: *requests, failed: *errors, ..Tally::default() };
    (subject, Told { tally, durations: durations.clone() })
}

fn of_cases(cases: &CaseCounts, region: &RegionName) -> (Subject, Told) {
    let CaseCounts { model, revision, asked, wrong, unanswered, .. } = cases;
    let subject = Subject { model: model.clone(), region: region.clone(), revision: *revision };
    let tally = Tally { cases: *asked, wrong: *wrong, unanswered: *unanswered, ..Tally::default() };
    (subject, Told { tally, durations: Histogram::default() })
}

impl Accounts {
    fn of<'a>(
        &'a self,
        model: &'a ModelName,
        region: &'a RegionName,
    ) -> impl Iterator<Item = (&'a Subject, &'a Account)> {
        let of =
            |revision| Subject { model: model.clone(), region: region.clone(), revision: RevisionNumber(revision) };
        self.accounts.range(of(0)..=of(u64::MAX))
    }

    fn take(
        &mut self,
        process: &str,
        started_at: Timestamp,
        (subject, told): (Subject, Told),
        specs: Specs<'_>,
        now: Timestamp,
    ) {
        let Some(monitors) = specs(&subject) else { return };
        if self.accounts.len() >= SUBJECTS_LIMIT && !self.accounts.contains_key(&subject) {
            return;
        }
        let source = Source { process: process.to_owned(), started_at, subject: subject.clone() };
        let before = match self.sources.get(&source) {
            Some(before) => before.clone(),
            None if elapsed(started_at, now) <= FRESH || self.knows(process, started_at) => Told::default(),
            // What was counted before anybody listened may be of any time.
            None => told.clone(),
        };
        self.sources.insert(source, told.clone());
        let durations = told.durations.since(&before.durations);
        let news = Tally { slow: monitors.slow(&durations), ..told.tally.since(&before.tally) };
        self.accounts.entry(subject).or_default().add(news, &durations, now);
    }

    /// Whether this start of a process has reported of anything before.
    fn knows(&self, process: &str, started_at: Timestamp) -> bool {
        self.sources.keys().any(|source| source.process == process && source.started_at == started_at)
    }

    /// Processes that report no more, and revisions of which nothing was counted for days.
    fn forget(&mut self, seen: &Seen, now: Timestamp) {
        let gateways = seen.gateways.values().filter_map(|gateway| gateway.report.as_ref());
        let gateways = gateways.map(|report| (report.address.as_str(), report.started_at));
        let agents = seen.agents.values().map(|agent| (agent.report.instance.as_str(), agent.report.started_at));
        let mut alive: Vec<_> = gateways.chain(agents).collect();
        alive.sort_unstable();
        let is_alive = |source: &Source| alive.binary_search(&(source.process.as_str(), source.started_at)).is_ok();
        // One that was not heard yet since this control plane started may be about to.
        let settled = elapsed(seen.since, now) > FRESH;
        self.sources.retain(|source, _| !settled || is_alive(source));
        self.accounts.retain(|_, account| !account.windows.is_empty(now.as_second()));
    }
}

impl Account {
    fn add(&mut self, tally: Tally, durations: &Histogram, now: Timestamp) {
        self.windows.add(now.as_second(), tally);
        if durations.is_empty() {
            return;
        }
        let minute = now.as_second().div_euclid(60);
        let newest = self.latencies.back().map(|(newest, _)| *newest);
        let minute = newest.map_or(minute, |newest| newest.max(minute));
        if newest == Some(minute) {
            self.latencies.back_mut().into_iter().for_each(|(_, sum)| sum.add(durations));
        } else {
            self.latencies.push_back((minute, durations.clone()));
        }
        while self.latencies.front().is_some_and(|(oldest, _)| *oldest <= minute - LATENCY_MINUTES) {
            self.latencies.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_core::{duration::Span, monitor::LatencyObjective};

    use super::*;
    use crate::{hub::Hub, view::fixtures};

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn subject() -> Subject {
        Subject { model: "digits".parse().unwrap(), region: "us-east1".parse().unwrap(), revision: RevisionNumber(1) }
    }

    fn watched(_: &Subject) -> Option<Monitors> {
        let latency = Some(LatencyObjective { within: Span::from_millis(100), share: 0.99 });
        Some(Monitors { latency, ..Monitors::default() })
    }

    struct Play {
        ledger: Ledger,
        hub: Hub,
    }

    impl Play {
        /// A gateway that started at `started` tells of so many requests, each of them slow, and half of them failed.
        fn report(&self, address: &str, started: i64, requests: u64, now: i64) {
            let mut durations = Histogram::default();
            (0..requests).for_each(|_| durations.record(Duration::from_secs(1)));
            let Subject { model, region, revision } = subject();
            let traffic = Traffic {
                model,
                revision,
                region,
                requests,
                errors: requests / 2,
                durations,
                duration_us: 0,
                p50_us: 0,
                p99_us: 0,
                per_second: 0.0,
                errors_per_second: 0.0,
            };
            let report = tradewind_api::gateway::GatewayReport {
                address: address.to_owned(),
                started_at: at(started),
                traffic: vec![traffic],
                ..fixtures::gateway("us-east1")
            };
            self.hub.report_gateway(report, at(now));
            self.ledger.take(&self.hub.seen(), &watched, at(now));
        }

        fn check(&self, now: i64, requests: u64) {
            let Subject { model, region, .. } = subject();
            let tally = self.ledger.over(&model, &region, HOUR, at(now));
            assert_eq!((tally.requests, tally.slow), (requests, requests), "at {now}");
        }
    }

    fn play() -> Play {
        Play { ledger: Ledger::default(), hub: Hub::new(at(0)) }
    }

    #[test]
    fn each_request_counts_once_whoever_reports_how_often() {
        let play = play();
        play.report("a", 0, 10, 1);
        play.report("a", 0, 10, 2);
        play.report("a", 0, 14, 3);
        play.report("b", 0, 100, 3);
        play.check(3, 114);
        // It was started again, and counts from zero.
        play.report("a", 40, 5, 41);
        play.check(41, 119);
        assert_eq!(play.ledger.evidence(&subject(), HOUR, at(41)).durations.count(), 119);
    }

    #[test]
    fn what_was_counted_before_anybody_listened_is_of_unknown_times() {
        let play = play();
        play.report("a", -5000, 1000, 1);
        play.check(1, 0);
        play.report("a", -5000, 1007, 2);
        play.check(2, 7);
    }

    #[test]
    fn what_was_written_down_goes_on() {
        let play = play();
        play.report("a", 0, 10, 1);
        let read = Ledger::read(&play.ledger.page()).unwrap();
        assert_eq!(*read.lock(), *play.ledger.lock());
        let later = Play { ledger: read, hub: Hub::new(at(500)) };
        later.report("a", 0, 30, 501);
        later.check(501, 30);
    }

    #[test]
    fn what_ended_is_forgotten() {
        let play = play();
        play.report("a", 0, 10, 1);
        play.report("a", 3000, 10, 3001);
        assert_eq!(play.ledger.lock().sources.len(), 1);
        play.ledger.take(&play.hub.seen(), &watched, at(5 * 86_400));
        assert_eq!(play.ledger.lock().accounts.len(), 0);
    }

    #[test]
    fn revisions_that_nobody_knows_are_not_counted() {
        let play = play();
        play.report("a", 0, 10, 1);
        let unknown = Ledger::default();
        unknown.take(&play.hub.seen(), &|_| None, at(1));
        assert!(unknown.lock().accounts.is_empty());
    }
}
