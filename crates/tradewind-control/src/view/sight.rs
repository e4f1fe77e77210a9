//! The world as this control plane sees it at one moment: who is there, what is ready, and where users go.

use std::{collections::BTreeMap, time::Duration};

use tradewind_api::{agent::SILENCE_LIMIT, gateway::GatewayReport};
use tradewind_core::{
    ModelName, RegionName, RevisionNumber, Slot, Timestamp,
    assignment::{ReplicaCount, ReplicaStatus, SlotStatus},
    locality::{self, Condition, RegionView},
    region::Region,
    rollout::plan::Reach,
    route::RouteState,
};

use crate::hub::{GatewaySeen, Seen, elapsed};

pub(crate) type Regions = BTreeMap<RegionName, Region>;

/// Regions, reports, and the time at which they are looked at.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    pub regions: &'a Regions,
    pub seen: &'a Seen,
    pub now: Timestamp,
    gateways: BTreeMap<&'a RegionName, Vec<&'a GatewaySeen>>,
}

/// How one region serves its users with one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    pub verdict: Verdict,
    /// Where the region's users go; `None` when no region can serve them.
    pub users_go_to: Option<RegionName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Healthy,
    /// Why, for people: `no agent for 12 s`.
    Unhealthy(String),
    /// This control plane has not listened for long enough to know.
    Unknown,
}

impl<'a> Sight<'a> {
    pub(crate) fn new(regions: &'a Regions, seen: &'a Seen, now: Timestamp) -> Self {
        let mut gateways: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for gateway in seen.gateways.values() {
            gateways.entry(&gateway.region).or_default().push(gateway);
        }
        Self { regions, seen, now, gateways }
    }

    /// The gateways of a region that have reported or that the store knows.
    pub(crate) fn gateways(&self, region: &RegionName) -> &[&'a GatewaySeen] {
        self.gateways.get(region).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn alive(&self, gateway: &GatewaySeen) -> bool {
        gateway.at.is_some_and(|at| elapsed(at, self.now) <= SILENCE_LIMIT)
    }

    /// The reports of the region's gateways that are alive.
    pub(crate) fn live_reports(&self, region: &RegionName) -> impl Iterator<Item = &'a GatewayReport> {
        let alive = self.gateways(region).iter().filter(|gateway| self.alive(gateway));
        alive.filter_map(|gateway| gateway.report.as_ref())
    }

    fn has_gateway(&self, region: &RegionName) -> bool {
        self.gateways(region).iter().any(|gateway| self.alive(gateway))
    }

    pub(crate) fn reach(&self, region: &RegionName) -> Reach {
        self.seen.reach(region, self.now)
    }

    pub(crate) fn is_reachable(&self, region: &RegionName) -> bool {
        self.reach(region) == Reach::Reachable
    }

