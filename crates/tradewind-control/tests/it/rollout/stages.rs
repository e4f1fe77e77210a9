//! Rollouts that move users in stages, and what people tell them on their way.

use std::collections::BTreeSet;

use tradewind_api::{
    Code,
    deploy::{PinRequest, RollbackRequest, UnpinRequest},
};
use tradewind_core::{
    deployment::Deployment,
    rollout::strategy::{OnFailure, Percent, Switch},
    route::{Candidate, Users},
};

use super::*;

fn percent(share: f64) -> Percent {
    share.try_into().unwrap()
}

/// Version 2 as a canary that soaks until somebody promotes it.
fn canary(fleet: &Fleet, shares: &[f64]) -> DeployRequest {
    DeployRequest {
        canary: Some(shares.iter().map(|share| percent(*share)).collect()),
        soak: Some(Span::from_secs(600)),
        ..request(fleet, 2)
    }
}

async fn soaking(fleet: &Fleet, stage: u32) -> Rollout {
    let is_there = |rollout: &Rollout| rollout.state == RolloutState::Soaking && rollout.course.stage == stage;
    fleet.rollout(DEADLINE, is_there).await.unwrap()
}

async fn candidate(fleet: &Fleet) -> Option<Candidate> {
    committed(fleet).await.candidate.map(|candidate| *candidate)
}

async fn deployment(fleet: &Fleet) -> Deployment {
    fleet.repository().get::<Deployment>(keys::deployment(&model())).await.unwrap().unwrap().value
}

