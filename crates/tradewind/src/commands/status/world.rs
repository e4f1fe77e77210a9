//! All models, a line each, and whatever is not well.

use std::collections::{BTreeMap, BTreeSet};

use tradewind_api::status::{DeploymentStatus, RegionHealth, RegionStatus, VerificationProgress, WorldStatus};
use tradewind_core::{
    RegionName, Timestamp,
    capacity::Fit,
    drill::{Drill, DrillState},
    rollout::RolloutState,
};

use crate::{
    commands::{capacity, regions, rollout},
    terminal::{Paint, Table, Tone, table::Cell, units},
};

/// With more regions than this their number is shown instead of their names.
const NAMED_REGIONS: usize = 4;
/// And of more than this not even those are listed whose users do not fit elsewhere: `regions list` does.
const LISTED_REGIONS: usize = 10;

pub(super) fn render(world: &WorldStatus, paint: Paint) -> String {
    if world.models.is_empty() {
        let mut text = String::from("  nothing is deployed. Next: tradewind deploy --regions A,B MODEL\n");
        if !world.regions.is_empty() {
            text += &format!("\n{}", regions::table(&world.regions, paint));
        }
        return text;
    }
    let mut table =
        Table::new(&["MODEL", "VERSION", "REVISION", "LIVE", "REGIONS", "REQUESTS", "P99", "ERRORS", "ROLLOUT"]);
    world.models.iter().for_each(|status| table.row(row(status)));
    let mut text = table.render(paint);
    let troubles = troubles(world);
    if !troubles.is_empty() {
        text.push('\n');
    }
    for (region, trouble) in troubles {
        text += &format!("  {}  {trouble}\n", paint.on(&region, Tone::Bad));
    }
    if let Some(drill) = &world.drill {
        text +=
            &format!("\n  {}  {}\n", paint.on(drill.region.as_str(), Tone::Warn), under_way(drill, Timestamp::now()));
    }
    text + &if_lost(&world.regions, paint)
}

/// `drill 3: taken for lost for 20 s more, end it with tradewind drill stop`
fn under_way(drill: &Drill, now: Timestamp) -> String {
    let number = drill.number;
    match drill.state {
        DrillState::Running => {
            let left = units::roughly(units::between(now, drill.due()));
            format!("drill {number}: taken for lost for {left} more; end it with tradewind drill stop")
        }
        DrillState::Returning | DrillState::Done => format!("drill {number} is over: users return"),
    }
}

/// Where the users of each region would go. Of many regions only those are told whose users may not fit.
fn if_lost(regions: &[RegionStatus], paint: Paint) -> String {
    let known: Vec<_> = regions.iter().filter_map(|region| Some((region, region.failover.as_ref()?))).collect();
    let told = |fit: Fit| known.len() <= NAMED_REGIONS || fit != Fit::Fits;
    let mut table = Table::new(&["IF LOST", "USERS GO TO"]);
    for (region, failover) in known.iter().filter(|(_, failover)| told(failover.fit)).take(LISTED_REGIONS) {
        table.row([region.name.as_str().into(), Cell::new(capacity::phrase(failover), capacity::tone(failover.fit))]);
    }
    match known.as_slice() {
        [] => String::new(),
        many if !many.iter().any(|(_, failover)| told(failover.fit)) => {
            format!("\n  any of {} regions may be lost: its users fit elsewhere\n", many.len())
        }
        _ => format!("\n{}", table.render(paint)),
    }
}

fn row(status: &DeploymentStatus) -> [Cell; 9] {
    let number = |number: Option<String>| Cell::from(number.unwrap_or_else(|| "-".to_owned()));
    let regions = regions_of(status);
    let served = served(status);
    let all_healthy = status.health.iter().all(|(region, health)| health.healthy || !served.contains(&region));
    [
        status.model.as_str().into(),
        number(status.version.map(|version| version.to_string())),
        number(status.revision.map(|revision| revision.to_string())),
        number(status.live_slot.map(|slot| slot.to_string())),
        Cell::new(regions, if all_healthy { Tone::Plain } else { Tone::Bad }),
        units::rate(status.health.values().map(|health| health.requests_per_second).sum()).into(),
        status.health.values().filter_map(|health| health.p99_us).max().map_or("-".to_owned(), units::latency).into(),
        error_share(status.health.values()).into(),
        rollout_cell(status),
    ]
}