    /// What the region's agent says of a slot that holds this revision; nothing when the agent is gone.
    pub(crate) fn slot(
        &self,
        region: &RegionName,
        model: &ModelName,
        slot: Slot,
        revision: RevisionNumber,
    ) -> Option<&'a SlotStatus> {
        if !self.is_reachable(region) {
            return None;
        }
        self.seen.agents.get(region)?.slot(model, slot).filter(|status| status.revision == revision)
    }

    /// The replicas of a slot that are of this revision, as the region's agent says; none when the agent is gone.
    pub(crate) fn replicas(
        &self,
        region: &RegionName,
        model: &ModelName,
        slot: Slot,
        revision: RevisionNumber,
    ) -> impl Iterator<Item = &'a ReplicaStatus> {
        let agent = self.seen.agents.get(region).filter(|_| self.is_reachable(region));
        let all = agent.into_iter().flat_map(|agent| &agent.report.replicas);
        all.filter(move |replica| replica.model == *model && replica.slot == slot && replica.revision == revision)
    }

    fn live_slot(&self, region: &RegionName, model: &ModelName, live: &RouteState) -> Option<&'a SlotStatus> {
        self.slot(region, model, live.live, live.revision)
    }

    /// Whether region `from` can send its users on to `to`: as its own gateways see it, or else as control does.
    fn reachable(&self, from: &RegionName, to: &RegionName) -> bool {
        if from == to {
            return true;
        }
        let peers = self.live_reports(from).flat_map(|report| &report.peers).filter(|peer| peer.region == *to);
        match peers.map(|peer| peer.healthy).reduce(|one, other| one || other) {
            Some(healthy) => healthy,
            None => self.has_gateway(to),
        }
    }

    /// Where the region's gateways send its users now, by their own word: the first that knows of a region.
    /// `None` when none of them says anything of this model.
    pub(crate) fn told_by_gateways(&self, region: &RegionName, model: &ModelName) -> Option<Option<&'a RegionName>> {
        let told = self.live_reports(region).filter_map(|report| report.users_go_to.get(model));
        told.map(Option::as_ref).reduce(Option::or)
    }

    /// An agent that is gone says nothing of its replicas, which live on without it; the region's gateways do.
    fn serves_itself(&self, region: &RegionName, model: &ModelName) -> bool {
        self.told_by_gateways(region, model) == Some(Some(region))
    }

    pub(crate) fn condition(
        &self,
        from: &RegionName,
        region: &RegionName,
        model: &ModelName,
        live: &RouteState,
    ) -> Condition {
        let ready = match self.reach(region) {
            // What rests serves whoever asks.
            Reach::Reachable => {
                self.live_slot(region, model, live).map_or(0, |slot| slot.replicas.ready.max(u32::from(slot.resting)))
            }
            Reach::Unknown => 1,
            Reach::Unreachable { .. } => u32::from(self.serves_itself(region, model)),
        };
        Condition {
            routed: live.regions.contains(region),
            drained: self.regions.get(region).is_some_and(|region| region.drained),
            reachable: self.reachable(from, region),
            ready,
        }
    }

    /// Where users of `from` go with a model: as its gateways say, or else by the rule that gateways route by.
    pub(crate) fn users_go_to(&self, from: &RegionName, model: &ModelName, live: &RouteState) -> Option<RegionName> {
        if let Some(told) = self.told_by_gateways(from, model) {
            return told.cloned();
        }
        if self.condition(from, from, model, live).eligible() {
            return Some(from.clone());
        }
        let nearest_first = self.nearest_first(from, &live.regions);
        locality::users_go_to(&nearest_first, |region| self.condition(from, region, model, live)).cloned()
    }

    /// Regions as users of `from` see them.
    pub(crate) fn nearest_first<'r>(
        &self,
        from: &RegionName,
        regions: impl IntoIterator<Item = &'r RegionName>,
    ) -> Vec<RegionName> {
        let measured = self.round_trips(from);
        let view = |name: &'r RegionName| RegionView {
            name,
            location: self.regions.get(name).and_then(|region| region.location),
            measured_round_trip: measured.get(name).copied(),
        };
        let views: Vec<RegionView<'_>> = regions.into_iter().map(view).collect();
        locality::order(from, &views)
    }

    /// The smallest round trips that the region's gateways have measured lately.
    pub(crate) fn round_trips(&self, region: &RegionName) -> BTreeMap<RegionName, Duration> {
        let mut smallest = BTreeMap::new();
        for peer in self.live_reports(region).flat_map(|report| &report.peers) {
            let Some(micros) = peer.round_trip_us else { continue };
            let measured = Duration::from_micros(micros);
            smallest
                .entry(peer.region.clone())
                .and_modify(|known: &mut Duration| *known = measured.min(*known))
                .or_insert(measured);
        }
        smallest
    }

    /// How a region that is routed serves its users.
    pub(crate) fn serving(&self, region: &RegionName, model: &ModelName, live: &RouteState) -> Serving {
        let slot = self.live_slot(region, model, live);
        let verdict = match self.members_verdict(region) {
            Verdict::Healthy if !slot.is_some_and(SlotStatus::can_serve) => {
                let replicas: ReplicaCount = slot.map(|slot| slot.replicas).unwrap_or_default();
                Verdict::Unhealthy(format!("{} of {} replicas ready", replicas.ready, replicas.desired.max(1)))
            }
            verdict => verdict,
        };
        Serving { verdict, users_go_to: self.users_go_to(region, model, live) }
    }

    /// Whether a region's agent and one of its gateways report.
    pub(crate) fn members_verdict(&self, region: &RegionName) -> Verdict {
        if self.regions.get(region).is_some_and(|region| region.drained) {
            return Verdict::Unhealthy("drained".to_owned());
        }
        match self.reach(region) {
            Reach::Unknown => return Verdict::Unknown,
            Reach::Unreachable { silent_secs: Some(secs) } => {
                return Verdict::Unhealthy(format!("no agent for {secs} s"));
            }
            Reach::Unreachable { silent_secs: None } => return Verdict::Unhealthy("no agent".to_owned()),
            Reach::Reachable => {}
        }
        if self.has_gateway(region) {
            return Verdict::Healthy;
        }
        match self.gateways(region).iter().filter_map(|gateway| gateway.at).max() {
            Some(at) => Verdict::Unhealthy(format!("no gateway for {} s", elapsed(at, self.now).as_secs())),
            None if elapsed(self.seen.since, self.now) <= SILENCE_LIMIT => Verdict::Unknown,
            None => Verdict::Unhealthy("no gateway".to_owned()),
        }
    }
}

