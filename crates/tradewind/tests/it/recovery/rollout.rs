//! Control is killed right after each commit of a rollout in turn. Whichever it was, the rollout ends as if nothing had
//! happened, and users never notice.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt};

use anyhow::{Context, Result, ensure};
use tradewind_api::{
    Client,
    deploy::RolloutView,
    status::{DeploymentProgress, DeploymentStatus, EventQuery, RegionStatus, VerificationProgress},
};
use tradewind_core::{
    Epoch, ModelName, RevisionNumber, VersionNumber,
    assignment::ReplicaStatus,
    event::{Event, EventKind},
    rollout::{RegionPhase, RolloutState, Soak},
};
use tradewind_process::Signal;
use tradewind_testkit::{Part, Report, Roles, eventually, eventually_ok};

use super::{DEADLINE, DIGITS, REGIONS, roles, serves, users};

/// They take turns: while the others give up their old slots, one is rolled out.
const MODELS: [&str; 3] = ["digits", "numerals", "figures"];
/// What a rollout commits at least, together with the start before it: the start; the deploy; begin, deployed,
/// monitored and verified in each region; the replicas' events; prepare, commit, arm, armed, soaked, retire; the sweep.
const COMMITS: u64 = 1 + 1 + 4 * 2 + 6 + 1;
/// More than any rollout of two regions commits.
const COMMITS_LIMIT: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_survives_the_death_of_control_after_any_commit() -> Result<()> {
    let mut roles = roles()?;
    roles.start_all().await?;
    for model in MODELS {
        for version in ["v1", "v2"] {
            roles.cli_ok(["models", "push", "--name", model, &format!("{DIGITS}/{version}")]).await?;
        }
        let first = Turn { model, revision: 1 };
        roles.cli_ok(first.command()).await?;
        first.finish(&mut roles).await?;
    }
    let loads = MODELS.map(|model| users(&roles, model));

    let mut commits = 0;
    let deaths = loop {
        let model = MODELS[usize::try_from(commits)? % MODELS.len()];
        let turn = Turn { model, revision: 2 + commits / MODELS.len() as u64 };
        commits += 1;
        assert!(commits < COMMITS_LIMIT, "a rollout commits without end");
        let died = turn.take(&mut roles, commits).await;
        if !died.with_context(|| format!("killed after {commits} commits, {turn:?}"))? {
            break commits - 1;
        }
    };
    assert!(deaths >= COMMITS, "control died {deaths} times only");

    for load in loads {
        assert_undisturbed(&load?.stop().await);
    }
    Ok(())
}

fn assert_undisturbed(report: &Report) {
    assert!(report.failures().is_empty(), "{:?}", report.failures().first());
    let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
    for answer in &report.answers {
        let epoch = answer.epoch.expect("every answer tells its epoch");
        let before = newest.insert(answer.user, epoch).unwrap_or_default();
        assert!(before <= epoch, "a user was sent back from epoch {before}: {answer:?}");
    }
}

/// One rollout.
#[derive(Debug, Clone, Copy)]
struct Turn {
    model: &'static str,
    revision: u64,
}

impl Turn {
    /// Versions alternate.
    fn version(self) -> u64 {
        (self.revision - 1) % 2 + 1
    }

    fn model(self) -> ModelName {
        self.model.parse().expect("a valid name")
    }

    /// The old slot is given up as soon as the new one serves.
    fn command(self) -> Vec<String> {
        let regions = REGIONS.join(",");
        let model = format!("{}:{}", self.model, self.version());
        ["deploy", "--detach", "--regions", &regions, "--soak", "0s", "--standby", "0s", &model]
            .map(str::to_owned)
            .into()
    }

    /// Rolls out with a control plane that dies after so many commits, and with another one after that. Says whether
    /// it died.
    async fn take(self, roles: &mut Roles, commits: u64) -> Result<bool> {
        self.wait_until_settled(roles).await?;
        let before = newest_event(roles).await?;
        roles.kill(&Part::Control).await?;
        roles.spawn(&Part::Control, &["--kill-after-commits", &commits.to_string()]).await?;
        let died = !roles.ready(&Part::Control).await? || {
            let asked = roles.cli(self.command()).await?;
            let died = self.died(roles).await?;
            ensure!(died || asked.code == Some(0), "{asked:?}");
            died
        };
        if died {
            // Whether the first request was taken or not: this one makes sure, and changes nothing if it was.
            self.start_again(roles).await?;
            roles.cli_ok(self.command()).await?;
        }
        self.finish(roles).await?;
        self.assert_done_once(roles, before).await?;
        Ok(died)
    }

    /// Waits until the slot that is rolled out to is empty: each region has the live replica and no other.
    async fn wait_until_settled(self, roles: &Roles) -> Result<()> {
        let (what, client) = (format!("the old slot of {} is empty", self.model), roles.client()?);
        eventually_ok(&what, DEADLINE, || async {
            let each_has_one = self.each_region_has_one(&client, |_| true).await?;
            ensure!(each_has_one, "more than the live replicas run");
            Ok(())
        })
        .await
    }

