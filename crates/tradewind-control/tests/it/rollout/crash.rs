//! The control plane is stopped right after each of its commits, one after the other, and another one goes on: the
//! world ends as if nothing had happened, and every effect happened once.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;
use tradewind_api::deploy::{DeployRequest, RollbackRequest};
use tradewind_control::keys;
use tradewind_core::{
    RevisionNumber, RolloutNumber, Slot,
    assignment::Assignment,
    deployment::Deployment,
    duration::Span,
    rollout::{
        Rollout, RolloutState,
        strategy::{MaxParallel, Percent, Switch},
    },
};
use tradewind_testkit::fleet::{Behaviour, CrashingStore, Fleet, Traces, model, region};

use super::{DEADLINE, deploy, finish, joined, request, serving, serving_without, swept};

const REGIONS: usize = 3;
/// More commits than any of these needs.
const COMMITS_LIMIT: u64 = 200;
/// Lives that are lived at the same time: most of a life is waiting.
const AT_ONCE: usize = 4;

/// What the control plane is to carry out, after version 1 serves everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    OneAfterTheOther,
    AllAtOnce,
    Fails,
    Prunes,
    Undeploys,
    /// A region that was deferred returns.
    CatchesUp,
    /// Users are moved by shares.
    Canary,
    /// Users are moved wave by wave.
    Waves,
    /// Users of the first waves are taken back because a later one fails.
    TakesBack,
    /// Regions give up what they run before they are brought up.
    InPlace,
    /// They get it back because a later one fails.
    InPlaceFails,
    /// Users go back to what is warm.
    Revisits,
    /// Users go back to what has to be brought up again.
    RollsBack,
}

impl Story {
    /// A fleet that serves version 1, and nobody who reconciles.
    async fn fleet(self) -> Fleet {
        let (fleet, control) = match self {
            Self::CatchesUp => serving_without(REGIONS, &[region(1)], MaxParallel::Count(1)).await,
            _ => serving(REGIONS).await,
        };
        if self == Self::Revisits {
            deploy(&fleet, DeployRequest { soak: Some(Span::from_secs(600)), ..request(&fleet, 2) }).await;
            fleet.rollout(DEADLINE, |rollout| rollout.state == RolloutState::Soaking).await.unwrap();
        }
        if self == Self::RollsBack {
            deploy(&fleet, request(&fleet, 2)).await;
            finish(&fleet).await;
            swept(&fleet, fleet.regions(), &[(Slot::Green, RevisionNumber(2))]).await;
        }
        control.stop().await;
        fleet
    }

    async fn begin(self, fleet: &Fleet) {
        let next = request(fleet, 2);
        match self {
            Self::OneAfterTheOther => drop(deploy(fleet, next).await),
            Self::AllAtOnce => {
                drop(deploy(fleet, DeployRequest { max_parallel: Some(MaxParallel::All), ..next }).await);
            }
            Self::Fails => {
                fleet.order(&region(1), Behaviour::AnswersWrongly);
                drop(deploy(fleet, next).await);
            }
            Self::Prunes => {
                let regions = Some(vec![region(0), region(2)]);
                drop(deploy(fleet, DeployRequest { regions, prune: true, ..next }).await);
            }
            Self::Undeploys => fleet.undeploy().await.unwrap(),
            Self::CatchesUp => fleet.order(&region(1), Behaviour::Good),
            Self::Canary => {
                let shares = [10.0, 50.0].map(|share| Percent::try_from(share).unwrap());
                drop(deploy(fleet, DeployRequest { canary: Some(shares.into()), ..next }).await);
            }
            Self::Waves => drop(deploy(fleet, DeployRequest { switch: Some(Switch::Wave), ..next }).await),
            Self::TakesBack => {
                fleet.order(&region(2), Behaviour::AnswersWrongly);
                drop(deploy(fleet, DeployRequest { switch: Some(Switch::Wave), ..next }).await);
            }
            Self::InPlace => drop(deploy(fleet, DeployRequest { switch: Some(Switch::InPlace), ..next }).await),
            Self::InPlaceFails => {
                fleet.order(&region(1), Behaviour::AnswersWrongly);
                drop(deploy(fleet, DeployRequest { switch: Some(Switch::InPlace), ..next }).await);
            }
            Self::Revisits | Self::RollsBack => drop(fleet.rollback(RollbackRequest::default()).await.unwrap()),
        }
    }

