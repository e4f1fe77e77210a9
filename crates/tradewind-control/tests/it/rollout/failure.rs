//! Rollouts that fail: nothing of them is left, and users notice nothing.

use tradewind_api::{Code, deploy::DeployRequest};
use tradewind_core::{
    RevisionNumber, Slot, VersionNumber,
    duration::Span,
    rollout::strategy::{MaxParallel, OnFailure},
    rollout::{Action, RegionPhase, RolloutState},
};
use tradewind_testkit::fleet::{Behaviour, Fleet, region};

use super::{begun, committed, deploy, finish, record, request, route, serving, swept};

#[tokio::test]
async fn a_region_that_answers_wrongly_stops_the_rollout_and_users_stay() {
    let (fleet, control) = serving(3).await;
    let before = route(&fleet).await;
    fleet.order(&region(1), Behaviour::AnswersWrongly);
    deploy(&fleet, request(&fleet, 2)).await;
    let rollout = finish(&fleet).await;

    assert_eq!(rollout.state, RolloutState::Failed);
    let failure = rollout.failure.as_ref().expect("a failed rollout says why");
    assert_eq!((failure.region.as_ref(), failure.action), (Some(&region(1)), Action::Verify));
    assert_eq!(failure.failure.causes, ["case 3: label expected 7, got 1"]);
    swept(&fleet, fleet.regions(), &[(Slot::Blue, RevisionNumber(1))]).await;
    assert_eq!(route(&fleet).await, before);
    let third =
        fleet.begun().into_iter().find(|begun| begun.region == region(2) && begun.revision == RevisionNumber(2));
    assert_eq!(third, None, "the fault was found before it spread");
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_is_followed_by_one_that_succeeds() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    fleet.order(&region(0), Behaviour::FailsFirst);
    deploy(&fleet, DeployRequest { retries: Some(1), ..request(&fleet, 1) }).await;
    let rollout = finish(&fleet).await;

    assert_eq!(rollout.state, RolloutState::Succeeded);
    assert_eq!(record(&fleet, &rollout, &region(0)).await.attempt, 2);
    let attempts: Vec<u32> = fleet.begun().into_iter().map(|begun| begun.attempt).collect();
    assert_eq!(attempts, [1, 2, 1]);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn on_failure_continue_routes_the_others() {
    let (fleet, control) = serving(3).await;
    fleet.order(&region(2), Behaviour::AnswersWrongly);
    let on_failure = Some(OnFailure::Continue);
    deploy(&fleet, DeployRequest { on_failure, max_parallel: Some(MaxParallel::All), ..request(&fleet, 2) }).await;
    let rollout = finish(&fleet).await;

    assert_eq!(rollout.state, RolloutState::Succeeded);
    assert_eq!(committed(&fleet).await.regions, [region(0), region(1)]);
    assert_eq!(record(&fleet, &rollout, &region(2)).await.phase, RegionPhase::Failed);
    swept(&fleet, &[region(0), region(1)], &[(Slot::Green, RevisionNumber(2))]).await;
    swept(&fleet, &[region(2)], &[]).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_region_that_falls_silent_while_it_is_worked_on_is_noticed() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    // It never gets beyond its first attempt, which it does not end either: nothing but its silence tells.
    fleet.order(&region(0), Behaviour::Hangs);
    deploy(&fleet, request(&fleet, 1)).await;
    begun(&fleet, &region(0), 1).await;
    fleet.order(&region(0), Behaviour::Silent);
    let rollout = finish(&fleet).await;

    let failure = rollout.failure.expect("a failed rollout says why");
    assert!(failure.failure.message.contains("r0000"), "{failure:?}");
    assert_eq!(failure.action, Action::Deploy);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_second_deploy_before_the_switch_must_say_that_it_takes_over() {
    let (fleet, control) = serving(2).await;
    fleet.order(&region(0), Behaviour::Hangs);
    deploy(&fleet, request(&fleet, 2)).await;
    let third = DeployRequest { standby: Some(Span::from_millis(1)), ..request(&fleet, 1) };
    let refused = fleet.deploy(DeployRequest { regions: Some(vec![region(0)]), prune: true, ..third.clone() }).await;
    let refused = refused.expect_err("a rollout is under way");
    assert_eq!(refused.code, Code::Refused);
    assert!(refused.hint.as_deref().is_some_and(|hint| hint.contains("--replace")), "{refused:?}");

    fleet.order(&region(0), Behaviour::Good);
    let replace = DeployRequest {
        regions: Some(vec![region(1)]),
        prune: true,
        replace: true,
        version: Some(VersionNumber(1)),
        ..third
    };
    deploy(&fleet, replace).await;
    let rollout = finish(&fleet).await;
    assert_eq!((rollout.state, rollout.revision), (RolloutState::Succeeded, RevisionNumber(3)));
    swept(&fleet, &[region(1)], &[(Slot::Green, RevisionNumber(3))]).await;
    swept(&fleet, &[region(0)], &[]).await;
    assert_eq!(committed(&fleet).await.regions, [region(1)]);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn an_aborted_rollout_leaves_nothing_behind() {
    let (fleet, control) = serving(2).await;
    let before = route(&fleet).await;
    fleet.order(&region(1), Behaviour::Hangs);
    deploy(&fleet, request(&fleet, 2)).await;
    begun(&fleet, &region(1), 2).await;
    fleet.abort().await.unwrap();

    assert_eq!(finish(&fleet).await.state, RolloutState::Failed);
    swept(&fleet, fleet.regions(), &[(Slot::Blue, RevisionNumber(1))]).await;
    assert_eq!(route(&fleet).await, before);
    control.stop().await;
    fleet.stop().await;
}
