//! How often a request is sent again, and which never is.

use std::{
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, mpsc},
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::post};
use tokio::{net::TcpStream, time::timeout};
use tradewind_core::Slot;

use crate::{
    replica::{Mood, Replica},
    world::{DEADLINE, EU, US, World, header, until},
};

const RETRIES: &str = "tradewind_gateway_retries_total";
const FULL: Mood = Mood::Fails(StatusCode::SERVICE_UNAVAILABLE);

fn replica(id: &str) -> Replica {
    Replica::start(id, Slot::Blue, 1, Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_full_is_not_the_last_word_and_asked_once() {
    let (good, full) = (replica("good"), replica("full"));
    let world = World::start(&[(US, &[&good, &full])]).await;
    full.behave(FULL);
    for _ in 0..3 {
        assert_eq!(world.served_by(US).await, US);
    }
    assert_eq!((good.served(), full.served()), (3, world.metric(US, RETRIES).await));

    good.behave(FULL);
    let before = good.served() + full.served();
    let refused = world.infer(US).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(good.served() + full.served() <= before + 2, "each of them once at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_is_sent_once() {
    let replicas = [replica("one"), replica("other")];
    let world = World::start(&[(US, &[&replicas[0], &replicas[1]])]).await;
    replicas.iter().for_each(|replica| replica.behave(FULL));
    let refused = world.infer(US).body(vec![b'x'; 100 << 10]).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(replicas[0].served() + replicas[1].served(), 1);
    assert_eq!(world.metric(US, RETRIES).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_have_a_budget() {
    let replicas = [replica("one"), replica("other")];
    let world = World::start(&[(US, &[&replicas[0], &replicas[1]])]).await;
    replicas.iter().for_each(|replica| replica.behave(FULL));
    let (asked, began) = (200, Instant::now());
    for _ in 0..asked {
        world.infer(US).send().await.unwrap();
    }
    let retries = world.metric(US, RETRIES).await;
    // A fifth, and three a second for each thread, of which there are as many as cores.
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    let most = asked / 5 + 3 * threads * (began.elapsed().as_secs() + 2);
    assert!(retries <= most && retries > 0, "{retries} retries, at most {most} are allowed");
    let refused = world.metric(US, "tradewind_gateway_retries_refused_total").await;
    assert!(refused >= asked - most, "{refused} were not sent again");
}

/// How many of them still accept connections.
async fn alive(replicas: &[Replica]) -> usize {
    let mut alive = 0;
    for replica in replicas {
        alive += usize::from(TcpStream::connect(replica.endpoint().address).await.is_ok());
    }
    alive
}

/// A replica that a certain request kills.
fn mortal(id: &str) -> Replica {
    let own: Arc<OnceLock<Replica>> = Arc::default();
    let mortal = Arc::clone(&own);
    let answer = async move |body: String| {
        if body == "death" {
            mortal.get().unwrap().kill();
            // The connection breaks without an answer.
            std::future::pending::<()>().await;
        }
        "alive"
    };
    let router = Router::new().route("/v2/models/digits/infer", post(answer));
    let replica = Replica::serving(id, router);
    own.set(replica.clone()).unwrap();
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_death_stops_after_two_replicas_and_crosses_no_region() {
    let here: Vec<Replica> = (0..3).map(|n| mortal(&format!("us-{n}"))).collect();
    let there = mortal("eu");
    let world = World::start(&[(US, &here.iter().collect::<Vec<_>>()), (EU, &[&there])]).await;
    let death = || world.infer(US).body("death").send();
    let answer = death().await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text().await.unwrap().contains("two replicas"));
    assert_eq!((alive(&here).await, alive(std::slice::from_ref(&there)).await), (1, 1));

    for _ in 0..3 {
        assert_eq!(death().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!((alive(&here).await, world.metric(US, "tradewind_gateway_doomed_total").await), (1, 3));
    let other = world.infer(US).body("life").send().await.unwrap();
    assert_eq!((other.status(), header(&other, "x-tradewind-region").as_str()), (StatusCode::OK, US));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_death_kills_one_replica_of_another_region() {
    let there: Vec<Replica> = (0..3).map(|n| mortal(&format!("eu-{n}"))).collect();
    let world = World::start(&[(US, &[]), (EU, &there.iter().collect::<Vec<_>>())]).await;
    let answer = world.infer(US).body("death").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(alive(&there).await, 2);
    until(async || world.infer(US).body("life").send().await.unwrap().status() == 200).await;
}

/// A replica whose first inference stops the whole process until the sender is used or dropped.
fn stopped_by_an_inference(id: &str) -> (Replica, mpsc::Sender<()>) {
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(Some(wait));
    let infer = move || {
        if let Some(wait) = wait.lock().unwrap().take() {
            // It has one thread.
            let _ = wait.recv();
        }
        std::future::ready("{}")
    };
    let infer = Arc::new(infer);
    let router = Router::new().route("/v2/models/{*rest}", post(move || infer()));
    (Replica::serving(id, router), go_on)
}

/// Connects until nobody more is let in.
async fn fill_backlog(address: SocketAddr) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        connections.push(connected.unwrap());
    }
    connections
}

/// Whether somebody waits to be let in there, as the kernel says.
fn somebody_dials(address: SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let there = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|columns| columns.get(2).is_some_and(|peer| peer.ends_with(&there)) && columns.get(3) == Some(&SYN_SENT))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_too_busy_to_take_a_connection_is_not_taken_for_dead() {
    let (us, go_on) = stopped_by_an_inference("us");
    let world = World::start(&[(US, &[&us])]).await;
    let first = tokio::spawn(world.infer(US).send());
    let waiting = fill_backlog(us.address()).await;
    let refused = world.infer(US).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);

    let patient = tokio::spawn(world.infer(US).send());
    until(async || somebody_dials(us.address())).await;
    drop(waiting);
    go_on.send(()).unwrap();
    assert_eq!(patient.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_a_replica_that_its_agent_found_hanging_first() {
    let (first, _stopped) = stopped_by_an_inference("us-1");
    let second = replica("us-2");
    let world = World::start(&[(US, &[&first, &second])]).await;
    let asked: Vec<_> = (0..4).map(|_| tokio::spawn(world.infer(US).send())).collect();
    // The others are where they are answered.
    until(async || asked.iter().any(|asked| asked.is_finished())).await;
    let mut hangs = first.endpoint();
    hangs.ready = false;
    world.agents[US].tell_of(vec![hangs, second.endpoint()]);
    for asked in asked {
        assert_eq!(timeout(DEADLINE, asked).await.unwrap().unwrap().unwrap().status(), StatusCode::OK);
    }
    assert!(world.metric(US, RETRIES).await > 0, "one of them was there");
}
