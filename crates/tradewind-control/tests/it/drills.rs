//! Room elsewhere, drains and drills, with gateways that say what a test has them say.

use tokio::{sync::watch, task::JoinHandle};
use tradewind_api::{
    Code, client,
    deploy::DeployRequest,
    drain::{DrainRequest, UndrainRequest},
    drill::DrillRequest,
    gateway::{GatewayReport, HEARTBEAT, RegionDrill, SlotLoad, Traffic, config::Edition},
    status::EventQuery,
};
use tradewind_core::{
    RevisionNumber, Slot, Timestamp,
    capacity::{Capacity, Fit},
    drill::{Drill, DrillState, EndReason},
    duration::Span,
    event::EventKind,
};
use tradewind_testkit::eventually;

use crate::{
    control::{Control, DEADLINE, model, problem, region},
    members::{self, Member},
};

const US: &str = "us-east1";
const EU: &str = "europe-west1";
const SHORT: Span = Span::from_secs(5);

/// A gateway that reports what it is told to, again and again, and keeps what control says.
struct Puppet {
    report: watch::Sender<GatewayReport>,
    held: watch::Receiver<Option<Edition>>,
    task: JoinHandle<()>,
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puppet {
    fn start(control: &Control, report: GatewayReport) -> Self {
        let client = control.client(&format!("gateway/{}", report.region));
        let (report, mut reports) = watch::channel(report);
        let (hold, held) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut messages = client.watch_config().await.unwrap();
            let mut heartbeats = tokio::time::interval(HEARTBEAT / 10);
            loop {
                tokio::select! {
                    message = messages.next() => {
                        let Ok(message) = message else { return };
                        hold.send_modify(|held: &mut Option<Edition>| *held = Some(message.onto(held.as_ref()).unwrap()));
                    }
                    _ = heartbeats.tick() => {}
                }
                let report = reports.borrow_and_update().clone();
                // Control may be stopped by now.
                drop(client.report_gateway(&report).await);
            }
        });
        Self { report, held, task }
    }

    /// Waits until control says this of us-east1.
    async fn hears(&mut self, drained: bool, drill: Option<u64>) {
        let told = |held: &Option<Edition>| {
            let us = held.as_ref().and_then(|held| held.snapshot.regions.iter().find(|one| one.name.as_str() == US));
            us.is_some_and(|us| us.drained == drained && us.drill.map(|RegionDrill { number, .. }| number.0) == drill)
        };
        tokio::time::timeout(DEADLINE, self.held.wait_for(told)).await.expect("in time").unwrap();
    }

    fn users_go_to(&self, there: &str) {
        self.report.send_modify(|report| drop(report.users_go_to.insert(model("digits"), Some(region(there)))));
    }

    /// So many more answers that its users got from that region.
    fn answered(&self, by: &str, requests: u64) {
        self.report.send_modify(|report| {
            let entry = report.traffic.iter_mut().find(|entry| entry.region.as_str() == by).unwrap();
            entry.requests += requests;
        });
    }
}

fn report(name: &str, in_flight: f64, limit: Option<u32>) -> GatewayReport {
    let capacity = Capacity { in_flight, in_flight_now: 0, limit, replicas: 1 };
    let load = SlotLoad { model: model("digits"), slot: Slot::Blue, revision: RevisionNumber(1), capacity };
    let traffic = |answers: &str, requests: u64| Traffic {
        model: model("digits"),
        revision: RevisionNumber(1),
        region: region(answers),
        requests,
        errors: 0,
        durations: Default::default(),
        duration_us: 0,
        p50_us: 500,
        p99_us: 2000,
        per_second: if answers == name { 10.0 } else { 0.0 },
        errors_per_second: 0.0,
    };
    GatewayReport {
        load: vec![load],
        traffic: [US, EU].map(|answers| traffic(answers, if answers == name { 1000 } else { 1 })).into(),
        users_go_to: [(model("digits"), Some(region(name)))].into(),
        ..members::gateway_report(name)
    }
}

/// Digits serves in both regions; us-east1 has 6 in flight, europe-west1 4 of the limit that it is given.
async fn serving(control: &Control, limit: Option<u32>) -> (Vec<Member>, Puppet, Puppet) {
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let fakes: Vec<Member> = [US, EU].map(|name| members::agent(control, name, None)).into();
    let gateways = [US, EU].map(|name| members::gateway(control, name));
    let regions = Some(vec![region(US), region(EU)]);
    control.admin.deploy(&model("digits"), &DeployRequest { regions, ..DeployRequest::default() }).await.unwrap();
    eventually("digits is routed", DEADLINE, || async {
        let status = control.admin.deployment_status(&model("digits")).await.unwrap();
        status.monitoring_active.then_some(())
    })
    .await
    .unwrap();
    drop(gateways);
    let us = Puppet::start(control, report(US, 6.0, Some(20)));
    let eu = Puppet::start(control, report(EU, 4.0, limit));
    eventually("control knows the load", DEADLINE, || async {
        let known = failovers(control).await;
        known.iter().all(|known| known.is_some_and(|(_, in_flight)| in_flight > 0.0)).then_some(())
    })
    .await
    .unwrap();
    (fakes, us, eu)
}

