use std::collections::BTreeSet;

use tradewind_api::{
    agent::AgentReport,
    gateway::{Committed, GatewayReport, SlotLoad, Traffic},
};
use tradewind_core::{
    Digest, Epoch, RevisionNumber, Slot, Timestamp, VersionNumber, assignment::ReplicaCount, capacity::Capacity,
    deployment::HealthPolicy, duration::Span, histogram::Histogram, monitor::LatencyObjective, region::Region,
    rollout::strategy::Strategy, scale::Scale,
};

use super::*;
use crate::{
    hub::Hub,
    view::{fixtures, sight::Regions},
};

const US: &str = "us-east1";
const EU: &str = "europe-west1";
const REVISION: RevisionNumber = RevisionNumber(1);

fn name(text: &str) -> RegionName {
    text.parse().unwrap()
}

fn digits() -> ModelName {
    "digits".parse().unwrap()
}

/// Digits in two regions, with 100 requests a second that are answered in 10 ms; each test makes something wrong.
struct Scene {
    agents: Vec<AgentReport>,
    gateways: Vec<GatewayReport>,
    routed: Vec<RegionName>,
    drained: bool,
    disk: DiskRoom,
}

fn agent(region: &str) -> AgentReport {
    let room = DiskRoom { free_bytes: 90 << 30, total_bytes: 100 << 30 };
    AgentReport { disk: Some(room), ..fixtures::agent(region, &digits()) }
}

fn gateway(region: &str) -> GatewayReport {
    let mut durations = Histogram::default();
    (0..1000).for_each(|_| durations.record(Duration::from_millis(10)));
    let traffic = Traffic {
        model: digits(),
        revision: REVISION,
        region: name(region),
        requests: 1000,
        errors: 0,
        durations,
        duration_us: 10_000_000,
        p50_us: 10_000,
        p99_us: 10_000,
        per_second: 100.0,
        errors_per_second: 0.0,
    };
    let capacity = Capacity { in_flight: 1.0, in_flight_now: 1, limit: Some(10), replicas: 1 };
    let load = SlotLoad { model: digits(), slot: Slot::Blue, revision: REVISION, capacity };
    let committed = Committed { epoch: Epoch(1), at: Timestamp::now() };
    GatewayReport {
        traffic: vec![traffic],
        load: vec![load],
        started_at: Timestamp::now(),
        committed: [(digits(), committed)].into(),
        ..fixtures::gateway(region)
    }
}

impl Scene {
    fn well() -> Self {
        Self {
            agents: vec![agent(US), agent(EU)],
            gateways: vec![gateway(US), gateway(EU)],
            routed: vec![name(US), name(EU)],
            drained: false,
            disk: DiskRoom { free_bytes: 90 << 30, total_bytes: 100 << 30 },
        }
    }

    fn traffic(&mut self) -> &mut Traffic {
        &mut self.gateways[1].traffic[0]
    }

    /// What is found wrong, a line each.
    fn found(self) -> Vec<String> {
        let (hub, now) = (Hub::new(Timestamp::UNIX_EPOCH), Timestamp::now());
        for report in self.agents {
            hub.report_agent(report, now);
        }
        for report in self.gateways {
            hub.report_gateway(report, now);
        }
        let live = RouteState {
            epoch: Epoch(1),
            live: Slot::Blue,
            revision: REVISION,
            version: VersionNumber(1),
            regions: self.routed,
            health: HealthPolicy::default(),
            region_health: BTreeMap::new(),
            stay_in: BTreeSet::new(),
            candidate: None,
        };
        let latency = Some(LatencyObjective { within: Span::from_millis(100), share: 0.99 });
        let spec = DeploymentSpec {
            model: digits(),
            version: VersionNumber(1),
            digest: Digest::from_bytes([1; 32]),
            regions: vec![name(US), name(EU)],
            scale: Scale::default(),
            strategy: Strategy::default(),
            health: HealthPolicy::default(),
            region_health: BTreeMap::new(),
            monitors: Monitors { latency, ..Monitors::default() },
            region_monitors: BTreeMap::new(),
            region_scale: BTreeMap::new(),
            stay_in: BTreeSet::new(),
        };
        let region = |region| {
            (name(region), Region { name: name(region), location: None, drained: region == EU && self.drained })
        };
        let (regions, ledger) = (Regions::from([US, EU].map(region)), Ledger::default());
        let seen = hub.seen();
        ledger.take(&seen, &|subject| Some(spec.monitors_of(&subject.region)), now);
        let sight = Sight::new(&regions, &seen, now);
        let routes = [Route { model: digits(), committed: Some(live), prepared: None, pins: Default::default() }];
        let look =
            Look { sight: &sight, routes: &routes, ledger: &ledger, spec: &|_, _| Some(&spec), disk: Some(self.disk) };
        let bad = look.findings().into_iter().chain(look.unfit()).filter_map(|(key, finding)| match finding {
            Finding::Bad { severity, detail } => Some(format!("{severity} {key}: {detail}")),
            Finding::Well | Finding::Unknown => None,
        });
        bad.collect()
    }
}

fn check(spoil: impl FnOnce(&mut Scene), expected: &[&str]) {
    let mut scene = Scene::well();
    spoil(&mut scene);
    assert_eq!(scene.found(), expected);
}

