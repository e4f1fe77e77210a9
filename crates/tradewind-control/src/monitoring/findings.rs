//! What is found wrong now, by what members report and what the ledger has counted. Each look finds everything anew.

use std::{collections::BTreeMap, time::Duration};

use tradewind_api::agent::CaseCounts;
use tradewind_core::{
    ModelName, RegionName,
    alert::{AlertKey, AlertKind, Finding, Severity},
    assignment::SlotStatus,
    capacity::{Failover, Fit},
    deployment::DeploymentSpec,
    monitor::{Monitors, burn, disk::DiskRoom, evidence::ObjectiveKind},
    route::{Route, RouteState},
};

use super::ledger::Ledger;
use crate::view::{
    capacity, regions,
    sight::{Sight, Verdict},
};

/// Wrong answers are found for so long after they were given: the replica that gave them may be gone at once.
const WRONG_WINDOW: Duration = Duration::from_secs(60);

/// What is looked at.
pub(super) struct Look<'a> {
    pub(super) sight: &'a Sight<'a>,
    pub(super) routes: &'a [Route],
    pub(super) ledger: &'a Ledger,
    /// What the live revision of a model asks for.
    pub(super) spec: &'a dyn Fn(&ModelName, &RouteState) -> Option<&'a DeploymentSpec>,
    /// Where control keeps its own data.
    pub(super) disk: Option<DiskRoom>,
}

pub(super) type Findings = BTreeMap<AlertKey, Finding>;

fn bad(severity: Severity, detail: impl Into<String>) -> Finding {
    Finding::Bad { severity, detail: detail.into() }
}

fn bad_if(is_bad: bool, severity: Severity, detail: impl FnOnce() -> String) -> Finding {
    if is_bad { bad(severity, detail()) } else { Finding::Well }
}

