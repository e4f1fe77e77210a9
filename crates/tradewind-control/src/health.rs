//! Notices when regions that serve users become unhealthy or healthy, and when their users move, and says so once, as
//! events. It decides nothing: gateways route by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tradewind_core::{
    ModelName, RegionName, Timestamp,
    event::{EventKind, EventRecord, Severity},
    region::Region,
    route::Route,
};
use tradewind_store::{Compare, MAX_TXN_OPS, Txn};

use crate::{
    changes::Changes,
    events,
    hub::{Hub, Seen},
    keys,
    repository::{Repository, Result},
    view::sight::{Regions, Sight, Verdict},
};

/// How often it looks. Silence makes no noise, and a change that is over sooner than this is not worth an event.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct HealthWatcher {
    repository: Repository,
    hub: Arc<Hub>,
    routes: Vec<Route>,
    regions: Regions,
    known: Known,
    /// Gateways whose start was announced.
    announced: BTreeSet<String>,
}

impl HealthWatcher {
    pub(crate) fn new(repository: Repository, hub: Arc<Hub>) -> Self {
        let (routes, regions) = (Vec::new(), Regions::new());
        Self { repository, hub, routes, regions, known: Known::default(), announced: BTreeSet::new() }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let prefixes = [keys::ROUTES, keys::REGIONS].map(str::to_owned);
        let mut changes = Changes::of(self.repository.store(), prefixes);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut stale = true;
        loop {
            if let Err(error) = self.look(&mut stale).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "what happens cannot be recorded for now");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                open = changes.wait() => {
                    if !open {
                        return;
                    }
                    stale = true;
                }
                _ = look.tick() => {}
            }
        }
    }

    async fn look(&mut self, stale: &mut bool) -> Result<()> {
        if *stale {
            self.routes = self.repository.list::<Route>(keys::ROUTES).await?.values();
            let regions = self.repository.list::<Region>(keys::REGIONS).await?.values();
            self.regions = regions.into_iter().map(|region| (region.name.clone(), region)).collect();
            *stale = false;
        }
        let now = Timestamp::now();
        let (starts, findings) = {
            let seen = self.hub.seen();
            (starts(&seen), findings(&self.routes, &Sight::new(&self.regions, &seen, now)))
        };
        let unique: BTreeSet<&String> = starts.iter().map(|start| &start.unique).collect();
        self.announced.retain(|announced| unique.contains(announced));
        for start in starts {
            if !self.announced.contains(&start.unique) {
                self.announce(start, now).await?;
            }
        }
        let (known, news) = self.known.clone().take(findings, now);
        for batch in news.chunks(MAX_TXN_OPS) {
            let puts = batch.iter().map(|news| events::record(now, &news.unique, &news.record));
            self.repository.commit(puts.fold(Txn::new(), Txn::then)).await?;
        }
        // Only now, so that what could not be written is found again.
        self.known = known;
        Ok(())
    }

    /// Once for each process, also when this control plane is a new one.
    async fn announce(&mut self, start: Start, now: Timestamp) -> Result<()> {
        let record = EventRecord {
            region: Some(start.region),
            ..events::of(EventKind::GatewayStarted, Severity::Info, start.at.min(now), start.message)
        };
        let key = keys::event(record.at, &start.unique);
        let op = events::record(record.at, &start.unique, &record);
        self.repository.commit(Txn::new().when(Compare::absent(key)).then(op)).await?;
        self.announced.insert(start.unique);
        Ok(())
    }
}

/// A gateway that reports. Agents tell of their starts themselves.
struct Start {
    unique: String,
    region: RegionName,
    at: Timestamp,
    message: String,
}

fn starts(seen: &Seen) -> Vec<Start> {
    let reports = seen.gateways.values().filter_map(|gateway| gateway.report.as_ref());
    reports
        .map(|report| Start {
            unique: format!("gateway/{}/{}/started", report.address, report.started_at.as_millisecond()),
            region: report.region.clone(),
            at: report.started_at,
            message: format!("a gateway of {} started with pid {}", report.region, report.pid),
        })
        .collect()
}

/// What is the case now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    region: RegionName,
    subject: Subject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// The region's agent and gateways.
    Members(Verdict),
    /// A model's live slot in a region.
    Model(ModelName, Verdict),
    /// Where a model's users in a region go.
    Users(ModelName, Option<RegionName>),
}

fn findings(routes: &[Route], sight: &Sight<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut judged = BTreeSet::new();
    for route in routes {
        let Some(live) = &route.committed else { continue };
        for region in &live.regions {
            let members = sight.members_verdict(region);
            let is_known = members != Verdict::Unknown;
            let mut find = |subject| findings.push(Finding { region: region.clone(), subject });
            // Where the agent is gone, nothing is known of replicas.
            if members == Verdict::Healthy {
                let serving = sight.serving(region, &route.model, live);
                find(Subject::Model(route.model.clone(), serving.verdict));
            }
            if judged.insert(region) {
                find(Subject::Members(members));
            }
            if is_known {
                find(Subject::Users(route.model.clone(), sight.users_go_to(region, &route.model, live)));
            }
        }
    }
    findings
}

/// What was found before. What is not here is well, and its users are at home.
#[derive(Debug, Clone, Default)]
struct Known {
    unhealthy: BTreeSet<(RegionName, Option<ModelName>)>,
    /// Regions whose users are elsewhere, or nowhere.
    away: BTreeMap<(RegionName, ModelName), Option<RegionName>>,
}

