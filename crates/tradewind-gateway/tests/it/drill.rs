//! Drills, and what gateways tell of the load of their region.

use std::time::{Duration, Instant};

use tradewind_api::gateway::{GatewayReport, RegionDrill, SlotLoad};
use tradewind_core::{DrillNumber, Slot, duration::Span};

use crate::{
    process::listener,
    replica::Replica,
    world::{EU, Gateway, US, World, model, region, until},
};

const USERS: usize = 4;

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::from_millis(3))
}

/// Has control say that a drill takes us-east1 for lost, or that none does.
fn tell(world: &World, drill: Option<(u64, Duration)>) {
    world.control.change(|snapshot| {
        let members = snapshot.regions.iter_mut().find(|members| members.name.as_str() == US).unwrap();
        members.drill = drill.map(|(number, lasts)| RegionDrill {
            number: DrillNumber(number),
            lasts: Span::from_millis(u64::try_from(lasts.as_millis()).unwrap()),
        });
    });
}

/// Waits until the gateway of us-east1 says that its users go there.
async fn users_go_to(world: &World, there: &str) -> GatewayReport {
    let goes_to = Some(region(there));
    world.control.reported(US, |report| report.users_go_to.get(&model()) == Some(&goes_to)).await
}

async fn peer_is(world: &World, healthy: bool) {
    let sees =
        |report: &GatewayReport| report.peers.iter().any(|peer| peer.region.as_str() == US && peer.healthy == healthy);
    world.control.reported(EU, sees).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_taken_for_lost_until_its_own_clock_says_otherwise() {
    const LASTS: Duration = Duration::from_secs(3);
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let load = world.load(US, USERS);
    until(async || us.served() > 20).await;
    let begun = Instant::now();
    tell(&world, Some((1, LASTS)));
    let report = users_go_to(&world, EU).await;
    assert!(begun.elapsed() < LASTS, "{:?}", begun.elapsed());
    assert_eq!(report.refused, None);
    peer_is(&world, false).await;
    world.control.reported(US, |report| report.load.is_empty()).await;
    // Nobody is left who could end it.
    world.control.process.kill();
    let kept = us.served();
    until(async || eu.served() > 50).await;
    if begun.elapsed() < LASTS {
        assert!(us.served() <= kept + USERS as u64, "but for what was on its way when it began");
    }
    until(async || us.served() > kept + 50).await;
    assert!(begun.elapsed() >= LASTS, "{:?}", begun.elapsed());
    let answers = load.stop().await;
    assert!(answers.failed.is_empty(), "{} failed, first: {:?}", answers.failed.len(), answers.failed.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn control_ends_a_drill_at_once_and_users_come_back_gradually() {
    let (us, eu) = (replica("us"), replica("eu"));
    let world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    const LONG: Duration = Duration::from_secs(600);
    tell(&world, Some((1, LONG)));
    users_go_to(&world, EU).await;
    peer_is(&world, false).await;
    tell(&world, None);
    users_go_to(&world, US).await;
    peer_is(&world, true).await;
    let load = world.load(US, USERS);
    until(async || us.served() > 10).await;
    let answers = load.stop().await;
    let home = answers.good.iter().filter(|(_, region, _)| region == US).count();
    assert!(answers.failed.is_empty() && home * 2 < answers.good.len(), "{home} of {} at once", answers.good.len());
    // What was ended does not begin again, and another one does.
    tell(&world, Some((1, LONG)));
    let told = world.control.snapshot.borrow().revision;
    world.control.reported(US, |report| report.config.is_some_and(|config| config.revision == told)).await;
    users_go_to(&world, US).await;
    tell(&world, Some((2, LONG)));
    users_go_to(&world, EU).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_without_control_begins_no_drill() {
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    tell(&world, Some((1, Duration::from_secs(600))));
    users_go_to(&world, EU).await;
    let saved = world.directory.path().join(US).join("snapshot");
    until(async || std::fs::read_to_string(&saved).is_ok_and(|known| known.contains("\"drill\""))).await;
    world.control.process.kill();
    drop(world.gateways.remove(US));
    until(async || !world.agents[US].is_followed()).await;
    let directory = world.directory.path().join(US);
    world.gateways.insert(US, Gateway::start(US, listener(), world.control.url(), directory));
    until(async || world.get(US, "/readyz").await.status() == 200).await;
    assert_eq!(world.served_by(US).await, US);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_tells_what_its_replicas_do_and_may_do() {
    let slow = Duration::from_secs(3);
    let of = |id| Replica::start(id, Slot::Blue, 1, slow);
    let (first, second, eu) = (of("us-1").limited(4), of("us-2").limited(6), of("eu"));
    let world = World::start(&[(US, &[&first, &second]), (EU, &[&eu])]).await;
    let told = |report: &GatewayReport, wanted: &dyn Fn(&SlotLoad) -> bool| match report.load.as_slice() {
        [load] => load.model == model() && load.slot == Slot::Blue && wanted(load),
        _ => false,
    };
    let limits = |load: &SlotLoad| (load.capacity.limit, load.capacity.replicas);
    world.control.reported(US, |report| told(report, &|load| limits(load) == (Some(10), 2))).await;
    world.control.reported(EU, |report| told(report, &|load| limits(load) == (None, 1))).await;
    let asked: Vec<_> = (0..5).map(|_| tokio::spawn(world.infer(US).send())).collect();
    let busy = |load: &SlotLoad| load.capacity.in_flight_now == 5 && load.capacity.in_flight > 0.5;
    let report = world.control.reported(US, |report| told(report, &busy)).await;
    assert!(report.load[0].capacity.in_flight < 5.0, "it is smoothed: {report:?}");
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    world.control.reported(US, |report| told(report, &|load| load.capacity.in_flight_now == 0)).await;
}
