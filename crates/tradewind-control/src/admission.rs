//! What people ask of deployments, checked against what is, and written down. The reconcilers do the rest.

use std::sync::Arc;

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{DeployAnswer, DeployPlan, DeployRequest, PlannedStep},
};
use tradewind_core::{
    ModelName, RevisionNumber, RolloutNumber, Timestamp,
    deployment::{Deployment, DeploymentSpec, Revision},
    event::{EventKind, EventRecord, Severity},
    rollout::{
        FleetSteps, RegionPhase, RegionRecord, Rollout, RolloutKind, RolloutState, Step, StepResult, course,
        strategy::Switch,
    },
    route::Route,
    trace::TraceParent,
};
use tradewind_store::{Compare, Op, Txn};

use crate::{
    hub::Hub,
    keys,
    repository::{self, Kept, Repository, put},
};

mod decisions;
mod ending;
mod moves;
mod pins;
mod scaling;
mod spec;

pub use decisions::{pause, promote, resume};
pub use ending::abort;
pub(crate) use ending::{Standing, end, take_back};
pub(crate) use moves::{condemn, unknown_revision};
pub use moves::{rollback, switch};
pub use pins::{pin, unpin};
pub use scaling::scale;
use spec::{find_version, specify};

/// How often a write is tried again when somebody else wrote in between.
const CONFLICT_RETRIES: usize = 5;

impl From<repository::Error> for Problem {
    fn from(error: repository::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        match error {
            repository::Error::Store(tradewind_store::Error::DiskFull) => crate::api::disk_full(),
            _ => Self::new(Code::Internal, "the control plane's store failed; nothing was changed")
                .hint("see the control plane's log"),
        }
    }
}

fn conflict(model: &ModelName) -> Problem {
    let mut problem = Problem::new(Code::Refused, format!("{model} was changed by somebody else at the same time"));
    problem.retryable = true;
    problem.hint(format!("look at `tradewind status {model}` and try again"))
}

/// The deployment of a model, its newest rollout, and the revision that users get.
#[derive(Debug)]
struct Existing {
    deployment: Kept<Deployment>,
    rollout: Kept<Rollout>,
    /// The live revision, or the newest where none is live.
    revision: Revision,
    route: Option<Kept<Route>>,
}

enum Loaded {
    Whole(Option<Box<Existing>>),
    /// Written between the reads.
    Torn,
}

impl Existing {
    async fn load(repository: &Repository, model: &ModelName) -> Result<Loaded, Problem> {
        let Some(deployment) = repository.get::<Deployment>(keys::deployment(model)).await? else {
            return Ok(Loaded::Whole(None));
        };
        let number = deployment.value.live.unwrap_or(deployment.value.latest_revision);
        let revision = repository.get::<Revision>(keys::revision(model, number)).await?;
        let rollout = repository.get::<Rollout>(keys::rollout(model, deployment.value.latest_rollout)).await?;
        let route = repository.get::<Route>(keys::route(model)).await?;
        match (rollout, revision) {
            (Some(rollout), Some(revision)) => {
                Ok(Loaded::Whole(Some(Box::new(Self { deployment, rollout, revision: revision.value, route }))))
            }
            _ => Ok(Loaded::Torn),
        }
    }
}

fn not_deployed(model: &ModelName) -> Problem {
    Problem::new(Code::NotFound, format!("{model} is not deployed"))
        .hint(format!("deploy it: tradewind deploy --regions REGION,REGION {model}"))
}

/// Plans a deploy, whose steps belong to `trace`, and, unless it is a dry run or would change nothing, begins it.
pub async fn deploy(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    request: DeployRequest,
    trace: Option<TraceParent>,
    now: Timestamp,
) -> Result<DeployAnswer, Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Loaded::Whole(existing) = Existing::load(repository, model).await? else { continue };
        let admitted = admit(repository, model, existing.as_deref(), &request, trace, now).await?;
        if request.dry_run || admitted.txn.is_none() {
            return Ok(admitted.answer);
        }
        let Some(txn) = admitted.txn else { continue };
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(admitted.answer);
        }
    }
    Err(conflict(model))
}

/// Who asked for a rollout, and when.
struct Asked<'a> {
    by: &'a str,
    trace: Option<TraceParent>,
    at: Timestamp,
    /// A rollback: the revision that is brought up again.
    again: Option<RevisionNumber>,
}

struct Admitted {
    answer: DeployAnswer,
    txn: Option<Txn>,
}

