//! Users for whom somebody chooses what they get.

use std::sync::Arc;

use tradewind_api::{
    Code, Problem,
    deploy::{PinRequest, UnpinRequest},
};
use tradewind_artifacts::BlobStore;
use tradewind_core::{
    ModelName, RevisionNumber, Timestamp,
    event::{EventKind, Severity},
    pins::{
        KEY_LIMIT, LONGEST_TIME, Pin, PinTable, PinTarget, Pins, TABLES_LIMIT, USERS_LIMIT, USUAL_TIME,
        table::TABLES_USERS_LIMIT,
    },
    route::{Candidate, Route, RouteState},
};
use tradewind_store::Txn;

use super::{CONFLICT_RETRIES, conflict, event, moves::Past, person};
use crate::{
    hub::Hub,
    repository::{Kept, Repository, put},
    tables,
};

/// From the next epoch on these users get what they are pinned to.
pub async fn pin(
    repository: &Repository,
    hub: &Arc<Hub>,
    tables: &BlobStore,
    model: &ModelName,
    request: &PinRequest,
    now: Timestamp,
) -> Result<Route, Problem> {
    let until = check(request, now)?;
    let table = match request.table {
        Some(digest) => Some(PinTable { digest, users: tables::count(tables, &digest).await?, to: request.to, until }),
        None => None,
    };
    let (to, by) = (request.to, person(&request.requested_by));
    for _ in 0..CONFLICT_RETRIES {
        let Some(past) = Past::load(repository, model).await? else { continue };
        let mut kept = routed(&past, model)?;
        if let PinTarget::Revision(number) = to {
            offer(&mut kept.value, &past, repository, hub, number, now).await?;
        }
        let mut pins = Pins::clone(&kept.value.pins);
        pins.expire(now);
        pins.users.extend(request.users.iter().map(|user| (user.clone(), Pin { to, until })));
        table.into_iter().for_each(|table| pins.put_table(table));
        check_room(&pins, model)?;
        let message = match table {
            Some(PinTable { digest, users: count, .. }) => {
                format!("{} of table {} are pinned to {to} by {by}", users(count), digest.short())
            }
            None => format!("{} are pinned to {to} by {by}", users(request.users.len() as u64)),
        };
        if let Some(route) = write(repository, &past, &kept, pins, message, now).await? {
            hub.wake();
            return Ok(route);
        }
    }
    Err(conflict(model))
}

/// From the next epoch on these users, or all, get what others get.
pub async fn unpin(
    repository: &Repository,
    hub: &Arc<Hub>,
    model: &ModelName,
    request: &UnpinRequest,
    now: Timestamp,
) -> Result<Route, Problem> {
    for _ in 0..CONFLICT_RETRIES {
        let Some(past) = Past::load(repository, model).await? else { continue };
        let kept = routed(&past, model)?;
        let mut pins = Pins::clone(&kept.value.pins);
        if request.all {
            pins = Pins::default();
        }
        if let Some(stranger) = request.users.iter().find(|user| pins.users.remove(*user).is_none()) {
            return Err(Problem::new(Code::NotFound, format!("`{stranger}` is not pinned"))
                .hint(format!("see who is with `tradewind route pins {model}`")));
        }
        for digest in &request.tables {
            let before = pins.tables.len();
            pins.tables.retain(|table| table.digest != *digest);
            if pins.tables.len() == before {
                return Err(Problem::new(Code::NotFound, format!("no users of table {} are pinned", digest.short()))
                    .hint(format!("see which are with `tradewind route pins {model}`")));
            }
        }
        pins.expire(now);
        let gone = count(&kept.value.pins) - count(&pins);
        let message = format!("{} are not pinned any more, by {}", users(gone), person(&request.requested_by));
        if let Some(route) = write(repository, &past, &kept, pins, message, now).await? {
            hub.wake();
            return Ok(route);
        }
    }
    Err(conflict(model))
}

