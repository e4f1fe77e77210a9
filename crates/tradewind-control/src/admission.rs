//! What people ask of deployments, checked against what is, and written down. The reconcilers do the rest.

use std::sync::Arc;

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    deploy::{DeployAnswer, DeployPlan, DeployRequest, PlannedStep},
};
use tradewind_core::{
    ModelName, RegionName, RolloutNumber, Timestamp, VersionNumber,
    assignment::Failure,
    bundle::{ModelHead, ModelVersion},
    deployment::{Deployment, DeploymentSpec, REGIONS_LIMIT, REPLICAS_LIMIT, Revision, Strategy},
    event::{EventKind, EventRecord, Severity},
    region::Region,
    rollout::{Action, FleetSteps, Rollout, RolloutFailure, RolloutState, Soak, Step, StepResult},
    route::Route,
};
use tradewind_store::{Compare, Op, Txn};

use crate::{
    hub::Hub,
    keys,
    repository::{self, Kept, Repository, put},
    suggest,
};

/// How often a write is tried again when somebody else wrote in between.
const CONFLICT_RETRIES: usize = 5;

impl From<repository::Error> for Problem {
    fn from(error: repository::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        match error {
            repository::Error::Store(tradewind_store::Error::DiskFull { .. }) => {
                Self::new(Code::DiskFull, "the control plane's disk is full; nothing was changed")
                    .hint("make room on the disk of the control plane's data directory")
            }
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
}

impl Existing {
    async fn load(repository: &Repository, model: &ModelName) -> Result<Option<Self>, Problem> {
        let Some(deployment) = repository.get::<Deployment>(keys::deployment(model)).await? else { return Ok(None) };
        let number = deployment.value.live.unwrap_or(deployment.value.latest_revision);
        let revision = repository.get::<Revision>(keys::revision(model, number)).await?;
        let rollout = repository.get::<Rollout>(keys::rollout(model, deployment.value.latest_rollout)).await?;
        match (rollout, revision) {
            (Some(rollout), Some(revision)) => Ok(Some(Self { deployment, rollout, revision: revision.value })),
            // Written between the reads above.
            _ => Err(conflict(model)),
        }
    }
}

fn not_deployed(model: &ModelName) -> Problem {
    Problem::new(Code::NotFound, format!("{model} is not deployed"))
        .hint(format!("deploy it: tradewind deploy --regions REGION,REGION {model}"))
}

/// Plans a deploy and, unless it is a dry run or would change nothing, begins it.
pub async fn deploy(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    request: DeployRequest,
    now: Timestamp,
) -> Result<DeployAnswer, Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let existing = Existing::load(repository, model).await?;
        let admitted = admit(repository, model, existing.as_ref(), &request, now).await?;
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

struct Admitted {
    answer: DeployAnswer,
    txn: Option<Txn>,
}

async fn admit(
    repository: &Repository,
    model: &ModelName,
    existing: Option<&Existing>,
    request: &DeployRequest,
    now: Timestamp,
) -> Result<Admitted, Problem> {
    if existing.is_some_and(|existing| existing.deployment.value.removing) {
        return Err(Problem::new(Code::Refused, format!("{model} is being undeployed"))
            .hint(format!("wait until `tradewind status {model}` no longer knows it")));
    }
    let version = find_version(repository, model, request.version).await?;
    let spec = specify(repository, &version, existing, request).await?;
    let before = existing.map(|existing| &existing.revision);
    let deployment = base(repository, model, existing).await?;
    let mut plan = plan_document(&spec, &deployment, existing);

    let under_way = existing.filter(|existing| !existing.rollout.value.state.is_final());
    if let Some(same) = under_way.filter(|_| before.is_some()) {
        let newest = repository
            .get::<Revision>(keys::revision(model, same.rollout.value.revision))
            .await?
            .map(|kept| kept.value);
        if newest.is_some_and(|newest| newest.spec.runs_the_same(&spec)) {
            plan.unchanged = true;
            plan.revision = same.rollout.value.revision;
            return Ok(answered(plan, Some(same.rollout.value.number), None));
        }
    }
    let live = existing.and_then(|existing| existing.deployment.value.live);
    if live.is_some() && under_way.is_none() && before.is_some_and(|revision| revision.spec.runs_the_same(&spec)) {
        plan.unchanged = true;
        plan.revision = live.unwrap_or(plan.revision);
        return Ok(answered(plan, None, None));
    }
    if let Some(existing) = under_way {
        check_supersedable(model, &existing.rollout.value, request.replace)?;
    }
    let (txn, rollout) = begin(model, existing, deployment, spec, &plan, &request.requested_by, now);
    Ok(answered(plan, (!request.dry_run).then_some(rollout), Some(txn)))
}

fn answered(plan: DeployPlan, rollout: Option<RolloutNumber>, txn: Option<Txn>) -> Admitted {
    Admitted { answer: DeployAnswer { schema_version: SCHEMA_VERSION, plan, rollout }, txn }
}

fn check_supersedable(model: &ModelName, rollout: &Rollout, replace: bool) -> Result<(), Problem> {
    match rollout.state {
        RolloutState::Regions | RolloutState::Preparing if !replace => Err(Problem::new(
            Code::Refused,
            format!("a rollout of {model} to revision {} is under way", rollout.revision),
        )
        .hint(format!("watch it with `tradewind rollout show {model}`, or take over from it with --replace"))),
        RolloutState::Committing | RolloutState::Arming => {
            let mut problem = Problem::new(
                Code::Refused,
                format!("{model} is being switched to revision {} at this moment", rollout.revision),
            );
            problem.retryable = true;
            Err(problem.hint("try again in a second"))
        }
        _ => Ok(()),
    }
}

async fn find_version(
    repository: &Repository,
    model: &ModelName,
    wanted: Option<VersionNumber>,
) -> Result<ModelVersion, Problem> {
    let Some(head) = repository.get::<ModelHead>(keys::model(model)).await? else {
        let known = repository.list::<ModelHead>(keys::MODELS).await?;
        let names: Vec<&str> = known.items.iter().map(|kept| kept.value.name.as_str()).collect();
        return Err(suggest::unknown("model", model.as_str(), &names)
            .cause("a path contains `/` or ends in `.onnx`; anything else is the name of a pushed model"));
    };
    let number = wanted.unwrap_or(head.value.latest);
    if let Some(version) = repository.get::<ModelVersion>(keys::version(model, number)).await? {
        return Ok(version.value);
    }
    let versions = repository.list::<ModelVersion>(keys::versions(model)).await?;
    match (wanted, versions.items.last()) {
        (None, Some(newest)) => Ok(newest.value.clone()),
        _ => {
            let known: Vec<String> = versions.items.iter().map(|kept| kept.value.version.to_string()).collect();
            Err(Problem::new(Code::NotFound, format!("{model} has no version {number}"))
                .hint(format!("its versions: {}", known.join(", "))))
        }
    }
}

/// The spec that the request asks for: what it leaves out stays as the last revision has it. The strategy is of this
/// rollout alone, so what the request leaves out of it takes its default.
async fn specify(
    repository: &Repository,
    version: &ModelVersion,
    existing: Option<&Existing>,
    request: &DeployRequest,
) -> Result<DeploymentSpec, Problem> {
    let before = existing.map(|existing| &existing.revision.spec);
    let regions = match (&request.regions, before) {
        (Some(regions), _) => regions.clone(),
        (None, Some(before)) => before.regions.clone(),
        (None, None) => {
            return Err(Problem::new(Code::Invalid, format!("{} is new here: which regions?", version.name))
                .hint(format!("tradewind deploy --regions REGION,REGION {}", version.name)));
        }
    };
    check_regions(repository, &regions).await?;
    let live = existing.filter(|existing| existing.deployment.value.live.is_some());
    if let Some(live) = live.filter(|_| !request.prune) {
        let left: Vec<&str> =
            live.revision.spec.regions.iter().filter(|region| !regions.contains(region)).map(AsRef::as_ref).collect();
        if !left.is_empty() {
            return Err(Problem::new(
                Code::Refused,
                format!("{} serves in {}, which --regions leaves out", version.name, left.join(", ")),
            )
            .hint("--regions is the whole set: name those regions too, or leave them with --prune"));
        }
    }
    let default = Strategy::default();
    let strategy = Strategy {
        max_parallel: request.max_parallel.unwrap_or(default.max_parallel),
        retries: request.retries.unwrap_or(default.retries),
        progress_deadline: request.progress_deadline.unwrap_or(default.progress_deadline),
        on_failure: request.on_failure.unwrap_or(default.on_failure),
        min_regions: request.min_regions,
        soak: request.soak.unwrap_or(default.soak),
        standby: request.standby.unwrap_or(default.standby),
    };
    let mut inherited = before.map(|spec| spec.region_health.clone()).unwrap_or_default();
    inherited.retain(|region, _| regions.contains(region));
    let spec = DeploymentSpec {
        model: version.name.clone(),
        version: version.version,
        digest: version.digest,
        regions,
        scale: request.scale.or(before.map(|spec| spec.scale)).unwrap_or_default(),
        strategy,
        health: request.health.or(before.map(|spec| spec.health)).unwrap_or_default(),
        region_health: request.region_health.clone().unwrap_or(inherited),
    };
    check_limits(&spec)?;
    Ok(spec)
}

async fn check_regions(repository: &Repository, regions: &[RegionName]) -> Result<(), Problem> {
    if regions.is_empty() {
        return Err(Problem::new(Code::Invalid, "no region is named").hint("--regions us-east1,europe-west1"));
    }
    if regions.len() > REGIONS_LIMIT {
        return Err(Problem::new(Code::Invalid, format!("a deployment has at most {REGIONS_LIMIT} regions")));
    }
    if let Some(twice) = regions.iter().enumerate().find(|(at, region)| regions[..*at].contains(region)) {
        return Err(Problem::new(Code::Invalid, format!("{} is named twice", twice.1)));
    }
    let known = repository.list::<Region>(keys::REGIONS).await?;
    let names: Vec<&str> = known.items.iter().map(|kept| kept.value.name.as_str()).collect();
    match regions.iter().find(|region| !names.contains(&region.as_str())) {
        Some(unknown) => Err(suggest::unknown("region", unknown.as_str(), &names)),
        None => Ok(()),
    }
}

fn check_limits(spec: &DeploymentSpec) -> Result<(), Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::Invalid, detail));
    let regions = spec.regions.len();
    if spec.scale.replicas == 0 || spec.scale.replicas > REPLICAS_LIMIT {
        return invalid(format!("replicas are between 1 and {REPLICAS_LIMIT}, not {}", spec.scale.replicas));
    }
    if spec.scale.threads == 0 || spec.scale.threads > 256 {
        return invalid(format!("threads are between 1 and 256, not {}", spec.scale.threads));
    }
    if let Some(least) = spec.strategy.min_regions.filter(|least| *least == 0 || *least as usize > regions) {
        return invalid(format!("--min-regions is between 1 and the number of regions, {regions}, not {least}"));
    }
    if let Some(stranger) = spec.region_health.keys().find(|region| !spec.regions.contains(region)) {
        return invalid(format!("region_health names {stranger}, which is not a region of this deployment"));
    }
    for health in std::iter::once(&spec.health).chain(spec.region_health.values()) {
        if health.interval.as_millis() < 50 || health.timeout.as_millis() < 10 {
            return invalid("the health interval is at least 50ms and its timeout at least 10ms".to_owned());
        }
        if health.unhealthy_after == 0 || health.healthy_after == 0 {
            return invalid("unhealthy_after and healthy_after are at least 1".to_owned());
        }
    }
    Ok(())
}

