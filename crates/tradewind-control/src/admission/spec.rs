//! The spec that a request asks for: its version found, its regions and limits checked.

use std::collections::BTreeMap;

use tradewind_api::{
    Code, Problem,
    deploy::{DeployRequest, ScaleChange},
};
use tradewind_core::{
    ModelName, RegionName, VersionNumber,
    bundle::{ModelHead, ModelVersion},
    deployment::{DeploymentSpec, REGIONS_LIMIT},
    region::Region,
    scale::Scale,
};

use super::Existing;
use crate::{
    keys,
    repository::{Kept, Repository},
    suggest,
};

const SCALE_HINT: &str = "replicas are asked for as in docs/scaling.md: a fixed number, or min and max";

pub(super) async fn find_version(
    repository: &Repository,
    model: &ModelName,
    wanted: Option<VersionNumber>,
) -> Result<Kept<ModelVersion>, Problem> {
    let Some(head) = repository.get::<ModelHead>(keys::model(model)).await? else {
        let known = repository.list::<ModelHead>(keys::MODELS).await?;
        let names: Vec<&str> = known.items.iter().map(|kept| kept.value.name.as_str()).collect();
        return Err(suggest::unknown("model", model.as_str(), &names)
            .cause("a path contains `/` or ends in `.onnx`; anything else is the name of a pushed model"));
    };
    let number = wanted.unwrap_or(head.value.latest);
    if let Some(version) = repository.get::<ModelVersion>(keys::version(model, number)).await? {
        return Ok(version);
    }
    let versions = repository.list::<ModelVersion>(keys::versions(model)).await?;
    match (wanted, versions.items.last()) {
        (None, Some(newest)) => Ok(newest.clone()),
        _ => {
            let known: Vec<String> = versions.items.iter().map(|kept| kept.value.version.to_string()).collect();
            Err(Problem::new(Code::NotFound, format!("{model} has no version {number}"))
                .hint(format!("its versions: {}", known.join(", "))))
        }
    }
}

/// The spec that the request asks for: what it leaves out stays as the last revision has it. The strategy is of this
/// rollout alone, so what the request leaves out of it takes its default.
pub(super) async fn specify(
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
    let strategy = request.strategy();
    strategy.check(&regions).map_err(|problem| {
        Problem::new(Code::Invalid, problem).hint("strategies are written as in docs/deploying.md")
    })?;
    let regions = strategy.in_order(&regions);
    let health = request.health.unwrap_or_default().applied_to(before.map(|spec| spec.health).unwrap_or_default());
    let before_scale = before.map(|spec| spec.scale.clone()).unwrap_or_default();
    let scale = rescaled(request.scale.clone().unwrap_or_default(), &before_scale)?;
    let region_scale = own_way(
        before.map(|spec| &spec.region_scale),
        request.region_scale.as_ref(),
        &regions,
        |change| *change != ScaleChange::default(),
        |change, own| rescaled(change, own.as_ref().unwrap_or(&scale)),
    )?;
    let region_health = own_way(
        before.map(|spec| &spec.region_health),
        request.region_health.as_ref(),
        &regions,
        |change| !change.is_empty(),
        |change, own| Ok(change.applied_to(own.unwrap_or(health))),
    )?;
    let monitors =
        request.monitors.unwrap_or_default().applied_to(before.map(|spec| spec.monitors).unwrap_or_default());
    let region_monitors = own_way(
        before.map(|spec| &spec.region_monitors),
        request.region_monitors.as_ref(),
        &regions,
        |change| !change.is_empty(),
        |change, own| Ok(change.applied_to(own.unwrap_or(monitors))),
    )?;
    let stay_in = match &request.stay_in {
        Some(asked) => asked.iter().cloned().collect(),
        None => before.map(|spec| spec.stay_in.clone()).unwrap_or_default(),
    };
    let spec = DeploymentSpec {
        model: version.name.clone(),
        version: version.version,
        digest: version.digest,
        regions,
        scale,
        region_scale,
        strategy,
        health,
        region_health,
        monitors,
        region_monitors,
        stay_in,
    };
    check_limits(&spec)?;
    check_runtime(&spec, version)?;
    Ok(spec)
}

/// A server of the author's own decides for itself how it runs requests: what it would ignore is not accepted.
fn check_runtime(spec: &DeploymentSpec, version: &ModelVersion) -> Result<(), Problem> {
    if version.manifest.server().is_none() {
        return Ok(());
    }
    let ignored = [
        ("instances", spec.scales().any(|scale| scale.instances > 1)),
        ("max_batch_rows", spec.scales().any(|scale| scale.max_batch_rows.is_some())),
    ];
    match ignored.into_iter().find(|(_, is_said)| *is_said) {
        Some((key, _)) => Err(Problem::new(
            Code::Invalid,
            format!("{key} says how ONNX Runtime runs requests, and {} is a server of its own", version.name),
        )
        .hint("its manifest may set environment variables that say the like: [command.env]")),
        None => Ok(()),
    }
}

/// What regions have of their own: what is asked for on top of what each has, or else of what all have. One that is named
/// with nothing in it has nothing of its own any more.
fn own_way<T: Clone, C: Clone>(
    before: Option<&BTreeMap<RegionName, T>>,
    asked: Option<&BTreeMap<RegionName, C>>,
    regions: &[RegionName],
    says_something: impl Fn(&C) -> bool,
    apply: impl Fn(C, Option<T>) -> Result<T, Problem>,
) -> Result<BTreeMap<RegionName, T>, Problem> {
    let mut own = before.cloned().unwrap_or_default();
    own.retain(|region, _| regions.contains(region));
    for (region, change) in asked.into_iter().flatten() {
        if says_something(change) {
            let changed = apply(change.clone(), own.get(region).cloned())?;
            own.insert(region.clone(), changed);
        } else {
            own.remove(region);
        }
    }
    Ok(own)
}

fn rescaled(change: ScaleChange, before: &Scale) -> Result<Scale, Problem> {
    change.applied_to(before).map_err(|problem| Problem::new(Code::Invalid, problem).hint(SCALE_HINT))
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
    for scale in spec.scales() {
        if let Err(problem) = scale.check() {
            return Err(Problem::new(Code::Invalid, problem).hint(SCALE_HINT));
        }
    }
    let scale = spec.region_scale.keys().map(|region| ("region_scale", region));
    let health = spec.region_health.keys().map(|region| ("region_health", region));
    let monitors = spec.region_monitors.keys().map(|region| ("region_monitors", region));
    let bounds = spec.stay_in.iter().map(|region| ("stay_in", region));
    let mut named = scale.chain(health).chain(monitors).chain(bounds);
    if let Some((setting, stranger)) = named.find(|(_, region)| !spec.regions.contains(region)) {
        return invalid(format!("{setting} names {stranger}, which is not a region of this deployment"));
    }
    for monitors in std::iter::once(&spec.monitors).chain(spec.region_monitors.values()) {
        if let Err(problem) = monitors.check() {
            let hint = "monitors are written as in docs/monitoring.md: availability = 0.999";
            return Err(Problem::new(Code::Invalid, problem).hint(hint));
        }
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
