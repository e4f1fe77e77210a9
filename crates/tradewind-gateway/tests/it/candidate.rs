//! Some users get another revision than all others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tradewind_core::{
    Epoch, RevisionNumber, Slot, Timestamp,
    pins::{Pin, Pins},
    route::{Candidate, Route, RouteState, Users},
    traffic::Bucket,
};
use tradewind_gateway::{GatewayOptions, UserKey};

use crate::{
    process::listener,
    replica::Replica,
    world::{EU, Gateway, US, World, header, model, region, state, until},
};

const SALT: u64 = 7;

fn replica(id: &str, slot: Slot, revision: u64) -> Replica {
    Replica::start(id, slot, revision, Duration::ZERO)
}

pub(crate) fn share(percent: f64) -> Users {
    Users::Share { share: percent.try_into().unwrap(), salt: SALT, allow: BTreeSet::new() }
}

/// Revision 1 in slot blue for all but those users, who get revision 2 in slot green.
pub(crate) fn split(epoch: u64, regions: &[&str], users: Users, of_candidate: &[&str]) -> RouteState {
    let named = |names: &[&str]| names.iter().map(|name| region(name)).collect();
    let own =
        RouteState { revision: RevisionNumber(2), epoch: Epoch(epoch), ..state(2, Slot::Green, named(of_candidate)) };
    let candidate = Some(Box::new(Candidate { users, state: own }));
    RouteState { epoch: Epoch(epoch), candidate, ..state(1, Slot::Blue, named(regions)) }
}

async fn commit(world: &World, state: RouteState) {
    let epoch = state.epoch.0;
    let route = Route { model: model(), committed: Some(state), prepared: None, pins: Default::default() };
    world.control.change(|snapshot| snapshot.routes = vec![route]);
    for name in world.gateways.keys() {
        world.control.committed(name, epoch).await;
    }
}

