//! Leaving regions, and leaving them all.

use tradewind_api::{Code, deploy::DeployRequest};
use tradewind_control::keys;
use tradewind_core::{Epoch, RevisionNumber, Slot, rollout::RolloutState};
use tradewind_testkit::fleet::{model, region};

use super::{DEADLINE, committed, deploy, finish, request, route, serving, slots, swept};

#[tokio::test]
async fn leaving_a_region_must_be_said() {
    let (fleet, control) = serving(3).await;
    let fewer = DeployRequest { regions: Some(vec![region(0), region(2)]), ..request(&fleet, 2) };
    let refused = fleet.deploy(fewer.clone()).await.expect_err("r0001 serves");
    assert_eq!(refused.code, Code::Refused);
    assert!(refused.detail.contains("r0001"), "{refused:?}");
    assert_eq!(slots(&fleet, &region(1)).await, [(Slot::Blue, RevisionNumber(1))]);

    deploy(&fleet, DeployRequest { prune: true, ..fewer }).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(committed(&fleet).await.regions, [region(0), region(2)]);
    swept(&fleet, &[region(1)], &[]).await;
    swept(&fleet, &[region(0), region(2)], &[(Slot::Green, RevisionNumber(2))]).await;
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn an_undeployed_model_is_forgotten_and_may_come_back() {
    let (fleet, control) = serving(3).await;
    fleet.undeploy().await.unwrap();
    fleet.forgotten(DEADLINE).await.unwrap();
    let left: Vec<String> = fleet.traces().await.unwrap().state.into_keys().collect();
    assert_eq!(left, [keys::undeployed(&model())], "nothing but its numbers");
    assert_eq!(route(&fleet).await, None);

    // Agents refuse generations that are not newer, and gateways epochs: those of the second life are.
    deploy(&fleet, request(&fleet, 2)).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    swept(&fleet, fleet.regions(), &[(Slot::Blue, RevisionNumber(2))]).await;
    assert_eq!(committed(&fleet).await.epoch, Epoch(2));
    control.stop().await;
    fleet.stop().await;
}
