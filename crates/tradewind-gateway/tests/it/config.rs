//! Snapshots: switches, refusals, and life without control.

use std::time::{Duration, Instant};

use tradewind_api::gateway::GatewaySnapshot;
use tradewind_core::{Epoch, Slot};

use crate::{
    process::listener,
    replica::Replica,
    world::{EU, Gateway, US, World, model, region, state, until},
};

fn replica(id: &str, slot: Slot, revision: u64) -> Replica {
    Replica::start(id, slot, revision, Duration::from_millis(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_fails_nothing_and_never_goes_back() {
    let (us_blue, eu_blue) = (replica("us-b", Slot::Blue, 1), replica("eu-b", Slot::Blue, 1));
    let (us_green, eu_green) = (replica("us-g", Slot::Green, 2), replica("eu-g", Slot::Green, 2));
    let world = World::start(&[(US, &[&us_blue]), (EU, &[&eu_blue])]).await;
    let loads = [world.load(US, 4), world.load(EU, 4)];

    let regions = || vec![region(US), region(EU)];
    world.control.change(|snapshot| snapshot.routes[0].prepared = Some(state(2, Slot::Green, regions())));
    let waiting = world.control.reported(US, |report| report.refused.is_some()).await;
    assert!(waiting.prepared.is_empty() && waiting.refused.unwrap().contains("epoch 2 is not prepared"));
    world.agents[US].tell(&[&us_blue, &us_green]);
    world.agents[EU].tell(&[&eu_blue, &eu_green]);
    for name in [US, EU] {
        let report = world.control.reported(name, |report| report.prepared.get(&model()) == Some(&Epoch(2))).await;
        assert_eq!(report.committed[&model()].epoch, Epoch(1), "prepared is not served");
        assert_eq!(report.refused, None);
    }

    world.control.change(|snapshot| {
        snapshot.routes[0].committed = snapshot.routes[0].prepared.take();
    });
    for name in [US, EU] {
        world.control.committed(name, 2).await;
    }
    let committed = Instant::now();
    // The old slot goes; nobody may need it any more.
    world.agents[US].tell(&[&us_green]);
    world.agents[EU].tell(&[&eu_green]);
    us_blue.kill();
    eu_blue.kill();
    let after = us_green.served.load(std::sync::atomic::Ordering::SeqCst);
    until(async || us_green.served.load(std::sync::atomic::Ordering::SeqCst) > after + 50).await;
    for load in loads {
        let answers = load.stop().await;
        assert!(answers.failed.is_empty(), "{:?}", answers.failed.first());
        let (old, new): (Vec<_>, Vec<_>) = answers.good.iter().partition(|(_, _, slot)| slot == "blue");
        assert!(!old.is_empty() && !new.is_empty());
        assert!(old.iter().all(|(asked, ..)| *asked < committed), "an old slot answered after the commit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_snapshot_is_refused_and_told() {
    let us = replica("us", Slot::Blue, 1);
    let world = World::start(&[(US, &[&us])]).await;
    let good = world.control.snapshot.borrow().clone();
    let refused = async |bad: GatewaySnapshot, why: &str| {
        world.control.snapshot.send_replace(bad);
        let told = |report: &tradewind_api::gateway::GatewayReport| {
            report.refused.as_ref().is_some_and(|refused| refused.contains(why))
        };
        world.control.reported(US, told).await;
        assert_eq!(world.served_by(US).await, US, "the last good one stays");
    };
    refused(GatewaySnapshot { revision: good.revision - 1, routes: vec![], ..good.clone() }, "older than").await;
    refused(GatewaySnapshot { revision: good.revision + 1, regions: vec![], ..good.clone() }, "no regions").await;
    let mut backwards = GatewaySnapshot { revision: good.revision + 2, ..good.clone() };
    backwards.routes[0].committed = Some(state(0, Slot::Green, vec![region(US)]));
    refused(backwards, "back from epoch 1 to 0").await;
    world.control.snapshot.send_replace(GatewaySnapshot { revision: good.revision + 3, ..good });
    world.control.reported(US, |report| report.refused.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_restarts_from_disk_when_everything_else_is_dead() {
    let (us, eu) = (replica("us", Slot::Blue, 1), replica("eu", Slot::Blue, 1));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    let control = world.control.url();
    world.control.process.kill();
    world.agents.get_mut(US).unwrap().process.kill();
    world.gateways.get_mut(US).unwrap().kill();

    let directory = world.directory.path().join(US);
    world.gateways.insert(US, Gateway::start(US, listener(), control, directory));
    until(async || world.get(US, "/readyz").await.status() == 200).await;
    assert_eq!(world.served_by(US).await, US);
    us.kill();
    assert_eq!(world.served_by(US).await, EU, "peers are known too");
}
