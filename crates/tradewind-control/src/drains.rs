//! Taking a region's users away, and letting them back: only where they fit, unless somebody insists.

use std::time::Duration;

use tradewind_api::{
    Code, Problem, SCHEMA_VERSION,
    drain::{DrainAnswer, DrainEstimate, DrainRequest, UndrainRequest},
    replica::INFERENCE_LIMIT,
};
use tradewind_core::{
    RegionName, Timestamp,
    capacity::{Failover, Fit, ModelFailover},
    drill::{Drill, moving_ms},
    event::{EventKind, EventRecord, Severity},
    region::Region,
    route::Route,
};
use tradewind_store::Txn;

use crate::{
    app::App,
    events, keys,
    repository::{Kept, put},
    view::{
        capacity::Failovers,
        drill::{p99_at_home_us, served},
    },
};

/// What speaks about a region's users at one moment.
pub(crate) struct Outlook {
    pub failover: Failover,
    /// Of the worst model, of what they get there now.
    pub p99_us: Option<u64>,
}

pub(crate) async fn outlook(app: &App, region: &RegionName) -> Result<Outlook, Problem> {
    let routes = app.repository.list::<Route>(keys::ROUTES).await?.values();
    let regions = app.regions().await?;
    Ok(app.study(&regions, |sight| Outlook {
        failover: Failovers::new(&routes, sight).of_region(region).unwrap_or_else(|| Failover::of(Vec::new())),
        p99_us: p99_at_home_us(region, &served(region, &routes), sight),
    }))
}

/// Drills of a region that are done, oldest first.
pub(crate) async fn earlier(app: &App, region: &RegionName) -> Result<Vec<Drill>, Problem> {
    let drills = app.repository.list::<Drill>(keys::DRILLS).await?.values();
    Ok(drills.into_iter().filter(|drill| drill.region == *region).collect())
}

pub(crate) async fn drain(
    app: &App,
    region: Kept<Region>,
    request: &DrainRequest,
    now: Timestamp,
) -> Result<DrainAnswer, Problem> {
    let name = region.value.name.clone();
    let Outlook { failover, p99_us } = outlook(app, &name).await?;
    let earlier = earlier(app, &name).await?;
    let busy = failover.models.iter().any(|model| model.in_flight > 0.0);
    let estimate = DrainEstimate {
        moved_ms: moving_ms(&earlier.iter().collect::<Vec<_>>()),
        answered_ms: p99_us.filter(|_| busy).map(|us| us.div_ceil(1000)),
        limit_ms: u64::try_from(Duration::as_millis(&INFERENCE_LIMIT)).unwrap_or(u64::MAX),
    };
    let was_drained = region.value.drained;
    if !request.dry_run && !was_drained {
        if failover.fit == Fit::DoesNotFit && !request.force {
            return Err(refusal(&name, &failover));
        }
        let message = format!("{name} was drained by {}", who(&request.requested_by));
        set_drained(app, region, true, (EventKind::RegionDrained, message), now).await?;
    }
    let drained = was_drained || !request.dry_run;
    Ok(DrainAnswer {
        schema_version: SCHEMA_VERSION,
        region: name,
        drained,
        changed: drained != was_drained,
        failover,
        estimate,
    })
}

fn refusal(region: &RegionName, failover: &Failover) -> Problem {
    let problem = Problem::new(Code::Refused, format!("the users of {region} do not fit elsewhere"));
    let worst = failover.worst().map(why_not).unwrap_or_default();
    problem.cause(worst).hint(format!(
        "see where they would go with `tradewind regions drain {region} --dry-run`; add --force to drain it all the same"
    ))
}

/// Why the users of a model do not fit, for people.
pub(crate) fn why_not(failover: &ModelFailover) -> String {
    let model = &failover.model;
    match (failover.targets.is_empty(), failover.share) {
        (true, _) => format!("no other region may serve them with {model} now"),
        (false, Some(share)) => format!("there is room for {:.0} % of those of {model}", (share * 100.0).floor()),
        (false, None) => format!("there is not room for all of those of {model}"),
    }
}

pub(crate) async fn undrain(
    app: &App,
    region: Kept<Region>,
    request: &UndrainRequest,
    now: Timestamp,
) -> Result<DrainAnswer, Problem> {
    let (name, changed) = (region.value.name.clone(), region.value.drained);
    if changed {
        let message = format!("{name} takes users again, by {}", who(&request.requested_by));
        set_drained(app, region, false, (EventKind::RegionUndrained, message), now).await?;
    }
    let Outlook { failover, .. } = outlook(app, &name).await?;
    let earlier = earlier(app, &name).await?;
    let estimate =
        DrainEstimate { moved_ms: moving_ms(&earlier.iter().collect::<Vec<_>>()), answered_ms: None, limit_ms: 0 };
    Ok(DrainAnswer { schema_version: SCHEMA_VERSION, region: name, drained: false, changed, failover, estimate })
}

async fn set_drained(
    app: &App,
    region: Kept<Region>,
    drained: bool,
    (kind, message): (EventKind, String),
    now: Timestamp,
) -> Result<(), Problem> {
    let name = &region.value.name;
    let event = EventRecord { region: Some(name.clone()), ..events::of(kind, Severity::Info, now, message) };
    let txn = Txn::new()
        .when(region.unchanged())
        .then(put(&region.key, &Region { drained, ..region.value.clone() }))
        .then(events::record(now, &format!("region/{name}/{kind:?}"), &event));
    if app.repository.commit(txn).await?.is_some() {
        return Ok(());
    }
    let mut problem = Problem::new(Code::Refused, format!("{name} was changed by somebody else at the same time"));
    problem.retryable = true;
    Err(problem.hint(format!("look at `tradewind regions show {name}` and try again")))
}

/// Who asked, for people.
pub(crate) fn who(requested_by: &str) -> &str {
    if requested_by.is_empty() { "somebody" } else { requested_by }
}
