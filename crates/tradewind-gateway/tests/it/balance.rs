//! How requests spread over the replicas of a region.

use std::time::Duration;

use tradewind_core::Slot;

use crate::{
    replica::Replica,
    world::{US, World, until},
};

const QUICK: Duration = Duration::from_millis(5);

async fn spread(replicas: &[Replica], users: usize) -> Vec<u64> {
    let world = World::start(&[(US, &replicas.iter().collect::<Vec<_>>())]).await;
    let load = world.load(US, users);
    let all = || replicas.iter().map(Replica::served).sum::<u64>();
    until(async || all() >= 60 * replicas.len() as u64).await;
    let answers = load.stop().await;
    assert!(answers.failed.is_empty(), "{:?}", answers.failed.first());
    replicas.iter().map(Replica::served).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_and_many_replicas_share_the_requests() {
    for count in [4, 12] {
        let replicas: Vec<Replica> =
            (0..count).map(|n| Replica::start(&format!("us-{n}"), Slot::Blue, 1, QUICK)).collect();
        let served = spread(&replicas, 2 * count).await;
        let mean = served.iter().sum::<u64>() / count as u64;
        assert!(served.iter().all(|served| *served >= mean / 4 && *served <= mean * 3), "{served:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_the_slow_one_gets_less() {
    let mut replicas: Vec<Replica> =
        (0..11).map(|n| Replica::start(&format!("us-{n}"), Slot::Blue, 1, QUICK)).collect();
    replicas.push(Replica::start("us-slow", Slot::Blue, 1, 20 * QUICK));
    let served = spread(&replicas, 24).await;
    let (slow, quick) = served.split_last().unwrap();
    let mean = quick.iter().sum::<u64>() / quick.len() as u64;
    assert!(*slow > 0 && slow * 3 < mean, "{served:?}");
}