/// Whether users of each region would fit elsewhere, and how much would move; europe-west1 first.
async fn failovers(control: &Control) -> Vec<Option<(Fit, f64)>> {
    let regions = control.admin.regions().await.unwrap().regions;
    let of = |failover: tradewind_core::capacity::Failover| (failover.fit, failover.models[0].in_flight);
    regions.into_iter().map(|region| region.failover.map(of)).collect()
}

async fn kinds(control: &Control) -> Vec<EventKind> {
    let events = control.admin.events(&EventQuery { limit: Some(1000), ..EventQuery::default() }).await.unwrap();
    events.events.into_iter().map(|event| event.record.kind).collect()
}

fn drain(dry_run: bool, force: bool) -> DrainRequest {
    DrainRequest { dry_run, force, requested_by: "ada@engine".to_owned() }
}

fn drill(lasts: Span) -> DrillRequest {
    DrillRequest { region: region(US), lasts, dry_run: false, force: false, requested_by: "ada@engine".to_owned() }
}

async fn show(control: &Control, wanted: impl Fn(&Drill) -> bool) -> Drill {
    eventually("the drill comes so far", DEADLINE * 3, || async {
        let drill = control.admin.drill("latest").await.ok()?.drill;
        wanted(&drill).then_some(drill)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_drain_that_fits_is_done_and_its_room_is_gone() {
    let control = Control::start().await;
    let (_fakes, mut us, _eu) = serving(&control, Some(20)).await;
    let planned = control.admin.drain(&region(US), &drain(true, false)).await.unwrap();
    assert_eq!((planned.failover.fit, planned.drained, planned.changed), (Fit::Fits, false, false));
    let target = &planned.failover.models[0].targets[0];
    assert_eq!((target.region.as_str(), target.in_flight, target.utilisation_then), (EU, 6.0, Some(0.5)));
    assert_eq!((planned.estimate.moved_ms, planned.estimate.answered_ms), (1000, Some(2)));
    us.hears(false, None).await;

    let done = control.admin.drain(&region(US), &drain(false, false)).await.unwrap();
    assert!(done.drained && done.changed);
    us.hears(true, None).await;
    let again = control.admin.drain(&region(US), &drain(false, false)).await.unwrap();
    assert!(again.drained && !again.changed);
    // Nobody is left to take the users of the other one.
    let refused = problem(control.admin.drain(&region(EU), &drain(false, false)).await);
    assert_eq!((refused.code, refused.code.exit()), (Code::Refused, 5));
    assert_eq!(refused.causes, ["no other region may serve them with digits now"]);
    assert!(refused.hint.unwrap().contains("--dry-run"));

    let back = control.admin.undrain(&region(US), &UndrainRequest::default()).await.unwrap();
    assert!(back.changed && !back.drained);
    us.hears(false, None).await;
    let kinds = kinds(&control).await;
    for kind in [EventKind::RegionDrained, EventKind::RegionUndrained] {
        assert_eq!(kinds.iter().filter(|other| **other == kind).count(), 1, "{kind:?}");
    }
    control.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_unless_somebody_insists() {
    let control = Control::start().await;
    let (_fakes, mut us, _eu) = serving(&control, Some(8)).await;
    assert_eq!(failovers(&control).await[1], Some((Fit::DoesNotFit, 6.0)));
    let refused = problem(control.admin.drain(&region(US), &drain(false, false)).await);
    assert_eq!(refused.detail, "the users of us-east1 do not fit elsewhere");
    assert_eq!(refused.causes, ["there is room for 53 % of those of digits"]);
    let refused = problem(control.admin.begin_drill(&drill(SHORT)).await);
    assert_eq!((refused.code, refused.causes.len()), (Code::Refused, 1));
    us.hears(false, None).await;
    assert!(control.admin.drain(&region(US), &drain(false, true)).await.unwrap().changed);
    us.hears(true, None).await;
    let unknown = problem(control.admin.drain(&region("us-east2"), &drain(true, false)).await);
    assert_eq!(unknown.code, Code::NotFound);
    control.stop().await;
}

#[tokio::test]
async fn without_a_limit_it_is_said_that_it_is_not_known() {
    let control = Control::start().await;
    let (_fakes, _us, _eu) = serving(&control, None).await;
    assert_eq!(failovers(&control).await[1], Some((Fit::Unknown, 6.0)));
    let status = control.admin.deployment_status(&model("digits")).await.unwrap();
    let health = &status.health[&region(EU)];
    assert_eq!(health.capacity.map(|known| (known.in_flight, known.limit)), Some((4.0, None)));
    assert_eq!(health.failover.as_ref().map(|failover| failover.fit), Some(Fit::Fits));
    assert!(control.admin.drain(&region(US), &drain(false, false)).await.unwrap().changed);
    control.stop().await;
}

#[tokio::test]
async fn a_drill_is_told_to_gateways_measured_and_kept() {
    let control = Control::start().await;
    let (_fakes, mut us, _eu) = serving(&control, Some(20)).await;
    for lasts in [Span::from_secs(1), Span::from_secs(3600)] {
        assert_eq!(problem(control.admin.begin_drill(&drill(lasts)).await).code, Code::Invalid);
    }
    let nothing = problem(control.admin.drill("latest").await);
    assert_eq!(nothing.code, Code::NotFound);
    let begun = control.admin.begin_drill(&drill(SHORT)).await.unwrap();
    assert_eq!((begun.number.unwrap().0, begun.estimate.failed), (1, Some(0)));
    us.hears(false, Some(1)).await;
    let second = problem(control.admin.begin_drill(&drill(SHORT)).await);
    assert_eq!(
        (second.code, second.detail.as_str()),
        (Code::Refused, "drill 1 is under way, and there is one at a time")
    );
    us.users_go_to(EU);
    us.answered(EU, 50);
    let moved = show(&control, |drill| drill.measured.moved_ms.is_some()).await;
    assert_eq!(moved.state, DrillState::Running);
    assert_eq!(control.admin.world().await.unwrap().drill.map(|drill| drill.number), Some(moved.number));

    show(&control, |drill| drill.state == DrillState::Returning).await;
    us.hears(false, None).await;
    us.answered(EU, 5);
    us.users_go_to(US);
    let done = show(&control, |drill| drill.state == DrillState::Done).await;
    assert_eq!(done.ended.map(|end| (end.at, end.reason)), Some((done.due(), EndReason::Time)));
    let counted = done.measured.counted.unwrap();
    assert_eq!((counted.requests, counted.failed, counted.requests_of_others), (55, 0, 0));
    assert_eq!(done.measured.targets.iter().map(|target| target.utilisation).collect::<Vec<_>>(), [Some(0.2)]);
    assert!(done.measured.returned_ms.is_some() && !done.interrupted, "{done:?}");
    assert_eq!(control.admin.drills().await.unwrap().drills, [done]);
    let kinds = kinds(&control).await;
    assert!(kinds.contains(&EventKind::DrillStarted) && kinds.contains(&EventKind::DrillEnded));
    control.stop().await;
}

#[tokio::test]
async fn a_drill_is_stopped_once() {
    let control = Control::start().await;
    let (_fakes, mut us, _eu) = serving(&control, Some(20)).await;
    control.admin.begin_drill(&drill(Span::from_secs(600))).await.unwrap();
    us.hears(false, Some(1)).await;
    let stopped = control.admin.stop_drill("latest").await.unwrap().drill;
    assert_eq!(stopped.ended.map(|end| end.reason), Some(EndReason::Stopped));
    us.hears(false, None).await;
    assert_eq!(problem(control.admin.stop_drill("1").await).code, Code::Refused);
    let done = show(&control, |drill| drill.state == DrillState::Done).await;
    assert_eq!(done.measured.moved_ms, None, "its users never left");
    control.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_was_away_says_what_it_knows() {
    let control = Control::start().await;
    let (fakes, us, eu) = serving(&control, Some(20)).await;
    control.admin.begin_drill(&drill(SHORT)).await.unwrap();
    us.users_go_to(EU);
    let seen = show(&control, |drill| drill.measured.moved_ms.is_some()).await;
    let reports = [&us, &eu].map(|puppet| puppet.report.borrow().clone());
    drop((fakes, us, eu));
    let control = control.restart().await;
    let [mut us, _eu] = reports.map(|report| Puppet::start(&control, report));
    show(&control, |drill| drill.state != DrillState::Running).await;
    us.hears(false, None).await;
    us.users_go_to(US);
    let done = show(&control, |drill| drill.state == DrillState::Done).await;
    assert!(done.interrupted);
    assert_eq!((done.measured.moved_ms, done.number), (seen.measured.moved_ms, seen.number));
    assert_eq!(done.ended.map(|end| end.at), Some(done.due()), "gateways ended it then");
    assert!(Timestamp::now() >= done.due());
    control.stop().await;
}

#[tokio::test]
async fn an_unhealthy_region_speaks_against_a_drill() {
    let control = Control::start().await;
    let (_fakes, _us, eu) = serving(&control, Some(20)).await;
    drop(eu);
    let refused = eventually("the other region is silent", DEADLINE, || async {
        match control.admin.begin_drill(&DrillRequest { dry_run: true, ..drill(SHORT) }).await {
            Err(client::Error::Problem(problem)) => Some(problem),
            _ => None,
        }
    })
    .await
    .unwrap();
    assert!(
        refused.causes.iter().any(|cause| cause.starts_with("europe-west1 is not healthy: no gateway")),
        "{refused:?}"
    );
    assert!(refused.hint.unwrap().contains("--force"));
    let forced = DrillRequest { force: true, dry_run: true, ..drill(SHORT) };
    let answer = control.admin.begin_drill(&forced).await.unwrap();
    assert!(!answer.objections.is_empty() && answer.number.is_none());
    control.stop().await;
}