/// The slot that a user gets, and the revision and the region.
async fn given(world: &World, gateway: &str, user: &str) -> (String, String, String) {
    let response = world.infer(gateway).header("x-tradewind-user", user).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let of = |name| header(&response, name);
    (of("x-tradewind-slot"), of("x-tradewind-revision"), of("x-tradewind-region"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_users_gets_the_candidate_and_keeps_it_on_every_gateway() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let (eu, eu_new) = (replica("eu", Slot::Blue, 1), replica("eu-new", Slot::Green, 2));
    let world = World::start(&[(US, &[&us, &us_new]), (EU, &[&eu, &eu_new])]).await;
    let mut given_before: BTreeMap<String, String> = BTreeMap::new();
    for (epoch, percent) in [(2, 10.0), (3, 50.0), (4, 100.0)] {
        commit(&world, split(epoch, &[US, EU], share(percent), &[US, EU])).await;
        for number in 0..100 {
            let user = format!("user-{number}");
            let gateway = if number % 2 == 0 { US } else { EU };
            let (slot, revision, _) = given(&world, gateway, &user).await;
            let is_in = Bucket::of_key(SALT, user.as_bytes()).within(percent / 100.0);
            assert_eq!(
                (slot.as_str(), revision.as_str()),
                if is_in { ("green", "2") } else { ("blue", "1") },
                "{user}"
            );
            let before = given_before.insert(user.clone(), slot.clone());
            assert!(before.is_none_or(|before| before == "blue" || slot == "green"), "{user} went back");
        }
    }
    let green = given_before.values().filter(|slot| *slot == "green").count();
    assert_eq!(green, 100);
    // One without a key is in no share for good, and in each by its size.
    commit(&world, split(5, &[US, EU], share(50.0), &[US, EU])).await;
    let mut slots: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..100 {
        let response = world.infer(US).send().await.unwrap();
        *slots.entry(header(&response, "x-tradewind-slot")).or_default() += 1;
    }
    assert!(slots.values().all(|count| (20..=80).contains(count)), "{slots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_key_is_where_the_gateway_is_told_that_it_is() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let mut world = World::start(&[(US, &[&us, &us_new])]).await;
    let users = Users::Share { share: 0.0.try_into().unwrap(), salt: SALT, allow: ["ada".to_owned()].into() };
    commit(&world, split(2, &[US], users, &[US])).await;
    let keys = [UserKey::Cookie("uid".to_owned()), UserKey::Header("x-account".parse().unwrap())];
    for (key, ada) in keys.into_iter().zip([("cookie", "theme=dark; uid=ada"), ("x-account", "ada")]) {
        world.gateways.get_mut(US).unwrap().stop().await;
        let directory = world.directory.path().join(US);
        let with_key = |options: &mut GatewayOptions| options.user_key = Some(key);
        world.gateways.insert(US, Gateway::with(US, listener(), world.control.url(), directory, with_key));
        world.ready(US).await;
        for ((name, value), slot) in [(ada, "green"), (("x-tradewind-user", "ada"), "blue")] {
            let response = world.infer(US).header(name, value).send().await.unwrap();
            assert_eq!(header(&response, "x-tradewind-slot"), slot, "{name}: {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_wave_get_the_candidate_wherever_they_enter() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let eu = replica("eu", Slot::Blue, 1);
    let world = World::start(&[(US, &[&us, &us_new]), (EU, &[&eu])]).await;
    commit(&world, split(2, &[US, EU], Users::OfRegions([region(US)].into()), &[US])).await;
    assert_eq!(given(&world, US, "ada").await, ("green".into(), "2".into(), US.into()));
    assert_eq!(given(&world, EU, "ada").await, ("blue".into(), "1".into(), EU.into()));
    // A user of the wave's region who enters elsewhere is sent home, to what has been chosen there.
    let request = world.infer(EU).header("x-tradewind-client-region", US);
    let response = request.send().await.unwrap();
    let of = |name| header(&response, name);
    assert_eq!((of("x-tradewind-slot"), of("x-tradewind-region")), ("green".to_owned(), US.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_the_candidate_gets_what_is_live_when_nobody_has_it_any_more() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let world = World::start(&[(US, &[&us, &us_new])]).await;
    commit(&world, split(2, &[US], share(100.0), &[US])).await;
    assert_eq!(given(&world, US, "ada").await.0, "green");
    us_new.kill();
    world.agents[US].tell(&[&us]);
    until(async || given(&world, US, "ada").await.0 == "blue").await;
    let blue = r#"tradewind_gateway_requests_total{model="digits",region="us-east1",slot="blue",outcome="ok"}"#;
    assert!(world.metric(US, blue).await > 0, "it is counted where it was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_prepared_when_both_revisions_can_be_served() {
    let us = replica("us", Slot::Blue, 1);
    let world = World::start(&[(US, &[&us])]).await;
    let offered = split(2, &[US], share(10.0), &[US]);
    world.control.change(|snapshot| snapshot.routes[0].prepared = Some(offered));
    let refused = world.control.reported(US, |report| report.refused.is_some()).await;
    assert!(refused.refused.unwrap().contains("epoch 2 is not prepared"));
    assert_eq!(given(&world, US, "ada").await.0, "blue", "what is prepared is not served");
    let us_new = replica("us-new", Slot::Green, 2);
    world.agents[US].tell(&[&us, &us_new]);
    world.control.reported(US, |report| report.prepared.get(&model()) == Some(&Epoch(2))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_allowed_gets_a_canary_before_any_share_does() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let world = World::start(&[(US, &[&us, &us_new])]).await;
    let allow = BTreeSet::from(["ada".to_owned()]);
    let nobody_else = Users::Share { share: 0.0.try_into().unwrap(), salt: SALT, allow };
    commit(&world, split(2, &[US], nobody_else, &[US])).await;
    assert_eq!(given(&world, US, "ada").await.0, "green");
    assert_eq!(given(&world, US, "bob").await.0, "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_pinned_gets_that_and_is_told_when_it_is_gone() {
    let (us, us_new) = (replica("us", Slot::Blue, 1), replica("us-new", Slot::Green, 2));
    let (eu, eu_new) = (replica("eu", Slot::Blue, 1), replica("eu-new", Slot::Green, 2));
    let world = World::start(&[(US, &[&us, &us_new]), (EU, &[&eu, &eu_new])]).await;
    let until = |seconds: i64| Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap();
    let pin = |to: &str, seconds| Pin { to: to.parse().unwrap(), until: until(seconds) };
    let pins = [
        ("late", pin("candidate", -1)),
        ("live", pin("live", 60)),
        ("new", pin("candidate", 60)),
        ("second", pin("2", 60)),
        ("seventh", pin("7", 60)),
    ];
    let pins = Arc::new(Pins { users: pins.map(|(user, pin)| (user.to_owned(), pin)).into(), tables: Vec::new() });
    let state = split(2, &[US, EU], share(100.0), &[US, EU]);
    let route = Route { model: model(), committed: Some(state), prepared: None, pins };
    world.control.change(|snapshot| snapshot.routes = vec![route]);
    for name in [US, EU] {
        world.control.committed(name, 2).await;
    }
    for (user, slot, told) in [
        ("late", "green", ""),
        ("live", "blue", "live"),
        ("new", "green", "candidate"),
        ("second", "green", "revision"),
        ("seventh", "blue", "retired"),
    ] {
        for from in [US, EU] {
            // The gateway of one region passes on what it has chosen to the other.
            let request = world.infer(US).header("x-tradewind-user", user).header("x-tradewind-client-region", from);
            let response = request.send().await.unwrap();
            let of = |name| header(&response, name);
            let given = (of("x-tradewind-slot"), of("x-tradewind-pin"), of("x-tradewind-region"));
            assert_eq!(given, (slot.to_owned(), told.to_owned(), from.to_owned()), "{user} from {from}");
        }
    }
}
