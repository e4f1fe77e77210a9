//! Users who are moved to a revision that is there, or was.

use tradewind_api::{Code, deploy::RollbackRequest};
use tradewind_core::{deployment::Revision, rollout::RolloutKind};

use super::*;

/// Deploys a version whose soak does not end.
async fn soak(fleet: &Fleet, version: u64) -> Rollout {
    let soaking = DeployRequest { soak: Some(Span::from_secs(600)), ..request(fleet, version) };
    deploy(fleet, soaking).await;
    let rollout = fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();
    assert_eq!(rollout.revision, RevisionNumber(version));
    rollout
}

#[tokio::test]
async fn users_go_back_to_what_is_warm_in_one_transaction() {
    let fleet = Fleet::start(3, 3).await.unwrap();
    let control = fleet.control();
    soak(&fleet, 1).await;
    soak(&fleet, 2).await;
    let begun = fleet.begun().len();

    let answer = fleet.rollback(RollbackRequest::default()).await.unwrap();
    // Nobody has to do anything any more.
    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.live, live.revision), (Epoch(3), Slot::Blue, RevisionNumber(1)));
    assert_eq!(live.regions, fleet.regions());
    assert_eq!((answer.warm, answer.revision, answer.from), (true, RevisionNumber(1), Some(RevisionNumber(2))));

    let rollout = fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();
    assert_eq!((Some(rollout.number), rollout.kind), (answer.rollout, RolloutKind::Rollback));
    assert_eq!(rollout.steps.route.unwrap().detail, "epoch 3 acknowledged by 3 of 3 gateways");
    assert_eq!(fleet.begun().len(), begun, "no region is brought up again");
    for region in fleet.regions() {
        assert_eq!(slots(&fleet, region).await, [(Slot::Blue, RevisionNumber(1)), (Slot::Green, RevisionNumber(2))]);
    }
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn who_rolls_back_second_does_not_undo_what_the_first_did() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    soak(&fleet, 1).await;
    let only = fleet.rollback(RollbackRequest::default()).await.unwrap_err();
    assert_eq!(only.detail, "no revision of digits before 1 has served users and is not bad");
    soak(&fleet, 2).await;
    let by = || RollbackRequest { requested_by: "ada@lovelace".to_owned(), ..RollbackRequest::default() };
    fleet.rollback(by()).await.unwrap();
    let second = fleet.rollback(by()).await.unwrap_err();
    assert_eq!((second.code, second.detail), (Code::Refused, only.detail));

    // What was left is not brought back by accident.
    let bad = RollbackRequest { to: Some(RevisionNumber(2)), ..by() };
    let refused = fleet.rollback(bad.clone()).await.unwrap_err();
    assert_eq!(refused.detail, "ada@lovelace rolled digits back from revision 2");
    let refused = fleet.switch(Slot::Green).await.unwrap_err();
    assert_eq!(refused.detail, "digits was rolled back from revision 2");
    fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();
    let refused = fleet.deploy(request(&fleet, 2)).await.unwrap_err();
    assert!(
        refused.detail.starts_with("this is revision 2 of digits again, from which ada@lovelace rolled"),
        "{refused}"
    );

    let allowed = fleet.rollback(RollbackRequest { allow_bad: true, ..bad }).await.unwrap();
    assert_eq!((allowed.revision, allowed.epoch), (RevisionNumber(2), Some(Epoch(4))));
    // It is not bad any more.
    fleet.rollback(by()).await.unwrap();
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn what_is_gone_is_brought_up_and_verified_again() {
    let (fleet, control) = serving(2).await;
    deploy(&fleet, request(&fleet, 2)).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    swept(&fleet, fleet.regions(), &[(Slot::Green, RevisionNumber(2))]).await;

    let answer = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!((answer.warm, answer.revision, answer.version), (false, RevisionNumber(3), VersionNumber(1)));
    assert_eq!(committed(&fleet).await.revision, RevisionNumber(2), "users keep what they have meanwhile");
    let rollout = fleet.rollout(DEADLINE, |rollout| rollout.number.0 == 3 && rollout.state.is_final()).await.unwrap();
    assert_eq!((rollout.state, rollout.kind), (RolloutState::Succeeded, RolloutKind::Rollback));
    let live = committed(&fleet).await;
    assert_eq!((live.revision, live.version, live.epoch), (RevisionNumber(3), VersionNumber(1), Epoch(3)));
    for region in fleet.regions() {
        let record = record(&fleet, &rollout, region).await;
        assert_eq!((record.phase, record.attempt), (RegionPhase::Verified, 1));
    }
    let key = keys::revision(&model(), RevisionNumber(3));
    let revision = fleet.repository().get::<Revision>(key).await.unwrap().unwrap().value;
    assert_eq!(revision.copy_of, Some(RevisionNumber(1)));
    let further = fleet.rollback(RollbackRequest::default()).await.unwrap_err();
    assert_eq!(further.code, Code::Refused, "there is nothing before the one that it is again");
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn users_are_switched_to_the_other_slot_and_back() {
    let fleet = Fleet::start(2, 2).await.unwrap();
    let control = fleet.control();
    soak(&fleet, 1).await;
    let empty = fleet.switch(Slot::Green).await.unwrap_err();
    assert_eq!(empty.detail, "slot green of digits holds nothing");
    soak(&fleet, 2).await;
    for (to, revision, epoch) in [(Slot::Blue, 1, 3), (Slot::Green, 2, 4), (Slot::Blue, 1, 5)] {
        fleet.switch(to).await.unwrap();
        let live = committed(&fleet).await;
        assert_eq!((live.live, live.revision, live.epoch), (to, RevisionNumber(revision), Epoch(epoch)));
    }
    let same = fleet.switch(Slot::Blue).await.unwrap();
    assert_eq!((same.rollout, same.epoch), (None, Some(Epoch(5))));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_rollback_takes_over_from_a_deploy_that_is_under_way() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    soak(&fleet, 1).await;
    soak(&fleet, 2).await;
    fleet.order(&region(1), Behaviour::Hangs);
    let third = DeployRequest { version: Some(VersionNumber(1)), scale: scaled(2), ..request(&fleet, 1) };
    deploy(&fleet, third).await;
    begun(&fleet, &region(1), 3).await;
    let answer = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!((answer.warm, answer.revision), (false, RevisionNumber(4)), "its slot was given away");
    fleet.order(&region(1), Behaviour::Good);
    let is_there = |rollout: &Rollout| rollout.revision == RevisionNumber(4) && rollout.state.is_routed();
    fleet.rollout(DEADLINE, is_there).await.unwrap();
    assert_eq!(committed(&fleet).await.version, VersionNumber(1));
    control.stop().await;
    fleet.stop().await;
}
