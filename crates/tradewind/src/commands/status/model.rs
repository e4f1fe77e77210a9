//! One model in full: its slots, its regions, its latest rollout.

use tradewind_api::{
    deploy::StageView,
    status::{
        CandidateView, DeploymentProgress, DeploymentStatus, RegionHealth, RolloutBrief, SlotState, SlotView,
        VerificationProgress,
    },
};
use tradewind_core::{
    RegionName, Timestamp,
    rollout::{RolloutState, Soak},
};

use super::world::{error_share, users_go_to};
use crate::{
    commands::{capacity, rollout},
    terminal::{Paint, Table, Tone, table::Cell, units},
};

pub(super) fn render(status: &DeploymentStatus, paint: Paint) -> String {
    let mut text = format!("  {}\n", headline(status));
    let (headings, rows) = regions_table(status);
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    rows.into_iter().for_each(|(_, row)| table.row(row));
    text += &table.render(paint);
    text += &format!("  {}\n", tracker(status, Timestamp::now()));
    let scaled = scaled(status, paint);
    if !scaled.is_empty() {
        text += &format!("\n{scaled}");
    }
    let remarks = remarks(status, paint);
    if !remarks.is_empty() {
        text += &format!("\n{remarks}");
    }
    let unwell: Vec<_> = status.health.iter().filter(|(_, health)| !health.healthy).collect();
    if !unwell.is_empty() {
        text.push('\n');
    }
    for (region, health) in unwell {
        let reason = health.reason.as_deref().unwrap_or("unhealthy");
        text +=
            &format!("  {}  {reason}; {}\n", paint.on(region.as_str(), Tone::Bad), users_go_to(health, &status.health));
    }
    text
}

/// Headings, and a row for each region.
pub(in crate::commands) fn regions_table(status: &DeploymentStatus) -> (Vec<String>, Vec<(&RegionName, Vec<Cell>)>) {
    // What users do not get is told of by its number, so that nobody takes it for what they get.
    let deployed = match is_live(status) {
        true => "DEPLOYED".to_owned(),
        false => format!("REVISION {}", status.rollout.revision),
    };
    let headings = [
        "REGION",
        "REPLICAS",
        &deployed,
        "VERIFIED",
        "HEALTH",
        "SHARE OF USERS",
        "REQUESTS",
        "P50 / P99",
        "ERRORS",
        "IN FLIGHT",
    ];
    let all: f64 = status.health.values().map(|health| health.requests_per_second).sum();
    let rows = regions(status).into_iter().map(|region| (region, row(status, region, all).to_vec()));
    (headings.map(str::to_owned).to_vec(), rows.collect())
}

/// The regions of the rollout, then those that still serve and are not in it.
fn regions(status: &DeploymentStatus) -> Vec<&RegionName> {
    let others = status.health.keys().filter(|region| !status.regions.contains(region));
    status.regions.iter().chain(others).collect()
}

/// `digits 2, revision 2, epoch 3, green live; blue (revision 1) standby`
pub(in crate::commands) fn headline(status: &DeploymentStatus) -> String {
    let mut line = match (status.version, status.revision, status.epoch, status.live_slot) {
        (Some(version), Some(revision), Some(epoch), Some(slot)) => {
            format!("{} {version}, revision {revision}, epoch {epoch}, {slot} live", status.model)
        }
        _ => format!("{}: nothing is routed yet", status.model),
    };
    for (slot, view) in status.slots.iter().filter(|(_, view)| view.state != SlotState::Live) {
        line += &format!("; {slot} (revision {}) {}", view.revision, slot_word(view.state));
    }
    line
}

fn slot_word(state: SlotState) -> &'static str {
    match state {
        SlotState::Live => "live",
        SlotState::Candidate => "is being brought up",
        SlotState::Standby => "warm",
    }
}

fn row(status: &DeploymentStatus, region: &RegionName, all: f64) -> [Cell; 10] {
    let dash = || Cell::from("-");
    let health = status.health.get(region);
    let share = |health: &RegionHealth| match all > 0.0 {
        true => format!("{:.0} %", health.requests_per_second * 100.0 / all),
        false => "-".to_owned(),
    };
    [
        region.as_str().into(),
        replicas(status, region),
        status.deployment_status.get(region).map_or_else(dash, |progress| deployed(*progress)),
        status.verification_status.get(region).map_or_else(dash, |progress| verified(*progress)),
        health.map_or_else(dash, |health| match health.healthy {
            true => Cell::new("healthy", Tone::Good),
            false => Cell::new("unhealthy", Tone::Bad),
        }),
        health.map_or_else(dash, |health| share(health).into()),
        health.map_or_else(dash, |health| units::rate(health.requests_per_second).into()),
        health.and_then(|health| health.p50_us.zip(health.p99_us)).map_or_else(dash, |(p50, p99)| {
            let p50 = units::latency(p50);
            let (p50, unit) = p50.split_once(' ').unwrap_or((&p50, ""));
            let p99 = units::latency(p99);
            if p99.ends_with(unit) { format!("{p50} / {p99}").into() } else { format!("{p50} {unit} / {p99}").into() }
        }),
        health.map_or_else(dash, |health| error_share(std::iter::once(health)).into()),
        health.and_then(|health| health.capacity.as_ref()).map_or_else(dash, |known| capacity::in_flight(known).into()),
    ]
}

