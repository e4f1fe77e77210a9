//! Deployments, as people see them, carried out by fake agents and gateways.

use tokio::time::timeout;
use tradewind_api::{
    Code,
    deploy::{DecisionRequest, DeployRequest, RolloutView},
    ndjson,
    status::{DeploymentProgress, SlotState, VerificationProgress},
};
use tradewind_core::{
    RevisionNumber, Slot, VersionNumber,
    duration::Span,
    rollout::{RolloutState, Soak, StepResult},
};
use tradewind_testkit::eventually;

use crate::{
    control::{Control, DEADLINE, map, model, problem, region},
    members::{Member, agent, gateway},
};

const REGIONS: [&str; 2] = ["us-east1", "europe-west1"];

fn request() -> DeployRequest {
    DeployRequest {
        regions: Some(REGIONS.map(region).to_vec()),
        retries: Some(0),
        soak: Some(Span::from_millis(200)),
        standby: Some(Span::from_secs(600)),
        requested_by: "ada@lovelace".to_owned(),
        ..DeployRequest::default()
    }
}

async fn world(control: &Control, bad_revision: Option<u64>) -> Vec<Member> {
    let members: Vec<Member> =
        REGIONS.into_iter().flat_map(|name| [agent(control, name, bad_revision), gateway(control, name)]).collect();
    let all_report = || async {
        let regions = control.admin.regions().await.unwrap().regions;
        regions.iter().all(|region| region.healthy).then_some(())
    };
    eventually("all members report", DEADLINE, all_report).await.unwrap();
    members
}

/// Every message of a watch, until it ends by itself.
async fn watch_to_the_end(control: &Control, rollout: &str) -> Vec<RolloutView> {
    let mut watch = control.admin.watch_rollout(&model("digits"), rollout).await.unwrap();
    let mut views = Vec::new();
    loop {
        match timeout(DEADLINE, watch.next()).await.unwrap() {
            Ok(view) => views.push(view),
            Err(ndjson::Error::Ended) => return views,
            Err(error) => panic!("{error:?} after {views:#?}"),
        }
    }
}

#[tokio::test]
async fn a_deploy_is_watched_from_its_first_step_to_the_verdict() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let _members = world(&control, None).await;
    let answer = control.admin.deploy(&model("digits"), &request()).await.unwrap();
    let number = answer.rollout.unwrap().to_string();

    let views = watch_to_the_end(&control, &number).await;
    let last = views.last().unwrap();
    assert_eq!((last.soak, last.version, last.revision), (Soak::Inconclusive, VersionNumber(1), RevisionNumber(1)));
    assert!(views.windows(2).all(|pair| pair[0] != pair[1]), "a message repeats the one before");
    assert!(views.windows(2).all(|pair| pair[0].state <= pair[1].state), "a rollout went back");

    let steps: Vec<String> = last
        .steps
        .iter()
        .map(|step| {
            let region = step.region.as_ref().map_or("-", |region| region.as_str());
            let next = step.next.as_deref().unwrap_or("-");
            format!("{} {} {region} {:?} -> {next}", step.step, step.action.words(), step.result)
        })
        .collect();
    insta::assert_snapshot!(steps.join("\n"), @r"
    1 select regions - Some(Success) -> deploy us-east1
    2 deploy us-east1 Some(Success) -> configure monitoring us-east1
    3 configure monitoring us-east1 Some(Success) -> verify us-east1
    4 verify us-east1 Some(Success) -> deploy europe-west1
    5 deploy europe-west1 Some(Success) -> configure monitoring europe-west1
    6 configure monitoring europe-west1 Some(Success) -> verify europe-west1
    7 verify europe-west1 Some(Success) -> route
    8 route - Some(Success) -> arm monitoring
    9 arm monitoring - Some(Success) -> -
    ");
    let routing = last.routing.as_ref().unwrap();
    assert!(routing.committed && routing.acknowledged == 2 && routing.gateways == 2, "{routing:?}");
    assert!(routing.skew_ms.is_some());
    control.stop().await;
}

#[tokio::test]
async fn status_tells_what_runs_and_how_it_is() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let members = world(&control, None).await;
    control.admin.deploy(&model("digits"), &request()).await.unwrap();
    watch_to_the_end(&control, "latest").await;

    let status = control.admin.deployment_status(&model("digits")).await.unwrap();
    let [us, eu] = REGIONS.map(region);
    let both = |value| map([(us.clone(), value), (eu.clone(), value)]);
    assert_eq!(status.deployment_status, both(DeploymentProgress::Success));
    assert_eq!(
        status.verification_status,
        map([(us.clone(), VerificationProgress::Success), (eu.clone(), VerificationProgress::Success)])
    );
    assert!(status.routing_configured && status.monitoring_active);
    assert_eq!((status.live_slot, status.revision), (Some(Slot::Blue), Some(RevisionNumber(1))));
    let blue = &status.slots[&Slot::Blue];
    assert_eq!((blue.state, blue.replicas[&us].ready), (SlotState::Live, 1));
    assert!(status.health.values().all(|health| health.healthy), "{:?}", status.health);
    assert_eq!(control.admin.world().await.unwrap().models.len(), 1);

    // us-east1 goes; its gateway knows of no peers, so control tells where its users go by itself.
    drop(members);
    let _left = [agent(&control, "europe-west1", None), gateway(&control, "europe-west1")];
    let moved = || async {
        let status = control.admin.deployment_status(&model("digits")).await.unwrap();
        let health = status.health[&us].clone();
        (health.users_go_to == Some(eu.clone())).then_some(health)
    };
    let health = eventually("users of us-east1 go to europe-west1", DEADLINE, moved).await.unwrap();
    assert!(!health.healthy);
    assert!(health.reason.clone().unwrap().starts_with("no agent for "), "{health:?}");
    control.stop().await;
}