/// Until when they are pinned.
fn check(request: &PinRequest, now: Timestamp) -> Result<Timestamp, Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::Invalid, detail));
    match (request.users.is_empty(), request.table) {
        (true, None) => return invalid("no user is named".to_owned()),
        (false, Some(_)) => return invalid("either users are named, or a table of them".to_owned()),
        _ => {}
    }
    let is_key = |user: &&String| !user.is_empty() && user.len() <= KEY_LIMIT && !user.chars().any(char::is_control);
    if let Some(odd) = request.users.iter().find(|user| !is_key(user)) {
        let shown: String = odd.chars().take(40).filter(|c| !c.is_control()).collect();
        return invalid(format!("`{shown}` is no key of a user: 1 to {KEY_LIMIT} bytes without control characters"));
    }
    let lasts = request.lasts.unwrap_or(USUAL_TIME);
    if lasts.duration().is_zero() || lasts > LONGEST_TIME {
        return invalid(format!("a pin lasts at most {LONGEST_TIME}, not {lasts}"));
    }
    Ok(now.checked_add(lasts.duration()).unwrap_or(Timestamp::MAX))
}

/// Pins travel with the route, and gateways keep their tables in memory.
fn check_room(pins: &Pins, model: &ModelName) -> Result<(), Problem> {
    let tabled: u64 = pins.tables.iter().map(|table| table.users).sum();
    let most = if pins.users.len() > USERS_LIMIT {
        format!("at most {USERS_LIMIT} users of a model are pinned one by one")
    } else if pins.tables.len() > TABLES_LIMIT {
        format!("a model has at most {TABLES_LIMIT} tables of users")
    } else if tabled > TABLES_USERS_LIMIT as u64 {
        format!("the tables of a model have at most {TABLES_USERS_LIMIT} users together, not {tabled}")
    } else {
        return Ok(());
    };
    Err(Problem::new(Code::TooLarge, most)
        .hint(format!("see them with `tradewind route pins {model}`, unpin some with `tradewind route unpin`")))
}

/// Of those who are in several tables, each counts.
fn count(pins: &Pins) -> u64 {
    pins.users.len() as u64 + pins.tables.iter().map(|table| table.users).sum::<u64>()
}

fn users(count: u64) -> String {
    if count == 1 { "1 user".to_owned() } else { format!("{count} users") }
}

fn routed(past: &Past, model: &ModelName) -> Result<Kept<Route>, Problem> {
    past.existing.route.clone().filter(|route| route.value.committed.is_some()).ok_or_else(|| {
        Problem::new(Code::Refused, format!("users get no revision of {model} yet"))
            .hint(format!("see its rollout with `tradewind rollout show {model}`"))
    })
}

/// Puts a revision into the route that is warm and that nobody gets yet. What is gone is not pinned to.
async fn offer(
    route: &mut Route,
    past: &Past,
    repository: &Repository,
    hub: &Hub,
    number: RevisionNumber,
    now: Timestamp,
) -> Result<(), Problem> {
    let model = route.model.clone();
    let revision = past.revision(number)?.clone();
    let Some(committed) = &mut route.committed else { return Ok(()) };
    if committed.served().any(|state| state.revision == number) {
        return Ok(());
    }
    let warm = match committed.candidate {
        Some(_) => None,
        None => past.warm(repository, hub, &revision, now).await?,
    };
    let state = warm.map(|warm| warm.state(committed.epoch)).ok_or_else(|| {
        Problem::new(Code::Refused, format!("revision {number} of {model} is not there any more"))
            .hint(format!("see what its slots hold with `tradewind status {model}`"))
    })?;
    committed.candidate = Some(Box::new(Candidate::of_pinned(state)));
    Ok(())
}

/// `None` if somebody else wrote in between.
async fn write(
    repository: &Repository,
    past: &Past,
    kept: &Kept<Route>,
    pins: Pins,
    message: String,
    now: Timestamp,
) -> Result<Option<Route>, Problem> {
    let existing = &past.existing.deployment;
    let mut deployment = existing.value.clone();
    let (route, epoch) = kept.value.with_pins(pins, deployment.latest_epoch);
    deployment.latest_epoch = epoch;
    let at = route.committed.as_ref().map_or(epoch, |state: &RouteState| state.epoch);
    let model = &deployment.model;
    let txn = Txn::new()
        .when(existing.unchanged())
        .when(kept.unchanged())
        .then(put(&existing.key, &deployment))
        .then(put(&kept.key, &route))
        .then(event(now, model, EventKind::UsersPinned, Severity::Info, format!("{message}, at epoch {at}")));
    Ok(repository.commit(txn).await?.map(|_| route))
}