/// The live slot; before anything is live, the one that is being brought up.
fn shown(status: &DeploymentStatus) -> Option<&SlotView> {
    let live = status.slots.values().find(|view| view.state == SlotState::Live);
    live.or_else(|| status.slots.values().next())
}

fn replicas(status: &DeploymentStatus, region: &RegionName) -> Cell {
    let view = shown(status);
    if view.and_then(|view| view.scaling.get(region)).is_some_and(|scaling| scaling.resting) {
        return "at rest".into();
    }
    match view.and_then(|view| view.replicas.get(region)) {
        Some(count) if count.ready < count.desired => {
            Cell::new(format!("{}/{}", count.ready, count.desired), Tone::Warn)
        }
        Some(count) => format!("{}/{}", count.ready, count.desired).into(),
        None => "-".into(),
    }
}

/// Why there are as many replicas, where that is not just what the revision says.
fn scaled(status: &DeploymentStatus, paint: Paint) -> String {
    let Some(view) = shown(status) else { return String::new() };
    let mut table = Table::bare();
    for (region, scaling) in &view.scaling {
        let Some(count) = view.replicas.get(region) else { continue };
        let bounds = match (scaling.min.zip(scaling.max), scaling.by_hand) {
            (Some((min, max)), _) => format!(" ({min} to {max})"),
            (None, Some(_)) => String::new(),
            (None, None) => continue,
        };
        let replicas = units::count(count.desired as usize, "replica");
        table.row([region.as_str().into(), format!("{replicas}{bounds}, {}", scaling.reason).into()]);
    }
    table.render(paint)
}

/// What there is to know of the replicas of a region, whichever slot they are in.
fn remarks(status: &DeploymentStatus, paint: Paint) -> String {
    let mut said: Vec<(&RegionName, &String)> = Vec::new();
    let views = status.slots.values().flat_map(|view| &view.remarks);
    for remark in views.flat_map(|(region, remarks)| remarks.iter().map(move |remark| (region, remark))) {
        if !said.contains(&remark) {
            said.push(remark);
        }
    }
    let line =
        |(region, remark): (&RegionName, &String)| format!("  {}  {remark}\n", paint.on(region.as_str(), Tone::Warn));
    said.into_iter().map(line).collect()
}

fn deployed(progress: DeploymentProgress) -> Cell {
    match progress {
        DeploymentProgress::Pending => "pending".into(),
        DeploymentProgress::Deploying => Cell::new("deploying", Tone::Notice),
        DeploymentProgress::Success => Cell::new("success", Tone::Good),
        DeploymentProgress::Failed => Cell::new("failed", Tone::Bad),
        DeploymentProgress::Deferred => Cell::new("deferred", Tone::Warn),
    }
}

fn verified(progress: VerificationProgress) -> Cell {
    match progress {
        VerificationProgress::Pending => "pending".into(),
        VerificationProgress::Success => Cell::new("success", Tone::Good),
        VerificationProgress::Failed => Cell::new("failed", Tone::Bad),
    }
}

/// Whether users get what the latest rollout brings.
fn is_live(status: &DeploymentStatus) -> bool {
    status.revision == Some(status.rollout.revision)
}

/// `routing configured, monitoring active, soaking for 42 s more`
pub(in crate::commands) fn tracker(status: &DeploymentStatus, now: Timestamp) -> String {
    if !is_live(status) {
        return not_live(status);
    }
    let routing = if status.routing_configured { "routing configured" } else { "routing not configured" };
    let monitoring = if status.monitoring_active { "monitoring active" } else { "monitoring not active" };
    let brief = &status.rollout;
    let rollout = match (brief.state, brief.soak, brief.soak_until) {
        (RolloutState::Soaking, Soak::Running, Some(until)) => {
            format!("soaking for {} more", units::roughly(units::between(now, until)))
        }
        (_, Soak::Passed, Some(until)) => format!("soak passed {}", units::ago(until, now)),
        (_, Soak::Passed, None) => "soak passed".to_owned(),
        (_, Soak::Failed, _) => "soak failed".to_owned(),
        (_, Soak::Inconclusive, _) => "soak inconclusive".to_owned(),
        (state, ..) => format!("revision {} {}", brief.revision, rollout::state_word(state)),
    };
    format!("{routing}, {monitoring}, {rollout}")
}

/// What users get comes first: `users get digits 1, as before; revision 2 failed and changed nothing for them`
fn not_live(status: &DeploymentStatus) -> String {
    let (model, RolloutBrief { revision, state, .. }) = (&status.model, &status.rollout);
    let (users, nothing) = match status.version {
        Some(version) => match &status.candidate {
            Some(CandidateView { version: other, users, .. }) => {
                (format!("{} get {model} {other}, all others {version}", rollout::users(*users)), "they go back")
            }
            None => (format!("users get {model} {version}, as before"), "changed nothing for them"),
        },
        None => (format!("users get no version of {model} yet"), "was not routed"),
    };
    match state {
        RolloutState::Failed => {
            format!("{users}; revision {revision} failed and {nothing}: tradewind rollout show {model}")
        }
        state => {
            let stage = match status.rollout.stage {
                StageView { of: 1, .. } => String::new(),
                StageView { number, of, .. } => format!(", stage {number} of {of}"),
            };
            let paused = match &status.rollout.paused {
                Some(reason) => format!("; it waits: {reason}"),
                None => String::new(),
            };
            format!("{users}; revision {revision}: {}{stage}{paused}", rollout::state_word(*state))
        }
    }
}