/// Nobody is left who could take its users.
const ALONE: &str = "warning FailoverUnfit in us-east1: room for 0 % of its users of digits";

fn blue(scene: &mut Scene) -> &mut tradewind_core::assignment::SlotStatus {
    scene.agents[1].models[0].slots.get_mut(&Slot::Blue).unwrap()
}

#[test]
fn what_is_well_is_quiet() {
    check(|_| {}, &[]);
}

#[test]
fn who_does_not_report_is_down_unless_that_is_meant() {
    check(|scene| drop(scene.agents.pop()), &["critical RegionDown in europe-west1: no agent", ALONE]);
    check(|scene| drop(scene.gateways.pop()), &["critical RegionDown in europe-west1: no gateway", ALONE]);
    let drained = |scene: &mut Scene| {
        scene.agents.pop();
        scene.drained = true;
    };
    check(drained, &[ALONE]);
}

#[test]
fn replicas_that_are_missing_are_found() {
    let none = |scene: &mut Scene| blue(scene).replicas = ReplicaCount { ready: 0, desired: 2 };
    check(none, &["critical ModelUnavailable of digits in europe-west1: 0 of 2 replicas ready", ALONE]);
    let some = |scene: &mut Scene| blue(scene).replicas = ReplicaCount { ready: 1, desired: 2 };
    check(some, &["warning ReplicasMissing of digits in europe-west1: 1 of 2 replicas ready"]);
    let at_rest = |scene: &mut Scene| {
        (blue(scene).replicas, blue(scene).resting) = (ReplicaCount { ready: 0, desired: 0 }, true);
    };
    check(at_rest, &[]);
}

#[test]
fn regions_behind_the_others_are_found() {
    let old = |scene: &mut Scene| blue(scene).revision = RevisionNumber(7);
    let expected: &[&str] = &[
        "critical ModelUnavailable of digits in europe-west1: 0 of 1 replicas ready",
        "warning VersionDrift of digits in europe-west1: it runs revision 7, users should get revision 1",
        ALONE,
    ];
    check(old, expected);
    let deferred = |scene: &mut Scene| drop(scene.routed.pop());
    let detail = "it has not caught up with revision 1 and serves nobody";
    check(deferred, &[&format!("warning VersionDrift of digits in europe-west1: {detail}")]);
}

#[test]
fn wrong_answers_are_found_while_they_may_reach_users() {
    let cases = |wrong, suspects| {
        move |scene: &mut Scene| {
            let agent = &mut scene.agents[1];
            agent.started_at = Timestamp::now();
            agent.cases = vec![CaseCounts {
                model: digits(),
                slot: Slot::Blue,
                revision: REVISION,
                asked: 20,
                wrong,
                unanswered: 3,
                asked_at: None,
                suspects,
                last_wrong: Some("cases/007.json: expected 7, got 1".to_owned()),
            }];
        }
    };
    let expected: &[&str] = &["critical WrongAnswers of digits in europe-west1: cases/007.json: expected 7, got 1"];
    check(cases(1, 0), expected);
    check(cases(0, 1), expected);
    check(cases(0, 0), &[]);
}

#[test]
fn budgets_that_burn_are_found() {
    let prefix = "critical ErrorBudgetBurn of digits in europe-west1";
    let rest = "requests failed in 5 min; the budget is spent more than 14.4 times too fast";
    check(|scene| scene.traffic().errors = 100, &[&format!("{prefix}: 100 of 1000 {rest}")]);
    check(|scene| scene.traffic().errors = 2, &[]);
    let slow = |scene: &mut Scene| (0..800).for_each(|_| scene.traffic().durations.record(Duration::from_secs(1)));
    let detail = "800 of 1000 requests were too slow in 5 min; the budget is spent more than 14.4 times too fast";
    check(slow, &[&format!("critical LatencyBudgetBurn of digits in europe-west1: {detail}")]);
}

#[test]
fn regions_that_are_full_are_found_and_so_are_those_that_depend_on_them() {
    let full = |scene: &mut Scene| scene.gateways[1].load[0].capacity.in_flight = 9.5;
    let expected: &[&str] = &[
        "warning Saturation of digits in europe-west1: 10 of 10 requests in flight, 95 %",
        "warning FailoverUnfit in europe-west1: room for 84 % of its users of digits",
        ALONE,
    ];
    check(full, expected);
}

#[test]
fn full_disks_and_gateways_that_refuse_are_found() {
    let full = DiskRoom { free_bytes: 0, total_bytes: 100 << 30 };
    let agents = |scene: &mut Scene| scene.agents[1].disk = Some(full);
    check(agents, &["critical DiskRoom in europe-west1: the agent's disk: 0.0 GB of 107.4 GB free"]);
    check(|scene| scene.disk = full, &["critical DiskRoom: the control plane's disk: 0.0 GB of 107.4 GB free"]);
    let refuses = |scene: &mut Scene| scene.gateways[1].refused = Some("it shrinks sharply".to_owned());
    check(refuses, &["warning GatewayStale in europe-west1: europe-west1:7410: it shrinks sharply"]);
    let behind = |scene: &mut Scene| scene.gateways[1].committed.clear();
    check(behind, &["warning GatewayStale in europe-west1: europe-west1:7410 has not taken up the newest route"]);
}