impl Look<'_> {
    pub(super) fn findings(&self) -> Findings {
        let mut findings = Findings::new();
        let committed = self.routes.iter().filter_map(|route| Some((&route.model, route.committed.as_ref()?)));
        for (model, live) in committed {
            let spec = (self.spec)(model, live);
            let behind = spec.iter().flat_map(|spec| &spec.regions).filter(|region| !live.regions.contains(region));
            for region in behind {
                let key = AlertKey {
                    kind: AlertKind::VersionDrift,
                    model: Some(model.clone()),
                    region: Some(region.clone()),
                };
                let detail = format!("it has not caught up with revision {} and serves nobody", live.revision);
                findings.insert(key, bad(Severity::Warning, detail));
            }
            for region in &live.regions {
                let key = |kind| AlertKey { kind, model: Some(model.clone()), region: Some(region.clone()) };
                let mut find = |kind, finding| drop(findings.insert(key(kind), finding));
                self.find_replicas(model, live, region, &mut find);
                self.find_cases(model, live, region, &mut find);
                if let Some(monitors) = spec.map(|spec| spec.monitors_of(region)) {
                    self.find_burns(model, region, &monitors, &mut find);
                    find(AlertKind::Saturation, self.saturation(model, live, region, &monitors));
                }
                findings.entry(of_region(AlertKind::RegionDown, region)).or_insert_with(|| self.region_down(region));
            }
        }
        for region in self.sight.regions.keys() {
            findings.insert(of_region(AlertKind::DiskRoom, region), self.disk_room(region));
            findings.insert(of_region(AlertKind::GatewayStale, region), self.gateway_stale(region));
        }
        if let Some(room) = self.disk {
            let key = AlertKey { kind: AlertKind::DiskRoom, model: None, region: None };
            findings.insert(key, disk_finding(room, "the control plane's disk"));
        }
        findings
    }

    /// Where the deployment declares no concurrency nobody knows how much replicas can have in flight.
    fn saturation(&self, model: &ModelName, live: &RouteState, region: &RegionName, monitors: &Monitors) -> Finding {
        let capacity = capacity::capacity(self.sight, region, model, live);
        let used = capacity.and_then(|capacity| Some((capacity.utilisation()?, capacity)));
        let Some((used, capacity)) = used.filter(|(used, _)| *used >= monitors.saturation) else {
            return Finding::Well;
        };
        let (in_flight, limit) = (capacity.in_flight, capacity.limit.unwrap_or_default());
        bad(Severity::Warning, format!("{in_flight:.0} of {limit} requests in flight, {:.0} %", used * 100.0))
    }

    /// Regions whose users would not find room elsewhere. What is served in one region alone is meant to be lost with it.
    pub(super) fn unfit(&self) -> Findings {
        let failovers = capacity::Failovers::new(self.routes, self.sight);
        let shared: Vec<&Route> = self.routes.iter().filter(|route| serves_in_several(route)).collect();
        let find = |region: &RegionName| {
            let models = shared.iter().filter_map(|route| failovers.of_model(region, route));
            let failover = Failover::of(models.collect());
            let unfit = failover.worst().filter(|model| model.fit == Fit::DoesNotFit).map(|model| {
                let share = model.share.unwrap_or_default() * 100.0;
                bad(Severity::Warning, format!("room for {share:.0} % of its users of {}", model.model))
            });
            (of_region(AlertKind::FailoverUnfit, region), unfit.unwrap_or(Finding::Well))
        };
        self.sight.regions.keys().map(find).collect()
    }

    fn region_down(&self, region: &RegionName) -> Finding {
        if self.is_drained(region) {
            return Finding::Well;
        }
        match self.sight.members_verdict(region) {
            Verdict::Healthy => Finding::Well,
            Verdict::Unhealthy(reason) => bad(Severity::Critical, reason),
            Verdict::Unknown => Finding::Unknown,
        }
    }

    /// A drained region is meant not to serve.
    fn is_drained(&self, region: &RegionName) -> bool {
        self.sight.regions.get(region).is_some_and(|region| region.drained)
    }

    fn find_replicas(
        &self,
        model: &ModelName,
        live: &RouteState,
        region: &RegionName,
        find: &mut impl FnMut(AlertKind, Finding),
    ) {
        let kinds = [AlertKind::ModelUnavailable, AlertKind::ReplicasMissing, AlertKind::VersionDrift];
        if !self.sight.is_reachable(region) {
            // Nobody says what runs there; that the region is down is another alert.
            return kinds.into_iter().for_each(|kind| find(kind, Finding::Unknown));
        }
        let agent = self.sight.seen.agents.get(region);
        let held = agent.and_then(|agent| agent.slot(model, live.live));
        let current = held.filter(|slot| slot.revision == live.revision);
        let replicas = current.map(|slot| slot.replicas).unwrap_or_default();
        let can_serve = current.is_some_and(SlotStatus::can_serve);
        let (ready, desired) = (replicas.ready, replicas.desired.max(1));
        let count = || format!("{ready} of {desired} replicas ready");
        find(AlertKind::ModelUnavailable, bad_if(!can_serve, Severity::Critical, count));
        find(AlertKind::ReplicasMissing, bad_if(ready > 0 && ready < desired, Severity::Warning, count));
        let drift = held.map(|slot| slot.revision).filter(|revision| *revision != live.revision);
        let drift =
            drift.map(|revision| format!("it runs revision {revision}, users should get revision {}", live.revision));
        find(AlertKind::VersionDrift, drift.map_or(Finding::Well, |detail| bad(Severity::Warning, detail)));
    }

    fn find_cases(
        &self,
        model: &ModelName,
        live: &RouteState,
        region: &RegionName,
        find: &mut impl FnMut(AlertKind, Finding),
    ) {
        let told = self.cases(model, live, region);
        let counted = self.ledger.over(model, region, WRONG_WINDOW, self.sight.now);
        let is_wrong = counted.wrong > 0 || told.is_some_and(|cases| cases.suspects > 0);
        let detail = || {
            let last = told.and_then(|cases| cases.last_wrong.clone());
            last.unwrap_or_else(|| format!("{} of {} golden cases", counted.wrong, counted.cases))
        };
        find(AlertKind::WrongAnswers, bad_if(is_wrong, Severity::Critical, detail));
    }

    /// What the region's agent says of golden cases of the live revision.
    fn cases(&self, model: &ModelName, live: &RouteState, region: &RegionName) -> Option<&CaseCounts> {
        let agent = self.sight.seen.agents.get(region).filter(|_| self.sight.is_reachable(region))?;
        agent.report.cases.iter().find(|cases| cases.model == *model && cases.revision == live.revision)
    }

    fn find_burns(
        &self,
        model: &ModelName,
        region: &RegionName,
        monitors: &Monitors,
        find: &mut impl FnMut(AlertKind, Finding),
    ) {
        for objective in monitors.objectives() {
            let (kind, what) = match objective.kind {
                ObjectiveKind::Availability => (AlertKind::ErrorBudgetBurn, "failed"),
                ObjectiveKind::Latency => (AlertKind::LatencyBudgetBurn, "were too slow"),
            };
            let over = |window| self.ledger.over(model, region, window, self.sight.now);
            let history = self.ledger.history(model, region, self.sight.now);
            let finding = burn::burning(&objective, history, over).map(|rule| {
                let (missed, requests) = objective.counts(&over(rule.short));
                let minutes = rule.short.as_secs() / 60;
                let detail = format!(
                    "{missed} of {requests} requests {what} in {minutes} min; the budget is spent more than {} times too fast",
                    rule.factor
                );
                bad(rule.severity, detail)
            });
            find(kind, finding.unwrap_or(Finding::Well));
        }
    }

    fn disk_room(&self, region: &RegionName) -> Finding {
        let agent = self.sight.seen.agents.get(region).filter(|_| self.sight.is_reachable(region));
        match agent.and_then(|agent| agent.report.disk) {
            Some(room) => disk_finding(room, "the agent's disk"),
            None => Finding::Unknown,
        }
    }

    fn gateway_stale(&self, region: &RegionName) -> Finding {
        let alive = self.sight.gateways(region).iter().filter(|gateway| self.sight.alive(gateway));
        let stale = alive.filter_map(|gateway| {
            let report = gateway.report.as_ref()?;
            let refused = report.refused.as_ref().map(|why| format!("{}: {why}", report.address));
            refused.or_else(|| {
                regions::is_stale(gateway, self.routes)
                    .then(|| format!("{} has not taken up the newest route", report.address))
            })
        });
        stale.into_iter().next().map_or(Finding::Well, |detail| bad(Severity::Warning, detail))
    }
}

fn serves_in_several(route: &Route) -> bool {
    route.committed.as_ref().is_some_and(|live| live.regions.len() > 1)
}

fn of_region(kind: AlertKind, region: &RegionName) -> AlertKey {
    AlertKey { kind, model: None, region: Some(region.clone()) }
}

fn disk_finding(room: DiskRoom, whose: &str) -> Finding {
    room.severity().map_or(Finding::Well, |severity| bad(severity, format!("{whose}: {}", room.summary())))
}

#[cfg(test)]
mod tests;