impl Verdict {
    /// Why it is not healthy, for people.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Healthy => None,
            Self::Unhealthy(reason) => Some(reason.clone()),
            Self::Unknown => Some("not heard from since the control plane started".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tradewind_api::gateway::Traffic;
    use tradewind_core::{Epoch, VersionNumber, catalogue, deployment::HealthPolicy, histogram::Histogram};

    use super::*;
    use crate::{hub::Hub, view::fixtures};

    const US: &str = "us-east1";
    const EU: &str = "europe-west1";
    /// Serves nothing itself; us-east1 is near.
    const WEST: &str = "us-west1";

    fn name(text: &str) -> RegionName {
        text.parse().unwrap()
    }

    fn digits() -> ModelName {
        "digits".parse().unwrap()
    }

    fn live() -> RouteState {
        RouteState {
            epoch: Epoch(1),
            live: Slot::Blue,
            revision: RevisionNumber(1),
            version: VersionNumber(1),
            regions: [US, EU].map(name).into(),
            health: HealthPolicy::default(),
            region_health: BTreeMap::new(),
            stay_in: Default::default(),
            candidate: None,
        }
    }

    /// A gateway through which requests flowed within the window of its rates, all answered by its own region.
    fn gateway(region: &str, users_go_to: Option<Option<&str>>) -> GatewayReport {
        let traffic = Traffic {
            model: digits(),
            revision: RevisionNumber(1),
            region: name(region),
            requests: 100,
            errors: 0,
            durations: Histogram::default(),
            duration_us: 0,
            p50_us: 1,
            p99_us: 1,
            per_second: 20.0,
            errors_per_second: 0.0,
        };
        GatewayReport {
            traffic: vec![traffic],
            users_go_to: users_go_to.map(|region| (digits(), region.map(name))).into_iter().collect(),
            ..fixtures::gateway(region)
        }
    }

    /// Only the agent of europe-west1 is there; where users of each region go then.
    fn check(us: Option<Option<&str>>, expected: [Option<&str>; 3]) {
        let (hub, now) = (Hub::new(Timestamp::UNIX_EPOCH), Timestamp::now());
        hub.report_agent(fixtures::agent(EU, &digits()), now);
        for report in [gateway(US, us), gateway(EU, Some(Some(EU))), gateway(WEST, None)] {
            hub.report_gateway(report, now);
        }
        let region = |region| {
            (name(region), Region { name: name(region), location: catalogue::location(region), drained: false })
        };
        let regions = Regions::from([US, EU, WEST].map(region));
        let seen = hub.seen();
        let sight = Sight::new(&regions, &seen, now);
        let places = [US, EU, WEST].map(|from| sight.users_go_to(&name(from), &digits(), &live()));
        assert_eq!(places.each_ref().map(|place| place.as_ref().map(RegionName::as_str)), expected, "{us:?}");
    }

    #[test]
    fn a_region_without_an_agent_serves_as_long_as_its_gateway_says_so() {
        check(Some(Some(US)), [Some(US), Some(EU), Some(US)]);
        check(Some(Some(EU)), [Some(EU), Some(EU), Some(EU)]);
        check(Some(None), [None, Some(EU), Some(EU)]);
        check(None, [Some(EU), Some(EU), Some(EU)]);
    }
}
