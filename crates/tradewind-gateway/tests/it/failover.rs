//! Replicas, agents and gateways die under load, and nobody notices.

use std::{sync::atomic::Ordering, time::Duration};

use tradewind_api::{agent::Endpoint, gateway::GatewayReport};
use tradewind_core::Slot;

use crate::{
    load::Answers,
    process::listener,
    replica::Replica,
    world::{ASIA, EU, Gateway, US, World, model, until},
};

const USERS: usize = 8;

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::from_millis(3))
}

async fn served(replica: &Replica, more: u64) {
    let from = replica.served.load(Ordering::SeqCst);
    until(async || replica.served.load(Ordering::SeqCst) >= from + more).await;
}

fn assert_none_failed(answers: &Answers) {
    assert!(answers.failed.is_empty(), "{} failed, first: {:?}", answers.failed.len(), answers.failed.first());
    assert!(!answers.good.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dying_replica_fails_no_request() {
    let (first, second) = (replica("us-1"), replica("us-2"));
    let world = World::start(&[(US, &[&first, &second])]).await;
    let load = world.load(US, USERS);
    served(&first, 20).await;
    served(&second, 20).await;
    first.kill();
    served(&second, 50).await;
    assert_none_failed(&load.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_probed_as_it_says_itself() {
    let (path, connection) = (replica("us-1").probed("/own/health"), replica("us-2").probed("tcp"));
    let never = replica("us-3").probed("/nothing");
    let world = World::start(&[(US, &[&path, &connection, &never])]).await;
    let count = |replica: &Replica| replica.served.load(Ordering::SeqCst);
    until(async || {
        let before = (count(&path), count(&connection), count(&never));
        for _ in 0..20 {
            assert_eq!(world.infer(US).send().await.unwrap().status(), 200);
        }
        count(&never) == before.2 && count(&path) > before.0 && count(&connection) > before.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_a_replica_that_hangs() {
    let (first, second) = (replica("us-1"), replica("us-2"));
    let world = World::start(&[(US, &[&first, &second])]).await;
    let load = world.load(US, USERS);
    served(&first, 20).await;
    served(&second, 20).await;
    let _socket = first.freeze();
    // All users but those who hang on the first one go on; when probes give it up, they are sent to the second.
    until(async || world.metric(US, "tradewind_gateway_retries_total").await > 0).await;
    served(&second, 50).await;
    assert_none_failed(&load.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_sends_its_users_to_the_next_and_takes_them_back_gradually() {
    let (us, eu, asia) = (replica("us"), replica("eu"), replica("asia"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu]), (ASIA, &[&asia])]).await;
    let load = world.load(US, USERS);
    served(&us, 50).await;
    // The agent goes first, so that nobody tells of the loss.
    world.agents.get_mut(US).unwrap().process.kill();
    us.kill();
    let elsewhere = async || eu.served.load(Ordering::SeqCst) + asia.served.load(Ordering::SeqCst) > 50;
    until(elsewhere).await;
    let answers = load.stop().await;
    assert_none_failed(&answers);
    assert_eq!(answers.good.iter().filter(|(_, _, slot)| slot != "blue").count(), 0);
    let told = |report: &GatewayReport| report.users_go_to[&model()].clone().map(|region| region.to_string());
    let report = world.control.reported(US, |report| told(report).is_some_and(|there| there != US)).await;
    assert!(report.traffic.iter().any(|entry| entry.region.as_str() == US && entry.per_second > 0.0), "of late");
    world.control.reported(EU, |report| told(report).as_deref() == Some(EU)).await;

    // Another agent brings a replica up again.
    let successor = us.successor("us-successor");
    let agent = World::start(&[(US, &[&successor])]).await.agents.remove(US).unwrap();
    let address = agent.process.address.to_string();
    world.control.change(|snapshot| {
        let members = snapshot.regions.iter_mut().find(|members| members.name.as_str() == US).unwrap();
        members.agents = vec![address];
    });
    let back = world.load(US, USERS);
    served(&successor, 5).await;
    let answers = back.stop().await;
    assert_none_failed(&answers);
    let home = answers.good.iter().filter(|(_, region, _)| region == US).count();
    assert!(home * 2 < answers.good.len(), "{home} of {} came home at once", answers.good.len());
}

/// Ends the gateway of us-east1, and waits until nothing of it is left that could write to its directory.
async fn end(world: &mut World) {
    // Dropped, it is as dead as if it had been killed.
    drop(world.gateways.remove(US));
    until(async || !world.agents[US].is_followed()).await;
}

/// Starts the gateway of us-east1 anew, with what a directory holds.
async fn restart(world: &mut World, directory: &str) {
    end(world).await;
    let directory = world.directory.path().join(directory);
    world.gateways.insert(US, Gateway::start(US, listener(), world.control.url(), directory));
}

/// Waits until the gateway of us-east1 that runs now says where its users go.
async fn users_go_to(world: &World, there: &str) {
    let address = world.gateways[US].address.to_string();
    let told = |report: &GatewayReport| Some(report.users_go_to.get(&model())?.as_ref()?.as_str() == there);
    world.control.reported(US, |report| report.address == address && told(report) == Some(true)).await;
}

/// How many of so many answers came from us-east1, while `replica` answered some.
async fn at_home(world: &World, replica: &Replica) -> (usize, usize) {
    let load = world.load(US, USERS);
    served(replica, 10).await;
    let answers = load.stop().await;
    assert_none_failed(&answers);
    (answers.good.iter().filter(|(_, region, _)| region == US).count(), answers.good.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_in_a_healthy_region_serves_at_once() {
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    for directory in [US, "nothing is known there"] {
        restart(&mut world, directory).await;
        users_go_to(&world, US).await;
        let (home, all) = at_home(&world, &us).await;
        assert_eq!(home, all, "{directory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_in_a_region_that_was_lost_takes_its_users_back_gradually() {
    let (us, eu) = (replica("us"), replica("eu"));
    let mut world = World::start(&[(US, &[&us]), (EU, &[&eu])]).await;
    // The disk knows of a replica that is no more; until another has come, nobody asks.
    let endpoints = world.directory.path().join(US).join("endpoints");
    let saved = async |replica: &Replica| {
        let id = format!("{:?}", replica.endpoint().id);
        until(async || std::fs::read_to_string(&endpoints).is_ok_and(|known| known.contains(&id))).await;
    };
    saved(&us).await;
    end(&mut world).await;
    us.kill();
    let second = us.successor("us-second");
    world.agents[US].tell(&[&second]);
    restart(&mut world, US).await;
    saved(&second).await;
    let (home, all) = at_home(&world, &second).await;
    assert!(home * 2 < all, "{home} of {all} came home at once");

    // Nothing is on disk, and the agent tells of no replica at first.
    world.agents[US].tell(&[]);
    second.kill();
    const EMPTY: &str = "nothing is known there";
    restart(&mut world, EMPTY).await;
    // What the agent tells is on disk when it has been heard.
    let heard = world.directory.path().join(EMPTY).join("endpoints");
    until(async || heard.exists()).await;
    users_go_to(&world, EU).await;
    let third = us.successor("us-third");
    world.agents[US].tell(&[&third]);
    users_go_to(&world, US).await;
    let (home, all) = at_home(&world, &third).await;
    assert!(home * 2 < all, "{home} of {all} came home at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dying_peer_gateway_fails_no_request_of_other_regions() {
    let (eu, asia) = (replica("eu"), replica("asia"));
    let mut world = World::start(&[(US, &[]), (EU, &[&eu]), (ASIA, &[&asia])]).await;
    let first = world.served_by(US).await;
    let (near, far) = if first == EU { (&eu, &asia) } else { (&asia, &eu) };
    let near_region = if first == EU { EU } else { ASIA };
    let load = world.load(US, USERS);
    served(near, 50).await;
    world.gateways.get_mut(near_region).unwrap().kill();
    served(far, 50).await;
    assert_none_failed(&load.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_replicas_declines_and_the_next_serves() {
    let (eu, asia) = (replica("eu"), replica("asia"));
    let world = World::start(&[(US, &[]), (EU, &[&eu]), (ASIA, &[&asia])]).await;
    let load = world.load(US, USERS);
    until(async || eu.served.load(Ordering::SeqCst) + asia.served.load(Ordering::SeqCst) > 50).await;
    eu.kill();
    served(&asia, 50).await;
    assert_none_failed(&load.stop().await);
    assert_eq!(world.served_by(EU).await, ASIA, "its own users are served elsewhere too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_finishes_what_is_in_flight() {
    let slow = Replica::start("slow", Slot::Blue, 1, Duration::from_millis(300));
    let mut world = World::start(&[(US, &[&slow])]).await;
    let answers: Vec<_> = (0..4).map(|_| tokio::spawn(world.infer(US).send())).collect();
    until(async || world.get(US, "/metrics").await.text().await.unwrap().contains("requests_in_flight 4")).await;
    world.gateways.get_mut(US).unwrap().stop().await;
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_restarts_on_another_port_is_found_without_control() {
    let us = replica("us");
    let mut world = World::start(&[(US, &[&us])]).await;
    world.control.process.kill();
    let load = world.load(US, 1);
    served(&us, 5).await;
    let second = us.successor("second");
    world.agents[US].tell(&[&us, &second]);
    served(&second, 5).await;
    us.kill();
    world.agents[US].tell(&[&second]);
    served(&second, 5).await;
    assert_none_failed(&load.stop().await);
    // With nobody left, one comes up on a port that nobody has heard of.
    second.kill();
    world.agents[US].tell(&[]);
    until(async || world.infer(US).send().await.unwrap().status() == 503).await;
    let third = us.successor("third");
    world.agents[US].tell(&[&third]);
    until(async || world.infer(US).send().await.unwrap().status() == 200).await;
    assert!(third.served.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_wrongly_is_asked_only_when_nobody_else_can_be() {
    let (first, second, far) = (replica("us-1"), replica("us-2"), replica("eu-1"));
    let world = World::start(&[(US, &[&first, &second]), (EU, &[&far])]).await;
    world.ready(US).await;
    let told = |suspects: &[bool]| {
        let endpoints = [&first, &second].into_iter().zip(suspects);
        endpoints.map(|(replica, suspect)| Endpoint { suspect: *suspect, ..replica.endpoint() }).collect()
    };
    // Whether ten requests are answered by these alone.
    let only = async |replicas: &[&Replica]| {
        let served = || replicas.iter().map(|replica| replica.served()).sum::<u64>();
        let before = served();
        for _ in 0..10 {
            world.served_by(US).await;
        }
        served() == before + 10
    };
    world.agents[US].tell_of(told(&[true, false]));
    until(async || only(&[&second]).await).await;
    // Both: users go to the next region.
    world.agents[US].tell_of(told(&[true, true]));
    until(async || only(&[&far]).await).await;
    // Nobody is left but those two.
    far.kill();
    until(async || only(&[&first, &second]).await).await;
}
