//! Drills: begun and stopped by people, followed to their end by the watcher. Control never has to end one for users to
//! be safe: gateways count the time themselves.

use std::collections::BTreeSet;

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    drill::{DrillAnswer, DrillRequest},
};
use tradewind_core::{
    DrillNumber, RegionName, Timestamp,
    capacity::Fit,
    drill::{Drill, DrillEstimate, DrillState, EndReason, LONGEST, Measured, SHORTEST},
    event::{EventKind, EventRecord, Severity},
    route::Route,
};
use tradewind_store::{Compare, Op, Txn};

use crate::{
    app::App,
    drains::{Outlook, earlier, outlook, who, why_not},
    events, keys,
    repository::{Repository, Result, put},
    view::{
        drill::{counted, served},
        sight::{Sight, Verdict},
    },
};

mod watcher;

pub(crate) use watcher::DrillWatcher;

/// Says what is to be expected and, unless it is a dry run, begins a drill.
pub(crate) async fn begin(app: &App, request: DrillRequest, now: Timestamp) -> Result<DrillAnswer, Problem> {
    let DrillRequest { region, lasts, .. } = &request;
    if !(SHORTEST..=LONGEST).contains(lasts) {
        return Err(Problem::new(Code::Invalid, format!("a drill lasts {SHORTEST} to {LONGEST}, not {lasts}")));
    }
    let routes = app.repository.list::<Route>(keys::ROUTES).await?.values();
    let regions = app.regions().await?;
    let Outlook { failover, p99_us } = outlook(app, region).await?;
    if failover.models.is_empty() {
        return Err(Problem::new(Code::Refused, format!("{region} serves nobody now, so a drill would show nothing"))
            .hint(format!("see how it is with `tradewind regions show {region}`")));
    }
    let served = served(region, &routes);
    let (mut objections, way, before) = app.study(&regions, |sight| {
        let trips = sight.round_trips(region);
        let targets = failover.models.iter().flat_map(|model| &model.targets);
        let way = targets.filter_map(|target| trips.get(&target.region).copied()).max();
        (unhealthy(region, &routes, sight), way, counted(region, &served, sight))
    });
    if let Some(worst) = failover.worst().filter(|worst| worst.fit == Fit::DoesNotFit) {
        objections.insert(0, format!("its users do not fit elsewhere: {}", why_not(worst)));
    }
    if !objections.is_empty() && !request.force {
        return Err(refusal(region, &objections));
    }
    let earlier = earlier(app, region).await?;
    let estimate = DrillEstimate::of(failover, p99_us, way, &earlier.iter().collect::<Vec<_>>());
    let mut answer =
        DrillAnswer { schema_version: SCHEMA_VERSION, region: region.clone(), estimate, objections, number: None };
    if request.dry_run {
        return Ok(answer);
    }
    let drill = Drill {
        number: next_number(&app.repository).await?,
        region: region.clone(),
        lasts: *lasts,
        started_at: now,
        started_by: request.requested_by.clone(),
        forced: !answer.objections.is_empty(),
        state: DrillState::Running,
        ended: None,
        estimate: answer.estimate.clone(),
        before,
        measured: Measured { p99_before_us: p99_us, ..Measured::default() },
        interrupted: false,
    };
    record(app, &drill).await?;
    answer.number = Some(drill.number);
    Ok(answer)
}

/// Other regions that serve users and are not well, and switches that are under way.
fn unhealthy(region: &RegionName, routes: &[Route], sight: &Sight<'_>) -> Vec<String> {
    let committed = routes.iter().filter_map(|route| route.committed.as_ref());
    let serving: BTreeSet<&RegionName> = committed.flat_map(|live| &live.regions).collect();
    let is_drained = |name: &RegionName| sight.regions.get(name).is_some_and(|region| region.drained);
    let others = serving.into_iter().filter(|name| *name != region && !is_drained(name));
    let mut objections: Vec<String> = others
        .filter_map(|name| match sight.members_verdict(name) {
            Verdict::Healthy => None,
            verdict => Some(format!("{name} is not healthy: {}", verdict.reason().unwrap_or_default())),
        })
        .collect();
    let switched = routes.iter().filter(|route| route.prepared.is_some());
    objections.extend(switched.map(|route| format!("{} is being switched to another revision", route.model)));
    objections
}