fn plan_document(spec: &DeploymentSpec, deployment: &Deployment, existing: Option<&Existing>) -> DeployPlan {
    let fleet = |action| PlannedStep { action, region: None };
    let mut steps = vec![fleet(Action::SelectRegions)];
    for region in &spec.regions {
        for action in [Action::Deploy, Action::ConfigureMonitoring, Action::Verify] {
            steps.push(PlannedStep { action, region: Some(region.clone()) });
        }
    }
    steps.extend([fleet(Action::Route), fleet(Action::ArmMonitoring)]);
    steps.extend(deployment.live.map(|_| fleet(Action::Retire)));
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
        summary: spec.strategy.summary(),
    }
}

/// The one transaction that begins a rollout.
fn begin(
    model: &ModelName,
    existing: Option<&Existing>,
    mut deployment: Deployment,
    spec: DeploymentSpec,
    plan: &DeployPlan,
    requested_by: &str,
    now: Timestamp,
) -> (Txn, RolloutNumber) {
    deployment.latest_revision = plan.revision;
    deployment.latest_rollout = deployment.latest_rollout.next();
    deployment.slots[plan.slot] = Some(plan.revision);
    let number = deployment.latest_rollout;
    let rollout = Rollout {
        model: model.clone(),
        number,
        revision: plan.revision,
        from: plan.from,
        slot: plan.slot,
        regions: spec.regions.clone(),
        strategy: spec.strategy,
        state: RolloutState::Regions,
        failure: None,
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
        created_at: now,
        finished_at: None,
        soak_until: None,
        soak: Soak::Pending,
    };
    let created_by = requested_by.chars().filter(|c| !c.is_control()).take(200).collect();
    let message = format!("revision {}: {}", plan.revision, plan.changes.join(", "));
    let revision = Revision { number: plan.revision, spec, created_at: now, created_by };
    let mut txn = Txn::new()
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

/// What a new revision is built on: the deployment there is, or a new one, whose numbers go on from those of one that
/// was undeployed.
async fn base(repository: &Repository, model: &ModelName, existing: Option<&Existing>) -> Result<Deployment, Problem> {
    if let Some(existing) = existing {
        return Ok(existing.deployment.value.clone());
    }
    let former = repository.get::<Deployment>(keys::undeployed(model)).await?.map(|kept| kept.value);
    Ok(former.map(|former| Deployment { removing: false, ..former }).unwrap_or_else(|| Deployment::new(model.clone())))
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
        let existing = Existing::load(repository, model).await?.ok_or_else(|| not_deployed(model))?;
        let mut deployment = existing.deployment.value.clone();
        (deployment.removing, deployment.live, deployment.slots) = (true, None, Default::default());
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

/// Ends the rollout that is under way; what served before goes on. After the switch it is too late.
pub async fn abort(repository: &Repository, hub: &Arc<Hub>, model: &ModelName, now: Timestamp) -> Result<(), Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let existing = Existing::load(repository, model).await?.ok_or_else(|| not_deployed(model))?;
        let mut rollout = existing.rollout.value.clone();
        if !matches!(rollout.state, RolloutState::Regions | RolloutState::Preparing) {
            return Err(Problem::new(Code::Refused, format!("no rollout of {model} is before its switch"))
                .hint(format!("see `tradewind rollout show {model}`; to go back, deploy the version that you want")));
        }
        let failure = Failure { message: "aborted".to_owned(), causes: Vec::new(), hint: None, retryable: false };
        let failure = RolloutFailure { region: None, action: Action::SelectRegions, failure };
        let txn =
            end_before_switch(repository, &existing.deployment, &existing.rollout, &mut rollout, failure, now).await?;
        if repository.commit(txn).await?.is_some() {
            hub.wake();
            return Ok(());
        }
    }
    Err(conflict(model))
}

