//! A number of replicas that a person has set, beside what revisions say.

use tradewind_api::{
    Problem,
    deploy::{ScaleAnswer, ScaleRequest},
};
use tradewind_control::admission;
use tradewind_core::{Timestamp, deployment::Deployment, scaler::ByHand};

use super::*;

async fn by_hand(fleet: &Fleet, region: &RegionName) -> Option<ByHand> {
    let key = keys::assignment(region, &model());
    fleet.repository().get::<Assignment>(key).await.unwrap().and_then(|kept| kept.value.by_hand)
}

#[tokio::test]
async fn it_outlives_revisions_and_ends_when_it_is_given_back() {
    let (fleet, control) = serving(2).await;
    let scale = async |region: RegionName, replicas| -> Result<ScaleAnswer, Problem> {
        let deployment = fleet.repository().get::<Deployment>(keys::deployment(&model())).await.unwrap().unwrap();
        let request = ScaleRequest { region, replicas, requested_by: "ada@lovelace".to_owned() };
        admission::scale(fleet.repository(), &deployment.value, &request, Timestamp::now()).await
    };
    let answer = scale(region(0), Some(20)).await.unwrap();
    assert_eq!((answer.replicas, answer.before, answer.revision_says.as_str()), (Some(20), None, "1"));
    let set = by_hand(&fleet, &region(0)).await.unwrap();
    assert_eq!((set.replicas, set.by.as_str()), (20, "ada@lovelace"));

    deploy(&fleet, DeployRequest { scale: scaled(3), ..request(&fleet, 2) }).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(by_hand(&fleet, &region(0)).await, Some(set));
    assert_eq!(by_hand(&fleet, &region(1)).await, None);

    let answer = scale(region(0), None).await.unwrap();
    assert_eq!((answer.replicas, answer.before, answer.revision_says.as_str()), (None, Some(20), "3"));
    assert_eq!(by_hand(&fleet, &region(0)).await, None);
    for (region, replicas, detail) in [
        (region(0), Some(0), "nobody would serve the region's users"),
        (region(0), Some(1001), "replicas are between 1 and 1000, not 1001"),
        ("mars".parse().unwrap(), Some(1), "digits does not run in mars"),
    ] {
        assert_eq!(scale(region, replicas).await.unwrap_err().detail, detail);
    }
    control.stop().await;
    fleet.stop().await;
}