#[tokio::test]
async fn a_rollout_that_fails_leaves_what_served() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let _members = world(&control, Some(2)).await;
    control.admin.deploy(&model("digits"), &request()).await.unwrap();
    watch_to_the_end(&control, "latest").await;
    control.push("digits", &[("model.onnx", "worse")]).await.unwrap();
    control.admin.deploy(&model("digits"), &request()).await.unwrap();

    let views = watch_to_the_end(&control, "2").await;
    let last = views.last().unwrap();
    assert_eq!((last.state, last.soak), (RolloutState::Failed, Soak::Skipped));
    assert_eq!(last.failure.as_ref().unwrap().failure.causes, ["3/20 golden cases"]);
    let serving = last.serving.as_ref().unwrap();
    assert_eq!((serving.version, serving.regions), (VersionNumber(1), 2));
    assert_eq!(last.regions[0].attempts, 1);
    assert!(last.steps.iter().any(|step| step.result == Some(StepResult::Failed)));

    let history = control.admin.history(&model("digits")).await.unwrap().revisions;
    let told: Vec<_> = history.iter().map(|entry| (entry.revision.0, entry.state, entry.live)).collect();
    assert_eq!(told, [(2, Some(RolloutState::Failed), false), (1, Some(RolloutState::Succeeded), true)]);
    assert_eq!(
        (history[0].changes.as_slice(), history[0].created_by.as_str()),
        (&["version 1 -> 2".to_owned()][..], "ada@lovelace")
    );
    let rollouts = control.admin.rollouts(&model("digits")).await.unwrap().rollouts;
    assert_eq!(rollouts.iter().map(|rollout| rollout.rollout.0).collect::<Vec<_>>(), [2, 1]);

    let used = problem(control.admin.remove_version(&model("digits"), VersionNumber(1)).await);
    assert_eq!(used.code, Code::Refused);
    assert_eq!(used.detail, "digits 1 is in use: revision 1 in slot blue runs it");
    control.admin.remove_version(&model("digits"), VersionNumber(2)).await.unwrap();
    control.stop().await;
}

#[tokio::test]
async fn a_rollout_can_be_aborted_while_it_waits() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let nothing = problem(control.admin.abort_rollout(&model("digits"), &DecisionRequest::default()).await);
    assert_eq!(nothing.detail, "digits is not deployed");
    // Nobody serves the regions, so it cannot get far.
    control.admin.deploy(&model("digits"), &DeployRequest { retries: Some(9), ..request() }).await.unwrap();
    let aborted = control.admin.abort_rollout(&model("digits"), &DecisionRequest::default()).await.unwrap();
    assert_eq!(aborted.state, RolloutState::Failed);
    assert_eq!(watch_to_the_end(&control, "1").await.len(), 1);
    control.admin.undeploy(&model("digits")).await.unwrap();
    let gone = || async { control.admin.deployment_status(&model("digits")).await.is_err().then_some(()) };
    eventually("the deployment is gone", DEADLINE, gone).await.unwrap();
    control.stop().await;
}

#[tokio::test]
async fn what_cannot_be_deployed_is_told_with_a_hint() {
    let control = Control::start().await;
    control.push("digits", &[("model.onnx", "weights")]).await.unwrap();
    let regions = Some(vec![region("us-east1"), region("europe-wst1")]);
    let unknown = problem(control.admin.deploy(&model("digits"), &DeployRequest { regions, ..request() }).await);
    assert_eq!(unknown.code, Code::NotFound);
    assert_eq!(unknown.detail, "no region is called `europe-wst1`");
    assert_eq!(unknown.hint.as_deref(), Some("did you mean `europe-west1`? regions here: europe-west1, us-east1"));
    let unknown = problem(control.admin.deployment_status(&model("digit")).await);
    assert_eq!(unknown.hint.as_deref(), Some("did you mean `digits`? models here: digits"));
    let dry = control.admin.deploy(&model("digits"), &DeployRequest { dry_run: true, ..request() }).await.unwrap();
    assert_eq!(dry.rollout, None);
    assert_eq!(problem(control.admin.rollout(&model("digits"), "latest").await).code, Code::NotFound);
    assert_eq!(problem(control.admin.rollout(&model("digits"), "newest").await).code, Code::Invalid);
    control.stop().await;
}