/// The regions of the revision that is live; before any is, those of the rollout. A rollout that failed adds none.
fn served(status: &DeploymentStatus) -> Vec<&RegionName> {
    let Some(live) = status.live_slot.and_then(|slot| status.slots.get(&slot)) else {
        return status.regions.iter().collect();
    };
    // In the order in which people listed them, as far as that is known.
    let mut served: Vec<&RegionName> = live.replicas.keys().collect();
    served.sort_by_key(|region| status.regions.iter().position(|listed| listed == *region).unwrap_or(usize::MAX));
    served
}

/// The regions that users get, the unhealthy ones marked.
fn regions_of(status: &DeploymentStatus) -> String {
    let healthy = |region: &RegionName| status.health.get(region).is_none_or(|health| health.healthy);
    let regions = served(status);
    if regions.len() > NAMED_REGIONS {
        let unhealthy = regions.iter().filter(|region| !healthy(region)).count();
        return match unhealthy {
            0 => regions.len().to_string(),
            unhealthy => format!("{} ({unhealthy} unhealthy)", regions.len()),
        };
    }
    let names = regions.iter().map(|region| format!("{region}{}", if healthy(region) { "" } else { "(!)" }));
    names.collect::<Vec<_>>().join(" ")
}

/// The share of the requests that are answered now: `0`, `0.02 %`, or `-` when there are none.
pub(super) fn error_share<'a>(health: impl Iterator<Item = &'a RegionHealth>) -> String {
    let (errors, requests) = health.fold((0.0, 0.0), |(errors, requests), health| {
        (errors + health.errors_per_second, requests + health.requests_per_second)
    });
    match (errors > 0.0, requests > 0.0) {
        (_, false) => "-".to_owned(),
        (false, true) => "0".to_owned(),
        (true, true) => format!("{:.2} %", errors * 100.0 / requests),
    }
}

pub(in crate::commands) fn rollout_cell(status: &DeploymentStatus) -> Cell {
    let brief = &status.rollout;
    if brief.paused.is_some() && !brief.state.is_final() {
        return Cell::new(format!("revision {} paused", brief.revision), Tone::Warn);
    }
    match brief.state {
        // The everyday case is not worth a word of its own.
        RolloutState::Succeeded => Cell::new("done", Tone::Faint),
        RolloutState::Failed => Cell::new(format!("revision {} failed", brief.revision), Tone::Bad),
        state => Cell::new(format!("revision {} {}", brief.revision, rollout::state_word(state)), Tone::Notice),
    }
}

/// How many of a rollout's regions are brought up and verified, and how many there are.
pub(in crate::commands) fn regions_done(status: &DeploymentStatus) -> (usize, usize) {
    let verified = status.verification_status.values();
    let done = verified.filter(|progress| **progress == VerificationProgress::Success).count();
    (done, status.regions.len())
}

/// What is wrong with each region, and where the users of its models go.
fn troubles(world: &WorldStatus) -> Vec<(String, String)> {
    let mut troubles = Vec::new();
    for region in world.regions.iter().filter(|region| !region.healthy) {
        let reason = region.reason.as_deref().unwrap_or("no reason known");
        let users: BTreeSet<String> = world
            .models
            .iter()
            .filter_map(|status| Some((status.health.get(&region.name)?, &status.health)))
            .filter(|(health, _)| !health.healthy)
            .map(|(health, all)| users_go_to(health, all))
            .collect();
        let users = users.iter().map(|users| format!("; {users}")).collect::<String>();
        troubles.push((region.name.to_string(), format!("unhealthy: {reason}{users}")));
    }
    // A region may be well and yet one of its models not.
    let well = |name: &RegionName| !world.regions.iter().any(|region| region.name == *name && !region.healthy);
    for status in &world.models {
        let served = served(status);
        let unwell = status.health.iter().filter(|(region, health)| !health.healthy && served.contains(region));
        for (region, health) in unwell.filter(|(region, _)| well(region)) {
            let reason = health.reason.as_deref().unwrap_or("unhealthy");
            troubles.push((
                region.to_string(),
                format!("{}: {reason}; {}", status.model, users_go_to(health, &status.health)),
            ));
        }
    }
    troubles
}

/// `users go to us-east1 (fits: 40 % of its limit)`
pub(super) fn users_go_to(health: &RegionHealth, all: &BTreeMap<RegionName, RegionHealth>) -> String {
    match &health.users_go_to {
        Some(region) => {
            let there = all.get(region).and_then(|health| capacity::room(&health.capacity?));
            format!("users go to {region}{}", there.map(|room| format!(" ({room})")).unwrap_or_default())
        }
        None => "users get errors".to_owned(),
    }
}