    /// Waits until there is nothing left to do.
    async fn end(self, fleet: &Fleet) {
        if self == Self::Undeploys {
            return fleet.forgotten(DEADLINE).await.unwrap();
        }
        let rollout = finish(fleet).await;
        if self == Self::CatchesUp {
            joined(fleet, &rollout, &region(1)).await;
        }
        if self == Self::InPlaceFails {
            let brought = Rollout { number: RolloutNumber(1), ..rollout };
            for number in 0..2 {
                joined(fleet, &brought, &region(number)).await;
            }
        }
        let swept = fleet.changes("", DEADLINE, async |repository| {
            let Some(deployment) = repository.get::<Deployment>(keys::deployment(&model())).await? else {
                return Ok(None);
            };
            for kept in repository.list::<Assignment>("assignments/").await?.values() {
                if kept.slots.is_empty()
                    || kept.slots.iter().any(|(slot, held)| deployment.value.slots[*slot] != Some(held.revision))
                {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        swept.await.unwrap();
    }
}

/// The traces of a life without a crash.
async fn undisturbed(story: Story) -> Traces {
    let fleet = story.fleet().await;
    story.begin(&fleet).await;
    let control = fleet.control();
    story.end(&fleet).await;
    control.stop().await;
    let traces = fleet.traces().await.unwrap();
    fleet.stop().await;
    traces
}

/// The traces of a life whose control plane was killed after so many commits; `None` if it needed fewer.
async fn killed_after(story: Story, commits: u64) -> Option<Traces> {
    let fleet = story.fleet().await;
    story.begin(&fleet).await;
    let store = Arc::new(CrashingStore::new(fleet.store().clone(), commits));
    let first = fleet.control_on(store.clone());
    let died = tokio::select! {
        () = store.died() => true,
        () = story.end(&fleet) => false,
    };
    first.kill().await;
    store.end_leases().await;
    let second = fleet.control();
    story.end(&fleet).await;
    second.stop().await;
    let traces = fleet.traces().await.unwrap();
    fleet.stop().await;
    died.then_some(traces)
}

async fn survives_a_crash_after_every_commit(story: Story) {
    let expected = undisturbed(story).await;
    for first in (1..COMMITS_LIMIT).step_by(AT_ONCE) {
        let lives = (first..).take(AT_ONCE).map(|commits| timeout(DEADLINE, killed_after(story, commits)));
        for (commits, traces) in (first..).zip(join_all(lives).await) {
            let Some(traces) = traces.unwrap() else {
                assert!(commits > 1, "{story:?} needs no commits");
                return;
            };
            let (more, less) = (traces.beyond(&expected), expected.beyond(&traces));
            assert!(traces == expected, "{story:?}, killed after commit {commits}: {more:#?} instead of {less:#?}");
        }
    }
    panic!("{story:?} needs more than {COMMITS_LIMIT} commits");
}

#[tokio::test]
async fn one_region_after_the_other() {
    survives_a_crash_after_every_commit(Story::OneAfterTheOther).await;
}

#[tokio::test]
async fn all_regions_at_once() {
    survives_a_crash_after_every_commit(Story::AllAtOnce).await;
}

#[tokio::test]
async fn a_rollout_that_must_fail() {
    survives_a_crash_after_every_commit(Story::Fails).await;
}

#[tokio::test]
async fn a_rollout_that_leaves_a_region() {
    survives_a_crash_after_every_commit(Story::Prunes).await;
}

#[tokio::test]
async fn an_undeploy() {
    survives_a_crash_after_every_commit(Story::Undeploys).await;
}

#[tokio::test]
async fn a_canary() {
    survives_a_crash_after_every_commit(Story::Canary).await;
}

#[tokio::test]
async fn waves() {
    survives_a_crash_after_every_commit(Story::Waves).await;
}

#[tokio::test]
async fn waves_that_are_taken_back() {
    survives_a_crash_after_every_commit(Story::TakesBack).await;
}

#[tokio::test]
async fn regions_that_give_up_what_they_run() {
    survives_a_crash_after_every_commit(Story::InPlace).await;
}

#[tokio::test]
async fn regions_that_get_back_what_they_gave_up() {
    survives_a_crash_after_every_commit(Story::InPlaceFails).await;
}

#[tokio::test]
async fn a_way_back_to_what_is_warm() {
    survives_a_crash_after_every_commit(Story::Revisits).await;
}

#[tokio::test]
async fn a_way_back_to_what_is_gone() {
    survives_a_crash_after_every_commit(Story::RollsBack).await;
}

#[tokio::test]
async fn a_region_that_catches_up() {
    survives_a_crash_after_every_commit(Story::CatchesUp).await;
}