fn refusal(region: &RegionName, objections: &[String]) -> Problem {
    let problem = Problem::new(Code::Refused, format!("something speaks against a drill of {region} now"));
    let problem = objections.iter().fold(problem, |problem, objection| problem.cause(objection.as_str()));
    problem.hint("put that right first, or add --force to do it all the same")
}

async fn next_number(repository: &Repository) -> Result<DrillNumber> {
    let done = repository.list::<Drill>(keys::DRILLS).await?.values();
    Ok(done.last().map_or(DrillNumber(1), |last| last.number.next()))
}

async fn record(app: &App, drill: &Drill) -> Result<(), Problem> {
    let Drill { number, region, lasts, started_at, .. } = drill;
    let message = format!("drill {number}: {region} is taken for lost for {lasts}, by {}", who(&drill.started_by));
    let txn = Txn::new()
        .when(Compare::absent(keys::DRILL_UNDER_WAY))
        .when(Compare::absent(keys::drill(*number)))
        .then(put(keys::DRILL_UNDER_WAY, drill))
        .then(event(drill, EventKind::DrillStarted, *started_at, message));
    if app.repository.commit(txn).await?.is_some() {
        return Ok(());
    }
    let under_way = app.repository.get::<Drill>(keys::DRILL_UNDER_WAY.to_owned()).await?;
    let which = under_way.map_or_else(|| "another drill".to_owned(), |drill| format!("drill {}", drill.value.number));
    Err(Problem::new(Code::Refused, format!("{which} is under way, and there is one at a time"))
        .hint("see it with `tradewind drill show latest`, end it with `tradewind drill stop`"))
}

fn event(drill: &Drill, kind: EventKind, at: Timestamp, message: String) -> Op {
    let record = EventRecord { region: Some(drill.region.clone()), ..events::of(kind, Severity::Warning, at, message) };
    events::record(at, &format!("drill/{}/{kind:?}", drill.number), &record)
}

fn ended(drill: &Drill, at: Timestamp) -> Op {
    let why = match drill.ended.map(|end| end.reason) {
        Some(EndReason::Stopped) => "was stopped",
        Some(EndReason::Time) | None => "is over",
    };
    event(drill, EventKind::DrillEnded, at, format!("drill {} {why}: {} is let back", drill.number, drill.region))
}

/// The newest first, the one under way before all.
pub(crate) async fn list(repository: &Repository) -> Result<Vec<Drill>> {
    let mut drills = repository.list::<Drill>(keys::DRILLS).await?.values();
    let under_way = under_way(repository).await?;
    // It may have been done between the two reads.
    drills.extend(under_way.filter(|drill| drills.iter().all(|done| done.number != drill.number)));
    drills.reverse();
    Ok(drills)
}

pub(crate) async fn under_way(repository: &Repository) -> Result<Option<Drill>> {
    Ok(repository.get::<Drill>(keys::DRILL_UNDER_WAY.to_owned()).await?.map(|kept| kept.value))
}

/// Lets the region back at once.
pub(crate) async fn stop(app: &App, number: DrillNumber, now: Timestamp) -> Result<Drill, Problem> {
    let over = || {
        Problem::new(Code::Refused, format!("drill {number} is over"))
            .hint(format!("see it with `tradewind drill show {number}`"))
    };
    loop {
        let kept = app.repository.get::<Drill>(keys::DRILL_UNDER_WAY.to_owned()).await?;
        let Some(kept) = kept.filter(|kept| kept.value.number == number && kept.value.runs(now)) else {
            return Err(over());
        };
        let stopped = kept.value.clone().ending(now, EndReason::Stopped);
        let txn = Txn::new().when(kept.unchanged()).then(put(&kept.key, &stopped)).then(ended(&stopped, now));
        // Otherwise something was measured meanwhile.
        if app.repository.commit(txn).await?.is_some() {
            return Ok(stopped);
        }
    }
}