/// The transaction that ends a rollout before its switch: the candidate slot is given up, nothing is prepared.
pub(crate) async fn end_before_switch(
    repository: &Repository,
    deployment: &Kept<Deployment>,
    kept: &Kept<Rollout>,
    rollout: &mut Rollout,
    failure: RolloutFailure,
    now: Timestamp,
) -> repository::Result<Txn> {
    let model = rollout.model.clone();
    let message = match &failure.region {
        Some(region) => format!("revision {} failed in {region}: {}", rollout.revision, failure.failure.message),
        None => format!("revision {} ended: {}", rollout.revision, failure.failure.message),
    };
    tradewind_core::rollout::plan::Change::Fail { failure }.apply_fleet(rollout, Default::default(), now);
    let mut given_up = deployment.value.clone();
    given_up.slots[rollout.slot] = None;
    let mut txn = Txn::new()
        .when(deployment.unchanged())
        .when(kept.unchanged())
        .then(put(&deployment.key, &given_up))
        .then(put(&kept.key, rollout))
        .then(event(now, &model, EventKind::RolloutFailed, Severity::Error, message));
    if let Some(route) =
        repository.get::<Route>(keys::route(&model)).await?.filter(|kept| kept.value.prepared.is_some())
    {
        txn = txn.when(route.unchanged()).then(match &route.value.committed {
            Some(_) => put(&route.key, &Route { prepared: None, ..route.value.clone() }),
            None => Op::delete(&route.key),
        });
    }
    Ok(txn)
}

/// An event of a model. One per model, kind and moment.
pub(crate) fn event(at: Timestamp, model: &ModelName, kind: EventKind, severity: Severity, message: String) -> Op {
    let record = EventRecord { at, severity, kind, region: None, model: Some(model.clone()), message };
    put(keys::event(at, &format!("{model}/{kind:?}")), &record)
}