async fn admit(
    repository: &Repository,
    model: &ModelName,
    existing: Option<&Existing>,
    request: &DeployRequest,
    trace: Option<TraceParent>,
    now: Timestamp,
) -> Result<Admitted, Problem> {
    if existing.is_some_and(|existing| existing.deployment.value.removing) {
        return Err(Problem::new(Code::Refused, format!("{model} is being undeployed"))
            .hint(format!("wait until `tradewind status {model}` no longer knows it")));
    }
    let version = find_version(repository, model, request.version).await?;
    let spec = specify(repository, &version.value, existing, request).await?;
    let before = existing.map(|existing| &existing.revision);
    let mut deployment = base(repository, model, existing).await?;
    moves::check_bad(repository, &mut deployment, &spec, request.allow_bad, now).await?;
    let mut plan = plan_document(&spec, &deployment, existing);

    // Until everybody has it and its monitoring is active a rollout is joined; from then on, its revision is what runs.
    let on_its_way = existing.filter(|existing| is_on_its_way(&existing.rollout.value));
    if let Some(same) = on_its_way {
        let newest = repository.get::<Revision>(keys::revision(model, same.rollout.value.revision)).await?;
        if newest.is_some_and(|newest| newest.value.spec.runs_the_same(&spec)) {
            plan.unchanged = true;
            plan.revision = same.rollout.value.revision;
            plan.slot = same.rollout.value.slot;
            return Ok(answered(plan, Some(same.rollout.value.number), None));
        }
        check_supersedable(model, &same.rollout.value, request.replace)?;
    } else if let Some(live) = deployment.live {
        let same = before.is_some_and(|revision| revision.spec.runs_the_same(&spec));
        if same && !has_failed_region(repository, &deployment, &spec).await? {
            plan.unchanged = true;
            plan.revision = live;
            plan.slot = deployment.live_slot().unwrap_or(plan.slot);
            return Ok(answered(plan, None, None));
        }
    }
    let asked = Asked { by: &request.requested_by, trace, at: now, again: None };
    let (txn, rollout) = begin(model, existing, deployment, spec, &plan, asked);
    // Somebody may remove the version meanwhile.
    let txn = txn.when(version.unchanged());
    Ok(answered(plan, (!request.dry_run).then_some(rollout), Some(txn)))
}

fn is_on_its_way(rollout: &Rollout) -> bool {
    let soaks_last = rollout.state == RolloutState::Soaking && rollout.in_last_stage();
    !rollout.state.is_final() && !soaks_last
}