#[tokio::test]
async fn a_canary_takes_more_users_from_step_to_step() {
    let (fleet, control) = serving(2).await;
    deploy(&fleet, canary(&fleet, &[10.0, 50.0])).await;
    let rollout = soaking(&fleet, 0).await;
    let live = committed(&fleet).await;
    assert_eq!(
        (live.epoch, live.live, live.revision),
        (Epoch(2), Slot::Blue, RevisionNumber(1)),
        "most keep what they had"
    );
    let Candidate { users, state } = candidate(&fleet).await.unwrap();
    assert_eq!((state.epoch, state.live, state.revision), (Epoch(2), Slot::Green, RevisionNumber(2)));
    assert_eq!(state.regions, fleet.regions());
    let salt = rollout.salt();
    assert_eq!(users, Users::Share { share: percent(10.0), salt, allow: BTreeSet::new() });
    assert_eq!(deployment(&fleet).await.live, Some(RevisionNumber(1)));
    let detail = rollout.steps.route.unwrap().detail;
    assert_eq!(detail, "epoch 2 for 10 % of users acknowledged by 3 of 3 gateways");

    fleet.promote(false).await.unwrap();
    soaking(&fleet, 1).await;
    let users = candidate(&fleet).await.unwrap().users;
    assert_eq!(users, Users::Share { share: percent(50.0), salt, allow: BTreeSet::new() }, "the same users stay in it");
    fleet.promote(false).await.unwrap();
    let rollout = soaking(&fleet, 2).await;
    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.live, live.candidate), (Epoch(4), Slot::Green, None));
    assert_eq!(deployment(&fleet).await.live, Some(RevisionNumber(2)));
    assert_eq!(rollout.course.passed.iter().map(|stage| stage.soak).collect::<Vec<_>>(), [Soak::Skipped; 2]);
    assert_eq!(fleet.begun().len(), 4, "nothing is brought up twice");
    // Everybody has it: going back is a rollback like any other.
    let back = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!((back.warm, back.revision, back.epoch), (true, RevisionNumber(1), Some(Epoch(5))));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn waves_take_the_users_of_their_regions() {
    let (fleet, control) = serving(3).await;
    let waves = vec![vec![region(2)], vec![region(0), region(1)]];
    let waves = DeployRequest { waves: Some(waves), switch: Some(Switch::Wave), ..canary(&fleet, &[]) };
    deploy(&fleet, DeployRequest { canary: None, ..waves }).await;
    soaking(&fleet, 0).await;
    let Candidate { users, state } = candidate(&fleet).await.unwrap();
    assert_eq!((users, state.regions), (Users::OfRegions([region(2)].into()), vec![region(2)]));
    assert_eq!(slots(&fleet, &region(0)).await, [(Slot::Blue, RevisionNumber(1))], "its turn has not come");
    fleet.promote(false).await.unwrap();
    soaking(&fleet, 1).await;
    let live = committed(&fleet).await;
    assert_eq!(
        (live.revision, live.regions, live.candidate),
        (RevisionNumber(2), vec![region(2), region(0), region(1)], None)
    );
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn who_has_a_canary_is_taken_back_before_its_replicas_go() {
    let (fleet, control) = serving(2).await;
    deploy(&fleet, canary(&fleet, &[10.0])).await;
    soaking(&fleet, 0).await;
    fleet.deafen(true);
    fleet.abort().await.unwrap();
    let live = committed(&fleet).await;
    assert_eq!((live.epoch, live.revision, live.candidate), (Epoch(3), RevisionNumber(1), None));
    let rollout = finish(&fleet).await;
    assert_eq!((rollout.state, rollout.course.taken_back), (RolloutState::Failed, Some(Epoch(3))));
    // Gateways send users there until they know, so nothing is taken away and nothing is put in its place.
    let both = [(Slot::Blue, RevisionNumber(1)), (Slot::Green, RevisionNumber(2))];
    deploy(&fleet, DeployRequest { scale: scaled(2), ..canary(&fleet, &[20.0]) }).await;
    tokio::time::timeout(Duration::from_millis(700), begun(&fleet, &region(0), 3)).await.unwrap_err();
    for region in fleet.regions() {
        assert_eq!(slots(&fleet, region).await, both);
    }
    fleet.deafen(false);
    soaking(&fleet, 0).await;
    assert_eq!(candidate(&fleet).await.unwrap().state.revision, RevisionNumber(3), "the fix takes its place");
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn rolling_back_a_canary_ends_it_and_remembers_it_as_bad() {
    let (fleet, control) = serving(2).await;
    deploy(&fleet, canary(&fleet, &[10.0])).await;
    soaking(&fleet, 0).await;
    let answer = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!(
        (answer.revision, answer.from, answer.epoch),
        (RevisionNumber(1), Some(RevisionNumber(2)), Some(Epoch(3)))
    );
    assert_eq!(candidate(&fleet).await, None);
    assert!(deployment(&fleet).await.bad.contains_key(&RevisionNumber(2)));
    let again = fleet.deploy(request(&fleet, 2)).await.unwrap_err();
    assert_eq!(again.code, Code::Refused, "{again}");
    // It has never served everybody: nothing goes back to it.
    let further = fleet.rollback(RollbackRequest::default()).await.unwrap_err();
    assert_eq!(further.detail, "no revision of digits before 1 has served users and is not bad");
    swept(&fleet, fleet.regions(), &[(Slot::Blue, RevisionNumber(1))]).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_deploy_takes_over_from_a_canary_only_when_told_to() {
    let (fleet, control) = serving(2).await;
    deploy(&fleet, canary(&fleet, &[10.0])).await;
    soaking(&fleet, 0).await;
    let other = DeployRequest { version: Some(VersionNumber(1)), ..canary(&fleet, &[20.0]) };
    let other = DeployRequest { scale: scaled(2), ..other };
    let refused = fleet.deploy(other.clone()).await.unwrap_err();
    assert_eq!(refused.detail, "a rollout of digits to revision 2 is under way");
    deploy(&fleet, DeployRequest { replace: true, ..other }).await;
    soaking(&fleet, 0).await;
    let state = candidate(&fleet).await.unwrap().state;
    assert_eq!(
        (state.revision, state.epoch),
        (RevisionNumber(3), Epoch(4)),
        "one epoch to take users back, one to move others"
    );
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn what_fails_asks_a_person_who_may_have_it_tried_again() {
    let (fleet, control) = serving(2).await;
    fleet.order(&region(1), Behaviour::AnswersWrongly);
    deploy(&fleet, DeployRequest { on_failure: Some(OnFailure::Pause), ..request(&fleet, 2) }).await;
    let is_paused = |rollout: &Rollout| rollout.course.paused.is_some();
    let paused = fleet.rollout(DEADLINE, is_paused).await.unwrap();
    assert_eq!((paused.state, paused.course.paused.unwrap().by), (RolloutState::Regions, None));
    fleet.order(&region(1), Behaviour::Good);
    fleet.resume().await.unwrap();
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(committed(&fleet).await.regions.len(), 2);
    let over = fleet.resume().await.unwrap_err();
    assert_eq!((over.code, over.detail), (Code::Refused, "rollout 2 of digits: it has ended".to_owned()));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_person_pauses_and_aborts_at_every_step() {
    for stage in 0..2 {
        let (fleet, control) = serving(2).await;
        deploy(&fleet, canary(&fleet, &[10.0])).await;
        for stage in 0..stage {
            soaking(&fleet, stage).await;
            fleet.promote(false).await.unwrap();
        }
        soaking(&fleet, stage).await;
        fleet.pause().await.unwrap();
        let refused = fleet.pause().await.unwrap_err();
        assert_eq!(refused.detail, "rollout 2 of digits: it is paused already");
        fleet.abort().await.unwrap();
        let live = committed(&fleet).await;
        assert_eq!((live.revision, live.candidate), (RevisionNumber(1), None), "stage {stage}");
        control.stop().await;
        fleet.stop().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_before_anything_happens() {
    let (fleet, control) = serving(2).await;
    let check = async |request: DeployRequest, expected: &str| {
        let refused = fleet.deploy(request).await.unwrap_err();
        assert_eq!(refused.code, Code::Invalid, "{refused}");
        assert!(refused.detail.contains(expected), "{refused}");
    };
    check(DeployRequest { switch: Some(Switch::Wave), ..canary(&fleet, &[10.0]) }, "shares of users are for").await;
    check(canary(&fleet, &[50.0, 10.0]), "grow from step to step").await;
    check(DeployRequest { waves: Some(vec![vec![region(0)]]), ..request(&fleet, 2) }, "no wave names r0001").await;
    check(DeployRequest { first: Some(vec![region(7)]), ..request(&fleet, 2) }, "first names r0007").await;
    assert_eq!(deployment(&fleet).await.latest_revision, RevisionNumber(1));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn users_stay_where_they_are_until_the_new_replicas_can_take_them() {
    let (fleet, control) = serving(2).await;
    // Two gateways say it of the first region.
    fleet.load(4.5);
    let scale = Some(ScaleChange { replicas: Some(2), concurrency: Some(4), ..ScaleChange::default() });
    deploy(&fleet, DeployRequest { scale, ..request(&fleet, 2) }).await;
    let holds = |rollout: &Rollout| {
        let route = rollout.steps.route.as_ref();
        route.is_some_and(|step| step.detail == "epoch 2 waits: r0000 has too few replicas for its users")
    };
    fleet.rollout(DEADLINE, holds).await.unwrap();
    assert_eq!(committed(&fleet).await.revision, RevisionNumber(1));
    fleet.load(4.0);
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    control.stop().await;
    fleet.stop().await;
}

fn pin(users: &[&str], to: &str) -> PinRequest {
    let users = users.iter().map(|user| (*user).to_owned()).collect();
    PinRequest { users, table: None, to: to.parse().unwrap(), lasts: None, requested_by: String::new() }
}

#[tokio::test]
async fn pins_are_part_of_the_route_through_whatever_becomes_of_it() {
    let (fleet, control) = serving(2).await;
    let pinned = fleet.pin(pin(&["ada"], "candidate")).await.unwrap();
    assert_eq!(pinned.committed.unwrap().epoch, Epoch(2), "numbered as every change of what users get");
    deploy(&fleet, canary(&fleet, &[10.0])).await;
    soaking(&fleet, 0).await;
    fleet.pin(pin(&["bob", "carol"], "live")).await.unwrap();
    let Candidate { state, .. } = candidate(&fleet).await.unwrap();
    assert_eq!((state.epoch, state.revision), (Epoch(4), RevisionNumber(2)), "the canary goes on");
    fleet.promote(true).await.unwrap();
    soaking(&fleet, 1).await;
    let users: Vec<String> = route(&fleet).await.unwrap().pins.users.keys().cloned().collect();
    assert_eq!(users, ["ada", "bob", "carol"]);
    let unpin = UnpinRequest { users: vec!["dave".to_owned()], ..UnpinRequest::default() };
    let unknown = fleet.unpin(unpin).await.unwrap_err();
    assert_eq!((unknown.code, unknown.detail.as_str()), (Code::NotFound, "`dave` is not pinned"));
    fleet.unpin(UnpinRequest { all: true, ..UnpinRequest::default() }).await.unwrap();
    assert!(route(&fleet).await.unwrap().pins.is_empty());
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn who_is_pinned_to_what_served_before_gets_it_as_long_as_it_is_there() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    let long = || DeployRequest { soak: Some(Span::from_secs(600)), ..request(&fleet, 1) };
    deploy(&fleet, long()).await;
    soaking(&fleet, 0).await;
    deploy(&fleet, DeployRequest { version: Some(VersionNumber(2)), ..long() }).await;
    let second = |rollout: &Rollout| rollout.number.0 == 2 && rollout.state == RolloutState::Soaking;
    fleet.rollout(DEADLINE, second).await.unwrap();
    let gone = fleet.pin(pin(&["ada"], "7")).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound, "{gone}");
    fleet.pin(pin(&["ada"], "1")).await.unwrap();
    let Candidate { users, state } = candidate(&fleet).await.unwrap();
    assert_eq!((state.live, state.revision, state.epoch), (Slot::Blue, RevisionNumber(1), Epoch(3)));
    assert!(!users.include(&region(0), Some(b"bob"), || 0), "nobody else gets it");
    // A rollback is not taken for one of the rollout that everybody has.
    let back = fleet.rollback(RollbackRequest::default()).await.unwrap();
    assert_eq!((back.warm, back.revision), (true, RevisionNumber(1)));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn nobody_is_pinned_by_mistake() {
    let (fleet, control) = serving(1).await;
    let check = async |request: PinRequest, code, expected: &str| {
        let refused = fleet.pin(request).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.detail.contains(expected), "{refused}");
    };
    check(pin(&[], "live"), Code::Invalid, "no user is named").await;
    check(pin(&[""], "live"), Code::Invalid, "no key of a user").await;
    check(pin(&["a\nb"], "live"), Code::Invalid, "no key of a user").await;
    let long = Some(Span::from_secs(10 * 366 * 24 * 3600));
    check(PinRequest { lasts: long, ..pin(&["ada"], "live") }, Code::Invalid, "lasts at most").await;
    let many: Vec<String> = (0..1001).map(|number| format!("user-{number}")).collect();
    check(PinRequest { users: many, ..pin(&[], "live") }, Code::TooLarge, "at most 1000 users").await;
    control.stop().await;
    fleet.stop().await;
}