    async fn each_region_has_one(self, client: &Client, of: impl Fn(&ReplicaStatus) -> bool) -> Result<bool> {
        let model = self.model();
        let regions = client.regions().await?.regions;
        let count = |region: &RegionStatus| {
            region.replicas.iter().filter(|replica| replica.model == model && of(replica)).count()
        };
        Ok(regions.iter().all(|region| count(region) == 1))
    }

    async fn start_again(self, roles: &mut Roles) -> Result<()> {
        let ended = roles.ended(&Part::Control).await?;
        ensure!(
            ended.signal() == Some(Signal::KILL.as_raw()),
            "it ended with {ended}:\n{}",
            roles.log_tail(&Part::Control)
        );
        roles.start(&Part::Control).await
    }

    /// Waits until all of the rollout is written, or control is dead.
    async fn died(self, roles: &mut Roles) -> Result<bool> {
        let client = roles.client()?;
        let over = eventually("the rollout or control is over", DEADLINE, || {
            let (died, client) = (roles.has_ended(&Part::Control), client.clone());
            async move {
                if !matches!(died, Ok(false)) {
                    return Some(died);
                }
                let status = client.deployment_status(&self.model()).await.ok().filter(|status| self.is_over(status));
                // The last thing that is written of a rollout takes the old replicas out of service.
                let swept = self.each_region_has_one(&client, |replica| replica.ready).await;
                (status.is_some() && matches!(swept, Ok(true))).then_some(Ok(false))
            }
        });
        over.await?
    }

    fn is_over(self, status: &DeploymentStatus) -> bool {
        status.rollout.revision == RevisionNumber(self.revision) && status.rollout.state == RolloutState::Succeeded
    }

    /// Waits for the end that every rollout has.
    async fn finish(self, roles: &mut Roles) -> Result<()> {
        let what = format!("the rollout of {self:?} is over");
        let status = eventually_ok(&what, DEADLINE, || async {
            let status = roles.status(self.model).await?;
            ensure!(self.is_over(&status), "{status:?}");
            Ok(status)
        });
        let status = status.await?;
        ensure!(status.deployment_status.values().all(|state| *state == DeploymentProgress::Success), "{status:?}");
        ensure!(status.verification_status.values().all(|state| *state == VerificationProgress::Success), "{status:?}");
        ensure!(status.deployment_status.len() == REGIONS.len(), "{status:?}");
        ensure!(status.routing_configured && status.monitoring_active, "{status:?}");
        ensure!(status.rollout.soak == Soak::Passed, "{status:?}");
        ensure!(status.revision == Some(RevisionNumber(self.revision)), "{status:?}");
        ensure!(status.version == Some(VersionNumber(self.version())), "{status:?}");
        // Each rollout switches once: no epoch was used up by a control plane that died.
        ensure!(status.epoch == Some(Epoch(self.revision)), "{status:?}");
        serves(roles, self.model, self.revision, self.revision).await
    }

    async fn assert_done_once(self, roles: &Roles, before: u64) -> Result<()> {
        let view = roles.client()?.rollout(&self.model(), "latest").await?;
        assert_verified_at_once(&view);
        let what = format!("everything of {self:?} happened once");
        eventually_ok(&what, DEADLINE, || async {
            let events = events(roles, before, Some(self.model())).await?;
            for region in REGIONS {
                let of = |event: &&Event| event.record.region.as_ref().is_some_and(|name| name.as_str() == region);
                let count = |kind| events.iter().filter(of).filter(|event| event.record.kind == kind).count();
                let started = count(EventKind::ReplicaStarted);
                ensure!(started == 1, "{started} replicas were started in {region}: {events:?}");
                ensure!(count(EventKind::ReplicaExited) == 0, "a replica of {region} ended: {events:?}");
                ensure!(count(EventKind::ReplicaReplaced) == 0, "a replica of {region} was replaced: {events:?}");
            }
            for kind in [
                EventKind::RolloutStarted,
                EventKind::RouteCommitted,
                EventKind::MonitoringArmed,
                EventKind::SoakEnded,
                EventKind::RolloutFinished,
            ] {
                let count = events.iter().filter(|event| event.record.kind == kind).count();
                ensure!(count == 1, "{kind:?} happened {count} times: {events:?}");
            }
            Ok(())
        })
        .await
    }
}

fn assert_verified_at_once(view: &RolloutView) {
    assert_eq!(view.regions.len(), REGIONS.len());
    for region in &view.regions {
        assert_eq!((region.phase, region.attempt), (RegionPhase::Verified, 1), "{region:?}");
        assert!(region.verification.as_ref().is_some_and(|verification| verification.succeeded()), "{region:?}");
    }
}

async fn newest_event(roles: &Roles) -> Result<u64> {
    Ok(events(roles, 0, None).await?.last().map_or(0, |event| event.sequence))
}

async fn events(roles: &Roles, after: u64, model: Option<ModelName>) -> Result<Vec<Event>> {
    let query = EventQuery { after: Some(after), limit: Some(1000), model, ..EventQuery::default() };
    Ok(roles.client()?.events(&query).await?.events)
}
