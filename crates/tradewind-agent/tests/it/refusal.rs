//! What an agent does not take up.

use tradewind_core::{Slot, assignment::SlotPhase};

use crate::{
    fake_replica::FakeModel,
    world::{World, blue_of, good},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_generation_or_revision_is_refused() {
    let mut world = World::start().await;
    let first = world.push(1, &good(), &[]);
    let second = world.push(2, &FakeModel { label: 8, ..good() }, &[]);
    world.assign(world.slot(1, first, 1));
    world.ready().await;
    let older = world.message(50, 2);
    world.assign(world.slot(2, second, 1));
    world.control.desired.send_replace(Some(world.message(51, 9)));
    world.ready().await;

    // An older assignment in a newer message, then an older message; each names revision 1.
    let mut stale = older.clone();
    stale.revision = 52;
    world.control.desired.send_replace(Some(stale));
    refused(&world, 1).await;
    world.control.desired.send_replace(Some(older));
    refused(&world, 2).await;

    // A newer one is taken up, so the others were seen.
    let mut newer = world.message(53, 10);
    newer.assignments[0].slots.get_mut(&Slot::Blue).unwrap().monitored = true;
    world.control.desired.send_replace(Some(newer));
    let slot = world.blue("monitored", |slot| slot.monitored).await;
    assert_eq!((slot.revision.0, slot.phase), (2, SlotPhase::Ready));
}

/// Waits until so many messages were refused, and checks that revision 2 serves.
async fn refused(world: &World, count: u64) {
    let line = format!("tradewind_agent_messages_refused_total{{region=\"us-east1\"}} {count}");
    loop {
        let metrics = world.get("/metrics", None).await.text().await.unwrap();
        if metrics.lines().any(|each| each == line) {
            break;
        }
        world.report("a heartbeat", |_| true).await;
    }
    let report = world.report("any", |_| true).await;
    let slot = blue_of(&report).unwrap();
    assert_eq!((slot.revision.0, &slot.phase), (2, &SlotPhase::Ready));
    assert_eq!(report.models[0].observed_generation.0, 9);
}