/// Whether a region of what serves was given up, so that only another rollout brings it up.
async fn has_failed_region(
    repository: &Repository,
    deployment: &Deployment,
    spec: &DeploymentSpec,
) -> Result<bool, Problem> {
    let Some(number) = deployment.live_rollout else { return Ok(false) };
    let rollout = repository.get::<Rollout>(keys::rollout(&spec.model, number)).await?;
    let records = rollout.map_or(number, |kept| kept.value.records());
    for region in &spec.regions {
        let record = repository.get::<RegionRecord>(keys::record(&spec.model, records, region)).await?;
        if record.is_some_and(|kept| kept.value.phase == RegionPhase::Failed) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn answered(plan: DeployPlan, rollout: Option<RolloutNumber>, txn: Option<Txn>) -> Admitted {
    Admitted { answer: DeployAnswer { schema_version: SCHEMA_VERSION, plan, rollout }, txn }
}

fn check_supersedable(model: &ModelName, rollout: &Rollout, replace: bool) -> Result<(), Problem> {
    let is_moving = match rollout.state {
        RolloutState::Committing => true,
        // In place, regions are still brought up meanwhile.
        RolloutState::Arming => !rollout.is_in_place(),
        _ => false,
    };
    if is_moving {
        let mut problem = Problem::new(
            Code::Refused,
            format!("{model} is being switched to revision {} at this moment", rollout.revision),
        );
        problem.retryable = true;
        return Err(problem.hint("try again in a second"));
    }
    if is_on_its_way(rollout) && !replace {
        let under_way = format!("a rollout of {model} to revision {} is under way", rollout.revision);
        return Err(Problem::new(Code::Refused, under_way)
            .hint(format!("watch it with `tradewind rollout show {model}`, or take over from it with --replace")));
    }
    Ok(())
}

fn plan_document(spec: &DeploymentSpec, deployment: &Deployment, existing: Option<&Existing>) -> DeployPlan {
    let is_first = deployment.live.is_none();
    let total = spec.regions.len();
    let stages = course::stages(&spec.strategy, &spec.strategy.waves(total), total, is_first);
    let step = |planned: course::Planned| {
        let region = planned.region.map(|region| spec.regions[region].clone());
        PlannedStep { action: planned.action, region }
    };
    let steps = course::outline(&stages, total, !is_first).into_iter().map(step).collect();
    let all_at_once = is_first && spec.strategy.switch != Switch::Fleet;
    let note = if all_at_once { " (the first revision takes all users at once)" } else { "" };
    DeployPlan {
        model: spec.model.clone(),
        version: spec.version,
        digest: spec.digest,
        revision: deployment.latest_revision.next(),
        from: deployment.live,
        slot: deployment.candidate_slot(),
        unchanged: false,
        changes: spec.changes_since(
            existing
                .filter(|existing| existing.deployment.value.live.is_some())
                .map(|existing| &existing.revision.spec),
        ),
        steps,
        summary: format!("{}{note}", spec.strategy.summary()),
    }
}

/// The one transaction that begins a rollout.
fn begin(
    model: &ModelName,
    existing: Option<&Existing>,
    mut deployment: Deployment,
    spec: DeploymentSpec,
    plan: &DeployPlan,
    asked: Asked<'_>,
) -> (Txn, RolloutNumber) {
    let now = asked.at;
    deployment.latest_revision = plan.revision;
    deployment.latest_rollout = deployment.latest_rollout.next();
    deployment.slots[plan.slot] = Some(plan.revision);
    let mut txn = Txn::new();
    if let Some(existing) = existing {
        txn = ending::take_back(txn, existing.route.as_ref(), &mut deployment).0;
    }
    let number = deployment.latest_rollout;
    let strategy = if asked.again.is_some() { spec.strategy.of_rollback() } else { spec.strategy.clone() };
    let rollout = Rollout {
        number,
        kind: asked.again.map_or(RolloutKind::Deploy, |_| RolloutKind::Rollback),
        from: plan.from,
        slot: plan.slot,
        steps: FleetSteps {
            select: Some(Step {
                result: StepResult::Success,
                started_at: now,
                finished_at: Some(now),
                attempts: 1,
                detail: format!("{} regions, {}", spec.regions.len(), plan.summary),
            }),
            ..FleetSteps::default()
        },
        trace: asked.trace.filter(|trace| trace.sampled),
        ..Rollout::new(model.clone(), plan.revision, spec.regions.clone(), strategy, now)
    };
    let again = asked.again.map(|again| format!("back to revision {again}: ")).unwrap_or_default();
    let message = format!("revision {}: {again}{}", plan.revision, plan.changes.join(", "));
    let revision =
        Revision { number: plan.revision, spec, created_at: now, created_by: person(asked.by), copy_of: asked.again };
    txn = txn
        .then(put(keys::deployment(model), &deployment))
        .then(put(keys::revision(model, plan.revision), &revision))
        .then(put(keys::rollout(model, number), &rollout))
        .then(event(now, model, EventKind::RolloutStarted, Severity::Info, message));
    txn = match existing {
        None => txn.when(Compare::absent(keys::deployment(model))),
        Some(existing) => supersede(txn.when(existing.deployment.unchanged()), existing, now),
    };
    (txn, number)
}

/// Who somebody says to be.
fn person(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// What a new revision is built on: the deployment there is, or a new one, whose numbers go on from those of one that
/// was undeployed.
async fn base(repository: &Repository, model: &ModelName, existing: Option<&Existing>) -> Result<Deployment, Problem> {
    if let Some(existing) = existing {
        return Ok(existing.deployment.value.clone());
    }
    let former = repository.get::<Deployment>(keys::undeployed(model)).await?.map(|kept| kept.value);
    Ok(former
        .map(|former| Deployment { removing: false, bad: Default::default(), ..former })
        .unwrap_or_else(|| Deployment::new(model.clone())))
}

/// Ends the rollout that was under way, if one was, in the same transaction.
fn supersede(txn: Txn, existing: &Existing, now: Timestamp) -> Txn {
    let mut rollout = existing.rollout.value.clone();
    if rollout.state.is_final() {
        return txn;
    }
    rollout.supersede(now);
    txn.when(existing.rollout.unchanged()).then(put(&existing.rollout.key, &rollout))
}

/// Takes a model out of all regions. Users get no answer from it as soon as gateways learn of it.
pub async fn undeploy(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    now: Timestamp,
) -> Result<(), Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Loaded::Whole(existing) = Existing::load(repository, model).await? else { continue };
        let existing = existing.ok_or_else(|| not_deployed(model))?;
        let mut deployment = existing.deployment.value.clone();
        (deployment.removing, deployment.live, deployment.live_rollout) = (true, None, None);
        deployment.slots = Default::default();
        let txn = Txn::new()
            .when(existing.deployment.unchanged())
            .then(put(&existing.deployment.key, &deployment))
            .then(Op::delete(keys::route(model)))
            .then(event(
                now,
                model,
                EventKind::Undeployed,
                Severity::Info,
                format!("{model} is taken out of all regions"),
            ));
        if repository.commit(supersede(txn, &existing, now)).await?.is_some() {
            hub.wake();
            return Ok(());
        }
    }
    Err(conflict(model))
}

/// An event of a model. One per model, kind and moment.
pub(crate) fn event(at: Timestamp, model: &ModelName, kind: EventKind, severity: Severity, message: String) -> Op {
    let record = EventRecord { at, severity, kind, region: None, model: Some(model.clone()), message };
    put(keys::event(at, &format!("{model}/{kind:?}")), &record)
}