struct News {
    unique: String,
    record: EventRecord,
}

impl Known {
    /// Only what changed is news. What is not found any more, such as a region that is not routed, is forgotten.
    fn take(self, findings: Vec<Finding>, now: Timestamp) -> (Self, Vec<News>) {
        let (mut next, mut news) = (Self::default(), Vec::new());
        for Finding { region, subject } in findings {
            let fresh = match subject {
                Subject::Members(verdict) => self.verdict(&mut next, &region, None, &verdict),
                Subject::Model(model, verdict) => self.verdict(&mut next, &region, Some(model), &verdict),
                Subject::Users(model, goes_to) => self.users(&mut next, &region, model, goes_to),
            };
            if let Some((kind, severity, model, message)) = fresh {
                let about = model.as_ref().map_or("region", ModelName::as_str);
                let unique = format!("health/{region}/{about}/{kind:?}");
                let record = EventRecord { region: Some(region), model, ..events::of(kind, severity, now, message) };
                news.push(News { unique, record });
            }
        }
        (next, news)
    }

    fn verdict(
        &self,
        next: &mut Self,
        region: &RegionName,
        model: Option<ModelName>,
        verdict: &Verdict,
    ) -> Option<(EventKind, Severity, Option<ModelName>, String)> {
        let key = (region.clone(), model.clone());
        let was_unhealthy = self.unhealthy.contains(&key);
        let name = model.as_ref().map(|model| format!("{model} in {region}")).unwrap_or_else(|| region.to_string());
        match verdict {
            Verdict::Unhealthy(reason) => {
                next.unhealthy.insert(key);
                let message = format!("{name} is unhealthy: {reason}");
                (!was_unhealthy).then_some((EventKind::RegionUnhealthy, Severity::Warning, model, message))
            }
            Verdict::Healthy => was_unhealthy
                .then(|| (EventKind::RegionHealthy, Severity::Info, model, format!("{name} is healthy again"))),
            Verdict::Unknown => {
                next.unhealthy.extend(was_unhealthy.then_some(key));
                None
            }
        }
    }

    fn users(
        &self,
        next: &mut Self,
        region: &RegionName,
        model: ModelName,
        goes_to: Option<RegionName>,
    ) -> Option<(EventKind, Severity, Option<ModelName>, String)> {
        let key = (region.clone(), model.clone());
        let before = self.away.get(&key);
        if goes_to.as_ref() == Some(region) {
            let message = format!("users of {region} are back in {region}");
            return before.map(|_| (EventKind::TrafficReturned, Severity::Info, Some(model), message));
        }
        next.away.insert(key, goes_to.clone());
        if before == Some(&goes_to) {
            return None;
        }
        let (severity, message) = match goes_to {
            Some(there) => (Severity::Warning, format!("users of {region} go to {there}")),
            None => (Severity::Error, format!("users of {region} get no answer: no region can serve them")),
        };
        Some((EventKind::TrafficMoved, severity, Some(model), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: Subject) -> Finding {
        Finding { region: "us-east1".parse().unwrap(), subject }
    }

    fn members(verdict: Verdict) -> Vec<Finding> {
        vec![finding(Subject::Members(verdict))]
    }

    fn users(region: Option<&str>) -> Vec<Finding> {
        let region = region.map(|region| region.parse().unwrap());
        vec![finding(Subject::Users("digits".parse().unwrap(), region))]
    }

    /// What is told at each step.
    fn check(steps: Vec<Vec<Finding>>, expected: &[&[&str]]) {
        let mut known = Known::default();
        for (step, expected) in steps.into_iter().zip(expected) {
            let (next, news) = known.take(step, Timestamp::UNIX_EPOCH);
            known = next;
            let told: Vec<String> = news.iter().map(|news| news.record.message.clone()).collect();
            assert_eq!(told, *expected);
        }
    }

    #[test]
    fn a_change_is_told_once_and_health_at_the_start_is_not() {
        let gone = |secs| members(Verdict::Unhealthy(format!("no agent for {secs} s")));
        let told: &[&str] = &["us-east1 is unhealthy: no agent for 3 s"];
        check(
            vec![
                members(Verdict::Unknown),
                members(Verdict::Healthy),
                gone(3),
                gone(4),
                members(Verdict::Unknown),
                gone(5),
                members(Verdict::Healthy),
                members(Verdict::Healthy),
            ],
            &[&[], &[], told, &[], &[], &[], &["us-east1 is healthy again"], &[]],
        );
    }

    #[test]
    fn users_are_followed_wherever_they_go() {
        check(
            vec![
                users(Some("us-east1")),
                users(Some("europe-west1")),
                users(Some("europe-west1")),
                users(None),
                users(Some("us-east1")),
            ],
            &[
                &[],
                &["users of us-east1 go to europe-west1"],
                &[],
                &["users of us-east1 get no answer: no region can serve them"],
                &["users of us-east1 are back in us-east1"],
            ],
        );
    }

    #[test]
    fn a_region_that_is_not_routed_any_more_is_forgotten() {
        let gone = || members(Verdict::Unhealthy("drained".to_owned()));
        let told: &[&str] = &["us-east1 is unhealthy: drained"];
        check(vec![gone(), Vec::new(), gone()], &[told, &[], told]);
    }
}
