//! What a deploy asks for, on top of what there is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use tradewind_api::{
    Code,
    deploy::{DeployRequest, HealthChange, ScaleChange},
};
use tradewind_control::{
    admission,
    hub::Hub,
    keys,
    repository::{Repository, put},
};
use tradewind_core::{
    RevisionNumber, Timestamp, VersionNumber,
    assignment::Assignment,
    bundle::ModelVersion,
    deployment::{DeploymentSpec, HealthPolicy, Revision},
    duration::Span,
    rollout::{RegionPhase, RolloutState, strategy::OnFailure},
    scale::Scale,
};
use tradewind_store::{Op, Store, Txn};
use tradewind_testkit::fleet::{Behaviour, Fleet, model, region};

use super::{
    DEADLINE, deploy, finish,
    intercepted::{Intercepted, Meanwhile},
    record, request, serving,
};

/// Deploys, and returns what the revision says.
async fn deployed(fleet: &Fleet, change: DeployRequest) -> DeploymentSpec {
    let answer = deploy(fleet, DeployRequest { regions: None, ..change }).await;
    assert_eq!(finish(fleet).await.revision, answer.plan.revision);
    let key = keys::revision(&model(), answer.plan.revision);
    fleet.repository().get::<Revision>(key).await.unwrap().unwrap().value.spec
}

#[tokio::test]
async fn what_is_not_named_stays_as_it_is() {
    let (fleet, control) = serving(2).await;
    let (us, eu) = (region(0), region(1));
    let scale = |replicas, threads| Some(ScaleChange { replicas, threads, ..ScaleChange::default() });
    let every = |secs| HealthChange { interval: Some(Span::from_secs(secs)), ..HealthChange::default() };
    let after = |failures| HealthChange { unhealthy_after: Some(failures), ..HealthChange::default() };
    let own = |region, change| Some([(region, change)].into());

    let first = DeployRequest { scale: scale(None, Some(4)), health: Some(every(2)), ..request(&fleet, 1) };
    let spec = deployed(&fleet, DeployRequest { region_health: own(us.clone(), after(5)), ..first }).await;
    assert_eq!(spec.scale, Scale { replicas: 1, threads: Some(4), ..Scale::default() });
    let us_health = HealthPolicy { unhealthy_after: 5, ..spec.health };
    assert_eq!((spec.health.interval, spec.health_of(&us)), (Span::from_secs(2), us_health));

    let second = DeployRequest { scale: scale(Some(3), None), health: Some(after(7)), ..request(&fleet, 1) };
    let spec = deployed(&fleet, DeployRequest { region_health: own(eu.clone(), every(9)), ..second }).await;
    assert_eq!(spec.scale, Scale { replicas: 3, threads: Some(4), ..Scale::default() });
    assert_eq!((spec.health.interval, spec.health.unhealthy_after), (Span::from_secs(2), 7));
    assert_eq!(spec.health_of(&us), us_health, "its own policy stays");
    assert_eq!(spec.health_of(&eu), HealthPolicy { interval: Span::from_secs(9), ..spec.health });

    // A region that is named with nothing is probed like the others again.
    let third = DeployRequest { region_health: own(us.clone(), HealthChange::default()), ..request(&fleet, 1) };
    let answer = fleet.deploy(DeployRequest { dry_run: true, ..third.clone() }).await.unwrap();
    assert_eq!(answer.plan.changes, ["health of r0000"]);
    let spec = deployed(&fleet, third).await;
    assert_eq!(spec.region_health.keys().collect::<Vec<_>>(), [&eu]);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn deploying_what_soaks_changes_nothing() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    let soaking = DeployRequest { soak: Some(Span::from_secs(600)), ..request(&fleet, 1) };
    deploy(&fleet, soaking.clone()).await;
    let rollout = fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();

    let answer = deploy(&fleet, soaking).await;
    assert!(answer.plan.unchanged);
    assert_eq!((answer.plan.revision, answer.rollout), (rollout.revision, None));
    let newest = fleet.rollout(DEADLINE, |_| true).await.unwrap();
    assert_eq!((newest.number, newest.state), (rollout.number, RolloutState::Soaking));
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn deploying_what_is_on_its_way_joins_it() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    fleet.order(&region(1), Behaviour::Hangs);
    let begun = deploy(&fleet, request(&fleet, 1)).await;
    let joined = deploy(&fleet, request(&fleet, 1)).await;
    assert!(joined.plan.unchanged && begun.rollout.is_some());
    assert_eq!(joined.rollout, begun.rollout);
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_region_that_was_given_up_is_tried_again_also_during_the_soak() {
    let fleet = Fleet::start(2, 1).await.unwrap();
    let control = fleet.control();
    fleet.order(&region(1), Behaviour::AnswersWrongly);
    let soaking = DeployRequest { on_failure: Some(OnFailure::Continue), ..request(&fleet, 2) };
    let soaking = DeployRequest { soak: Some(Span::from_secs(600)), ..soaking };
    deploy(&fleet, soaking.clone()).await;
    let first = fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();
    assert_eq!(record(&fleet, &first, &region(1)).await.phase, RegionPhase::Failed);

    fleet.order(&region(1), Behaviour::Good);
    let answer = deploy(&fleet, soaking).await;
    assert_eq!((answer.plan.unchanged, answer.rollout), (false, Some(first.number.next())));
    control.stop().await;
    fleet.stop().await;
}

/// Removes version 1 after somebody has read it, and before anything is written.
#[derive(Debug)]
struct RemoveVersion(Mutex<Option<Repository>>);

impl Meanwhile for RemoveVersion {
    fn before_txn(&self) -> BoxFuture<'_, ()> {
        let repository = self.0.lock().unwrap().take();
        Box::pin(async move {
            if let Some(repository) = repository {
                let removal = Txn::new().then(Op::delete(keys::version(&model(), VersionNumber(1))));
                repository.commit(removal).await.unwrap();
            }
        })
    }
}

