//! Rollouts to regions that have no room for two revisions.

use tradewind_api::deploy::RollbackRequest;
use tradewind_core::rollout::strategy::Switch;

use super::*;

fn in_place(fleet: &Fleet, version: u64) -> DeployRequest {
    DeployRequest { switch: Some(Switch::InPlace), ..request(fleet, version) }
}

const OLD: [(Slot, RevisionNumber); 1] = [(Slot::Blue, RevisionNumber(1))];
const NEW: [(Slot, RevisionNumber); 1] = [(Slot::Green, RevisionNumber(2))];

#[tokio::test]
async fn regions_make_room_one_after_the_other_while_others_serve() {
    let (fleet, control) = serving(3).await;
    deploy(&fleet, DeployRequest { soak: Some(Span::from_secs(600)), ..in_place(&fleet, 2) }).await;
    let in_stage =
        |stage| move |rollout: &Rollout| rollout.state == RolloutState::Soaking && rollout.course.stage == stage;
    fleet.rollout(DEADLINE, in_stage(0)).await.unwrap();
    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.revision, live.regions), (Epoch(3), RevisionNumber(1), vec![region(1), region(2)]));
    assert_eq!(live.candidate.unwrap().state.regions, [region(0)]);
    assert_eq!((slots(&fleet, &region(0)).await, slots(&fleet, &region(1)).await), (NEW.to_vec(), OLD.to_vec()));
    fleet.promote(false).await.unwrap();
    fleet.rollout(DEADLINE, in_stage(1)).await.unwrap();
    assert_eq!(committed(&fleet).await.regions, [region(2)]);
    fleet.promote(false).await.unwrap();
    fleet.rollout(DEADLINE, in_stage(2)).await.unwrap();
    let live = committed(&fleet).await;
    // Two made room, two waves were moved, everybody was, and the last joined.
    assert_eq!((live.epoch, live.revision, live.regions.len()), (Epoch(7), RevisionNumber(2), 3));
    for region in fleet.regions() {
        assert_eq!(slots(&fleet, region).await, NEW);
    }
    // What served before is nowhere any more: the way back is the same.
    let back = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!((back.warm, back.revision), (false, RevisionNumber(3)));
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(committed(&fleet).await.regions.len(), 3);
    swept(&fleet, fleet.regions(), &[(Slot::Blue, RevisionNumber(3))]).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn what_made_room_comes_back_when_the_rollout_fails() {
    let (fleet, control) = serving(3).await;
    fleet.order(&region(1), Behaviour::AnswersWrongly);
    deploy(&fleet, in_place(&fleet, 2)).await;
    let rollout = finish(&fleet).await;
    assert_eq!((rollout.number.0, rollout.state), (2, RolloutState::Failed));
    let whole = fleet.changes(keys::route(&model()), DEADLINE, async |_| {
        Ok(Some(committed(&fleet).await).filter(|live| live.regions.len() == 3))
    });
    let live = whole.await.unwrap();
    assert_eq!((live.revision, live.candidate), (RevisionNumber(1), None));
    swept(&fleet, fleet.regions(), &OLD).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn nothing_is_emptied_before_gateways_know() {
    let (fleet, control) = serving(2).await;
    fleet.deafen(true);
    deploy(&fleet, in_place(&fleet, 2)).await;
    let gave_way = fleet.changes(keys::route(&model()), DEADLINE, async |_| {
        Ok(Some(committed(&fleet).await).filter(|live| live.regions == [region(1)]))
    });
    assert_eq!(gave_way.await.unwrap().epoch, Epoch(2));
    tokio::time::timeout(Duration::from_millis(700), begun(&fleet, &region(0), 2)).await.unwrap_err();
    assert_eq!(slots(&fleet, &region(0)).await, OLD);
    fleet.deafen(false);
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    swept(&fleet, fleet.regions(), &NEW).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_region_makes_room_only_where_others_can_take_its_users() {
    let (fleet, control) = serving(2).await;
    let scale = Some(ScaleChange { replicas: Some(1), concurrency: Some(4), ..ScaleChange::default() });
    deploy(&fleet, DeployRequest { scale, ..request(&fleet, 1) }).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    // Two gateways say it of the first region, one of the second.
    fleet.load(1.5);
    deploy(&fleet, in_place(&fleet, 2)).await;
    let paused = fleet.rollout(DEADLINE, |rollout| rollout.course.paused.is_some()).await.unwrap();
    let reason = "without r0000 there would be 5 requests in flight on replicas that take 4";
    assert_eq!(paused.course.paused.unwrap().reason, reason);
    assert_eq!(committed(&fleet).await.regions.len(), 2);
    fleet.load(1.0);
    fleet.resume().await.unwrap();
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn one_region_alone_cannot_make_room() {
    let (fleet, control) = serving(1).await;
    let refused = fleet.deploy(in_place(&fleet, 2)).await.unwrap_err();
    assert!(refused.detail.contains("it takes two waves at least"), "{refused}");
    control.stop().await;
    fleet.stop().await;
}
