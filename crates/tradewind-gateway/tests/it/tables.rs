//! Users who are pinned together, by a table that the gateway fetches before it takes up what names it.

use std::{sync::Arc, time::Duration};

use tradewind_core::{
    Digest, Slot, Timestamp,
    pins::{
        PinTable, Pins,
        table::{KeyHash, Table},
    },
    route::Route,
};

use crate::{
    candidate::{share, split},
    process::listener,
    replica::Replica,
    world::{EU, Gateway, US, World, header, model, until},
};

fn replica(id: &str, slot: Slot, revision: u64) -> Replica {
    Replica::start(id, slot, revision, Duration::ZERO)
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// A thousand users.
fn table(from: usize) -> Vec<u8> {
    let users = (from..from + 1000).map(|number| KeyHash::of(user(number).as_bytes()));
    Table::of(users.collect()).unwrap().bytes().to_vec()
}

/// The candidate is for nobody but those whom the tables name.
fn routed(epoch: u64, regions: &[&str], tables: &[&[u8]]) -> Route {
    let until = Timestamp::from_second(Timestamp::now().as_second() + 600).unwrap();
    let named =
        |table: &&[u8]| PinTable { digest: digest_of(table), users: 1000, to: "candidate".parse().unwrap(), until };
    let pins = Arc::new(Pins { tables: tables.iter().map(named).collect(), ..Pins::default() });
    Route { model: model(), committed: Some(split(epoch, regions, share(0.0), regions)), prepared: None, pins }
}

async fn slot_of(world: &World, gateway: &str, number: usize) -> String {
    let response = world.infer(gateway).header("x-tradewind-user", user(number)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    header(&response, "x-tradewind-slot")
}

fn files(world: &World, gateway: &str) -> Vec<String> {
    let entries = std::fs::read_dir(world.directory.path().join(gateway).join("tables")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_table_keep_what_they_get_when_the_gateway_restarts_without_control() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let mut world = World::start(&[(US, &[&us, &us_new])]).await;
    let (first, second) = (table(0), table(1000));
    for (epoch, named) in [(2, &first), (3, &second)] {
        world.control.tables.send_modify(|tables| drop(tables.insert(digest_of(named), named.clone())));
        world.control.change(|snapshot| snapshot.routes = vec![routed(epoch, &[US], &[named])]);
        world.control.committed(US, epoch).await;
        until(async || files(&world, US) == [digest_of(named).to_hex()]).await;
    }
    let expected = [(0, "blue"), (999, "blue"), (1000, "green"), (1999, "green"), (2000, "blue")];
    for (number, slot) in expected {
        assert_eq!(slot_of(&world, US, number).await, slot, "user {number}");
    }

    let control = world.control.url();
    world.control.process.kill();
    world.gateways.get_mut(US).unwrap().kill();
    let directory = world.directory.path().join(US);
    world.gateways.insert(US, Gateway::start(US, listener(), control, directory));
    until(async || world.get(US, "/readyz").await.status() == 200).await;
    for (number, slot) in expected {
        assert_eq!(slot_of(&world, US, number).await, slot, "user {number}, from disk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_table_is_refused_and_told_and_the_last_good_configuration_stays() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let world = World::start(&[(US, &[&us, &us_new])]).await;
    let good = table(0);
    let mut unordered = good.clone();
    unordered[16..32].rotate_left(8);
    let mut altered = good.clone();
    altered[20] ^= 1;
    let mut epoch = 1;
    for (named, sent, why) in [
        (&unordered, Some(&unordered), "user 2 of it is not in order"),
        (&good, Some(&altered), "is damaged: its digest is"),
        (&good, None, "cannot fetch the table"),
    ] {
        let digest = digest_of(named);
        epoch += 1;
        world.control.tables.send_modify(|tables| {
            tables.clear();
            tables.extend(sent.map(|sent| (digest, sent.clone())));
        });
        world.control.change(|snapshot| snapshot.routes = vec![routed(epoch, &[US], &[named])]);
        let told = |refused: &String| refused.contains(why) && refused.contains(&digest.short());
        world.control.reported(US, |report| report.refused.as_ref().is_some_and(told)).await;
        assert_eq!(slot_of(&world, US, 0).await, "blue", "{why}");
    }
    // The gateway asks again by itself.
    world.control.tables.send_modify(|tables| drop(tables.insert(digest_of(&good), good.clone())));
    world.control.committed(US, epoch).await;
    world.control.reported(US, |report| report.refused.is_none()).await;
    assert_eq!(slot_of(&world, US, 0).await, "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_on_disk_costs_nobody_an_answer_and_is_fetched_again() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let mut world = World::start(&[(US, &[&us, &us_new])]).await;
    let good = table(0);
    world.control.tables.send_modify(|tables| drop(tables.insert(digest_of(&good), good.clone())));
    world.control.change(|snapshot| snapshot.routes = vec![routed(2, &[US], &[&good])]);
    world.control.committed(US, 2).await;
    world.gateways.get_mut(US).unwrap().stop().await;
    let directory = world.directory.path().join(US);
    let path = directory.join("tables").join(digest_of(&good).to_hex());
    std::fs::write(&path, &good[..100]).unwrap();
    let tables = world.control.tables.send_replace(Default::default());
    world.gateways.insert(US, Gateway::start(US, listener(), world.control.url(), directory));
    until(async || world.get(US, "/readyz").await.status() == 200).await;
    assert_eq!(slot_of(&world, US, 0).await, "blue", "as all others");
    world.control.tables.send_replace(tables);
    until(async || slot_of(&world, US, 0).await == "green").await;
    until(async || std::fs::read(&path).unwrap() == good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_control_does_not_reach_fetches_tables_from_another() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let (eu, eu_new) = (replica("eu", Slot::Blue, 1), replica("eu-new", Slot::Green, 2));
    let mut world = World::start(&[(US, &[&us, &us_new]), (EU, &[&eu, &eu_new])]).await;
    world.gateways.get_mut(EU).unwrap().stop().await;
    let good = table(0);
    world.control.tables.send_modify(|tables| drop(tables.insert(digest_of(&good), good.clone())));
    world.control.change(|snapshot| snapshot.routes = vec![routed(2, &[US, EU], &[&good])]);
    world.control.committed(US, 2).await;
    let nowhere = format!("http://{}", listener().local_addr().unwrap());
    world.gateways.insert(EU, Gateway::start(EU, listener(), nowhere, world.directory.path().join(EU)));
    until(async || slot_of(&world, EU, 0).await == "green").await;
    assert_eq!(files(&world, EU), [digest_of(&good).to_hex()]);
}
