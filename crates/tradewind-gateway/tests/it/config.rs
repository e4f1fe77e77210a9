//! Snapshots: switches, refusals, and life without control.

use std::time::{Duration, Instant};

use std::sync::atomic::Ordering;

use tradewind_api::gateway::{
    GatewayReport, GatewaySnapshot,
    config::{ConfigMessage, Edition, diff},
};
use tradewind_core::{Epoch, Slot, route::RouteState};

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
    let after = us_green.served.load(Ordering::SeqCst);
    until(async || us_green.served.load(Ordering::SeqCst) > after + 50).await;
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
        let told = |report: &GatewayReport| report.refused.as_ref().is_some_and(|refused| refused.contains(why));
        world.control.reported(US, told).await;
        assert_eq!(world.served_by(US).await, US, "the last good one stays");
    };
    refused(GatewaySnapshot { revision: good.revision - 1, routes: vec![], ..good.clone() }, "older than").await;
    refused(GatewaySnapshot { revision: good.revision + 1, regions: vec![], ..good.clone() }, "no regions").await;
    let mut backwards = GatewaySnapshot { revision: good.revision + 2, ..good.clone() };
    backwards.routes[0].committed = Some(state(0, Slot::Green, vec![region(US)]));
    refused(backwards, "back from epoch 1 to 0").await;
    let partial = GatewaySnapshot { revision: good.revision + 3, routes: vec![], ..good.clone() };
    refused(partial, "takes away 1 of 1 models, and 1 are deployed").await;
    let held = world.control.reported(US, |report| report.refused.is_some()).await.config.unwrap();
    assert_eq!(held, Edition::new(good.clone()).version(), "it says what it serves");
    let fine = GatewaySnapshot { revision: good.revision + 4, ..good };
    let version = Edition::new(fine.clone()).version();
    world.control.snapshot.send_replace(fine);
    let report = world.control.reported(US, |report| report.refused.is_none()).await;
    assert_eq!(report.config, Some(version));
}

/// The counter of a gateway's metrics.
async fn counter(world: &World, name: &str, counter: &str) -> u64 {
    let metrics = world.get(name, "/metrics").await.text().await.unwrap();
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(counter)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_taken_as_such_and_one_that_does_not_fit_leads_to_a_snapshot() {
    let us = replica("us", Slot::Blue, 1);
    let world = World::start(&[(US, &[&us])]).await;
    let at = |epoch| RouteState { epoch: Epoch(epoch), ..state(1, Slot::Blue, vec![region(US)]) };
    let opened = world.control.streams.load(Ordering::SeqCst);
    world.control.change(|snapshot| snapshot.routes[0].committed = Some(at(2)));
    world.control.committed(US, 2).await;
    assert_eq!(world.control.streams.load(Ordering::SeqCst), opened, "the change was sent alone");
    assert_eq!(counter(&world, US, "tradewind_gateway_config_relists_total").await, 0);

    let good = world.control.snapshot.borrow().clone();
    let other = Edition::new(GatewaySnapshot { mesh_token: "other".to_owned(), ..good.clone() });
    let mut next = GatewaySnapshot { revision: good.revision + 1, ..good.clone() };
    next.routes[0].committed = Some(at(3));
    let wrong_base = diff(&other, &Edition::new(next.clone())).unwrap();
    let mut wrong_result = diff(&Edition::new(good.clone()), &Edition::new(next.clone())).unwrap();
    wrong_result.routes.clear();
    for (count, odd) in (1..).zip([
        ConfigMessage::Delta(wrong_base),
        ConfigMessage::Delta(wrong_result),
        // What the watchdog hears when a change was lost.
        ConfigMessage::Current { digest: Edition::new(next).digest },
    ]) {
        world.control.raw.send(odd).unwrap();
        until(async || world.control.streams.load(Ordering::SeqCst) == opened + count).await;
        until(async || counter(&world, US, "tradewind_gateway_config_relists_total").await == count).await;
        let report = world.control.reported(US, |report| report.config.is_some()).await;
        assert_eq!(report.config, Some(Edition::new(good.clone()).version()), "the last good one stays");
    }
    world.control.raw.send(ConfigMessage::Current { digest: Edition::new(good).digest }).unwrap();
    world.control.change(|snapshot| snapshot.routes[0].committed = Some(at(4)));
    world.control.committed(US, 4).await;
    assert_eq!(world.control.streams.load(Ordering::SeqCst), opened + 3, "what is current needs no snapshot");
    assert_eq!(world.served_by(US).await, US);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_as_good_as_none() {
    let us = replica("us", Slot::Blue, 1);
    let mut world = World::start(&[(US, &[&us])]).await;
    let control = world.control.url();
    let directory = world.directory.path().join(US);
    for (file, damage) in [
        ("snapshot", (|content| content.truncate(content.len() / 2)) as fn(&mut Vec<u8>)),
        ("snapshot", |content| *content.last_mut().unwrap() ^= 1),
        ("endpoints", |content| content.clear()),
    ] {
        world.gateways.get_mut(US).unwrap().stop().await;
        world.control.reports.send_modify(|reports| reports.clear());
        let path = directory.join(file);
        let mut content = std::fs::read(&path).unwrap();
        damage(&mut content);
        std::fs::write(&path, content).unwrap();
        world.gateways.insert(US, Gateway::start(US, listener(), control.clone(), directory.clone()));
        until(async || world.get(US, "/readyz").await.status() == 200).await;
        assert_eq!(world.served_by(US).await, US, "after damage to {file}");
        // What it learned is on disk again.
        world.control.reported(US, |report| report.config.is_some() && report.refused.is_none()).await;
    }
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
