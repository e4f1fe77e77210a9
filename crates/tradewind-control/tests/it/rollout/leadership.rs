//! Who carries rollouts out: a worker for each deployment, while this control plane leads.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::timeout};
use tradewind_control::keys;
use tradewind_core::{VersionNumber, rollout::RolloutState};
use tradewind_store::{Batch, Event, Range, RangeResponse, Revision, Selector, Store};
use tradewind_testkit::fleet::{Fleet, model};

use super::{
    DEADLINE, committed, deploy, finish,
    intercepted::{Intercepted, Meanwhile},
    request, serving,
};

/// When the present leader's term began.
async fn term(fleet: &Fleet) -> Option<Revision> {
    fleet.store().get(keys::LEADER).await.unwrap().map(|leader| leader.create_revision)
}

/// Holds the worker back that has just seen its deployment gone.
#[derive(Debug, Default)]
struct HoldBack {
    saw_it_gone: Notify,
    may_end: Notify,
    /// The deployment's return has been told to all workers that there are.
    return_was_told: Notify,
    held: AtomicBool,
}

impl Meanwhile for HoldBack {
    fn after_range<'a>(&'a self, range: &'a Range, response: &'a RangeResponse) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let of_deployment = range.selector == Selector::Key(keys::deployment(&model()));
            if of_deployment && response.kvs.is_empty() && !self.held.swap(true, Ordering::SeqCst) {
                self.saw_it_gone.notify_one();
                self.may_end.notified().await;
            }
        })
    }

    fn after_batch(&self, batch: &Batch) {
        let deployment = keys::deployment(&model());
        let returned = |event: &Event| event.now().is_some_and(|kv| kv.key == deployment && kv.version == 1);
        if self.held.load(Ordering::SeqCst) && batch.events.iter().any(returned) {
            self.return_was_told.notify_one();
        }
    }
}

#[tokio::test]
async fn a_worker_that_ends_just_as_its_model_is_deployed_again_is_started_again() {
    let (fleet, control) = serving(2).await;
    control.stop().await;
    let meanwhile = Arc::new(HoldBack::default());
    let store = Intercepted { store: fleet.store().clone(), meanwhile: meanwhile.clone() };
    let control = fleet.control_on(Arc::new(store));
    fleet.undeploy().await.unwrap();
    timeout(DEADLINE, meanwhile.saw_it_gone.notified()).await.expect("the worker looks for its deployment");

    deploy(&fleet, request(&fleet, 2)).await;
    timeout(DEADLINE, meanwhile.return_was_told.notified()).await.expect("the leader watches deployments");
    meanwhile.may_end.notify_one();
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert_eq!(committed(&fleet).await.version, VersionNumber(2));
    control.stop().await;
    fleet.stop().await;
}

/// Has the first worker that reads its rollout panic.
#[derive(Debug, Default)]
struct PanicOnce(AtomicBool);

impl Meanwhile for PanicOnce {
    fn after_range<'a>(&'a self, range: &'a Range, _response: &'a RangeResponse) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let of_rollout =
                matches!(&range.selector, Selector::Key(key) if key.starts_with(&keys::rollouts(&model())));
            assert!(!of_rollout || self.0.swap(true, Ordering::SeqCst), "the panic that this test is about");
        })
    }
}

#[tokio::test]
async fn a_worker_that_panics_ends_the_term_and_the_next_one_goes_on() {
    let (fleet, control) = serving(2).await;
    control.stop().await;
    let meanwhile = Arc::new(PanicOnce(AtomicBool::new(true)));
    let control =
        fleet.control_on(Arc::new(Intercepted { store: fleet.store().clone(), meanwhile: meanwhile.clone() }));
    fleet.ready(DEADLINE).await.unwrap();
    let first = term(&fleet).await;

    meanwhile.0.store(false, Ordering::SeqCst);
    deploy(&fleet, request(&fleet, 2)).await;
    assert_eq!(finish(&fleet).await.state, RolloutState::Succeeded);
    assert!(meanwhile.0.load(Ordering::SeqCst), "nothing has panicked");
    assert!(term(&fleet).await > first, "the term goes on without a worker");
    control.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_leader_that_stops_leaves_its_place_at_once() {
    let fleet = Fleet::start(1, 1).await.unwrap();
    let leader = fleet.control();
    fleet.ready(DEADLINE).await.unwrap();
    leader.stop().await;
    assert_eq!(term(&fleet).await, None, "a successor would wait for the lease to run out");

    let successor = fleet.control();
    fleet.ready(DEADLINE).await.unwrap();
    assert!(term(&fleet).await.is_some());
    successor.stop().await;
    fleet.stop().await;
}