#[tokio::test]
async fn a_version_that_is_removed_meanwhile_is_not_deployed() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let key = keys::version(&model(), VersionNumber(1));
    let version = fleet.repository().get::<ModelVersion>(key.clone()).await.unwrap().unwrap().value;
    let meanwhile = Arc::new(RemoveVersion(Mutex::new(Some(fleet.repository().clone()))));
    let repository = Repository::new(Arc::new(Intercepted { store: fleet.store().clone(), meanwhile }), None);
    let (hub, now) = (Arc::new(Hub::new(Timestamp::now())), Timestamp::now());
    let refused = admission::deploy(&repository, &hub, &model(), request(&fleet, 1), None, now).await;
    let refused = refused.expect_err("the version is gone");
    assert_eq!((refused.code, refused.detail.as_str()), (Code::NotFound, "digits has no version 1"));
    assert_eq!(fleet.store().list(keys::DEPLOYMENTS).await.unwrap().kvs, []);

    fleet.repository().commit(Txn::new().then(put(key, &version))).await.unwrap();
    let admitted = admission::deploy(&repository, &hub, &model(), request(&fleet, 1), None, now).await;
    assert!(admitted.is_ok_and(|answer| answer.rollout.is_some()));
    fleet.stop().await;
}

#[tokio::test]
async fn a_server_of_its_own_is_not_told_how_to_run_requests() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let key = keys::version(&model(), VersionNumber(1));
    let mut version = fleet.repository().get::<ModelVersion>(key.clone()).await.unwrap().unwrap().value;
    let manifest = serde_json::json!({"runtime": "command", "command": {"run": ["server"]}});
    version.manifest = serde_json::from_value(manifest).unwrap();
    fleet.repository().commit(Txn::new().then(put(key, &version))).await.unwrap();
    let asked = |change| DeployRequest { dry_run: true, scale: Some(change), ..request(&fleet, 1) };
    let instances = ScaleChange { instances: Some(2), ..ScaleChange::default() };
    let rows = ScaleChange { max_batch_rows: Some(8), ..ScaleChange::default() };
    for (change, key) in [(instances, "instances"), (rows, "max_batch_rows")] {
        let refused = fleet.deploy(asked(change)).await.unwrap_err();
        assert_eq!(refused.code, Code::Invalid);
        assert!(refused.detail.starts_with(&format!("{key} says how ONNX Runtime")), "{}", refused.detail);
    }
    let memory = "512MiB".parse().unwrap();
    let budget = ScaleChange { cpu: "1.5".parse().ok(), memory: Some(memory), ..ScaleChange::default() };
    assert!(fleet.deploy(asked(budget)).await.is_ok());
    fleet.stop().await;
}

#[tokio::test]
async fn a_region_may_have_replicas_of_its_own_kind() {
    let (fleet, control) = serving(2).await;
    let own = |change: ScaleChange| Some(BTreeMap::from([(region(1), change)]));
    let two = ScaleChange { replicas: Some(2), ..ScaleChange::default() };
    let threads = ScaleChange { threads: Some(4), ..ScaleChange::default() };
    let spec = deployed(&fleet, DeployRequest { region_scale: own(two), ..request(&fleet, 1) }).await;
    assert_eq!((spec.scale_of(&region(0)).replicas, spec.scale_of(&region(1)).replicas), (1, 2));
    for (number, replicas) in [(0, 1), (1, 2)] {
        let key = keys::assignment(&region(number), &model());
        let assigned = fleet.repository().get::<Assignment>(key).await.unwrap().unwrap().value;
        let held = assigned.slots.values().find(|held| held.revision == RevisionNumber(2)).unwrap();
        assert_eq!(held.scale.replicas, replicas, "{number}");
    }
    let spec = deployed(&fleet, DeployRequest { region_scale: own(threads), ..request(&fleet, 1) }).await;
    assert_eq!(
        *spec.scale_of(&region(1)),
        Scale { replicas: 2, threads: Some(4), ..Scale::default() },
        "on top of what it had"
    );
    let none = DeployRequest { region_scale: own(ScaleChange::default()), ..request(&fleet, 1) };
    assert_eq!(deployed(&fleet, none).await.region_scale, BTreeMap::new(), "like the others again");
    let many = ScaleChange { replicas: Some(100_000), ..ScaleChange::default() };
    let refused = fleet.deploy(DeployRequest { region_scale: own(many), ..request(&fleet, 1) }).await.unwrap_err();
    assert_eq!(refused.detail, "replicas are between 1 and 1000, not 100000");
    control.stop().await;
    fleet.stop().await;
}
