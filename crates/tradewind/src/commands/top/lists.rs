//! The lists that a person moves in: their rows in the order in which they are shown.

use std::collections::BTreeSet;

use tradewind_api::{
    monitoring::AlertView,
    status::{DeploymentStatus, RegionStatus},
};
use tradewind_core::{ModelName, RegionName, Timestamp, rollout::RolloutState};

use super::{
    load::Load,
    state::{Pane, Screen, Sort, Top},
};
use crate::{
    commands::{self, events, regions, status},
    terminal::{Tone, table::Cell, units},
};

/// What a row stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Region(RegionName),
    Model(ModelName),
    Alert(String),
    Event(u64),
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) target: Target,
    pub(super) cells: Vec<Cell>,
    load: Load,
}

/// Rows under headings.
#[derive(Debug)]
pub(super) struct List {
    pub(super) headings: Vec<Cell>,
    pub(super) rows: Vec<Row>,
    /// Rows that the filter leaves out.
    pub(super) filtered: usize,
}

impl List {
    pub(super) fn of(pane: Pane, top: &Top) -> Self {
        let (headings, rows) = match pane {
            Pane::Regions => regions_of_the_world(top),
            Pane::Models => models_of_the_world(top),
            Pane::Alerts => alerts(top),
            Pane::Events => newest_events(top),
            Pane::RegionsOfModel => top.model().map(regions_of_model).unwrap_or_default(),
            Pane::ModelsOfRegion => top.region().map(|region| models_of_region(top, region)).unwrap_or_default(),
        };
        let sort = if matches!(pane, Pane::Alerts | Pane::Events) { Sort::AsTheyAre } else { top.sort };
        Self::arranged(headings, rows, sort, &top.filter)
    }

    fn arranged(headings: Vec<String>, mut rows: Vec<Row>, sort: Sort, filter: &str) -> Self {
        let all = rows.len();
        let filter = filter.to_lowercase();
        rows.retain(|row| row.cells.iter().any(|cell| cell.text().to_lowercase().contains(&filter)));
        sort.arrange(&mut rows, |row| &row.load);
        let mark = |heading: String| {
            let marked = sort.heading().is_some_and(|sorted| heading.ends_with(sorted));
            Cell::new(if marked { format!("{heading}▼") } else { heading }, Tone::Heading)
        };
        Self { headings: headings.into_iter().map(mark).collect(), filtered: all - rows.len(), rows }
    }

    pub(super) fn place_of(&self, target: &Target) -> Option<usize> {
        self.rows.iter().position(|row| row.target == *target)
    }
}

fn headings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn regions_of_the_world(top: &Top) -> (Vec<String>, Vec<Row>) {
    let world = &top.world;
    let row = |region: &RegionStatus| {
        let load = Load::of_region(world, &region.name);
        let cells = place(region.name.as_str(), regions::state(region), &load, region.reason.as_deref());
        Row { target: Target::Region(region.name.clone()), cells, load }
    };
    (place_headings("REGION"), world.regions.iter().map(row).collect())
}

fn models_of_region(top: &Top, region: &RegionStatus) -> (Vec<String>, Vec<Row>) {
    let concerns =
        |model: &&DeploymentStatus| model.health.contains_key(&region.name) || model.regions.contains(&region.name);
    let row = |model: &DeploymentStatus| {
        let load = Load::of_model_in(model, &region.name);
        let health = model.health.get(&region.name);
        let state = match health.map(|health| health.healthy) {
            Some(true) => Cell::new("healthy", Tone::Good),
            Some(false) => Cell::new("unhealthy", Tone::Bad),
            None => "-".into(),
        };
        let reason = health.and_then(|health| health.reason.as_deref());
        let cells = place(model.model.as_str(), state, &load, reason);
        Row { target: Target::Model(model.model.clone()), cells, load }
    };
    (place_headings("MODEL"), top.world.models.iter().filter(concerns).map(row).collect())
}

fn place_headings(name: &str) -> Vec<String> {
    headings([name, "STATE", "REQUESTS", "ERRORS", "P50", "P99", "REPLICAS", "USERS GO TO", ""])
}

/// One place where users are served: what stands under [`place_headings`].
fn place(name: &str, state: Cell, load: &Load, reason: Option<&str>) -> Vec<Cell> {
    vec![
        name.into(),
        state,
        units::rate(load.requests_per_second).into(),
        errors(load),
        latency(load.p50_us),
        latency(load.p99_us),
        replicas(load),
        users(load),
        reason.unwrap_or_default().into(),
    ]
}

fn models_of_the_world(top: &Top) -> (Vec<String>, Vec<Row>) {
    let words = ["MODEL", "VERSION", "REVISION", "LIVE", "REQUESTS", "ERRORS", "P50", "P99", "REPLICAS", "ROLLOUT"];
    let row = |model: &DeploymentStatus| {
        let load = Load::of_model(model);
        let cells = vec![
            model.model.as_str().into(),
            or_dash(model.version),
            or_dash(model.revision),
            or_dash(model.live_slot),
            units::rate(load.requests_per_second).into(),
            errors(&load),
            latency(load.p50_us),
            latency(load.p99_us),
            replicas(&load),
            rollout(model, top.seen_at),
        ];
        Row { target: Target::Model(model.model.clone()), cells, load }
    };
    (headings(words), top.world.models.iter().map(row).collect())
}

/// The rows of `tradewind status MODEL`.
fn regions_of_model(model: &DeploymentStatus) -> (Vec<String>, Vec<Row>) {
    let (headings, rows) = status::model::regions_table(model);
    let row = |(region, cells): (&RegionName, Vec<Cell>)| {
        let load = Load::of_model_in(model, region);
        Row { target: Target::Region(region.clone()), cells, load }
    };
    (headings, rows.into_iter().map(row).collect())
}

/// Those that fire; on a screen of their own, also those that are over.
fn alerts(top: &Top) -> (Vec<String>, Vec<Row>) {
    let alone = *top.screen() == Screen::Alerts;
    let shown = top.alerts.iter().filter(|alert| alone || alert.alert.is_firing());
    let row = |alert: &AlertView| {
        let cells = commands::alerts::row(alert, top.seen_at).to_vec();
        Row { target: Target::Alert(alert.alert.id.clone()), cells, load: Load::default() }
    };
    (headings(commands::alerts::HEADINGS), shown.map(row).collect())
}

fn newest_events(top: &Top) -> (Vec<String>, Vec<Row>) {
    let row = |event| {
        let cells = events::row(event).to_vec();
        Row { target: Target::Event(event.sequence), cells, load: Load::default() }
    };
    (headings(events::HEADINGS), top.events.iter().map(row).collect())
}

fn or_dash<T: ToString>(value: Option<T>) -> Cell {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string()).into()
}

fn errors(load: &Load) -> Cell {
    Cell::new(units::rate(load.errors_per_second), if load.errors_per_second > 0.0 { Tone::Bad } else { Tone::Plain })
}

fn latency(us: Option<u64>) -> Cell {
    us.map_or_else(|| "-".to_owned(), units::latency).into()
}

fn replicas(load: &Load) -> Cell {
    let Load { ready, desired, .. } = load;
    let tone = if ready < desired { Tone::Warn } else { Tone::Plain };
    Cell::new(if *desired == 0 { "-".to_owned() } else { format!("{ready}/{desired}") }, tone)
}

/// `here`, or where they go instead.
fn users(load: &Load) -> Cell {
    if load.users_elsewhere.is_empty() {
        return if load.serves { "here" } else { "-" }.into();
    }
    let names: BTreeSet<&str> =
        load.users_elsewhere.iter().map(|region| region.as_ref().map_or("errors", RegionName::as_str)).collect();
    Cell::new(names.into_iter().collect::<Vec<_>>().join(" "), Tone::Bad)
}

/// As in `status`, with how far it is.
fn rollout(model: &DeploymentStatus, now: Timestamp) -> Cell {
    let cell = status::world::rollout_cell(model);
    let progress = match (model.rollout.state, model.rollout.soak_until) {
        (RolloutState::Regions, _) => {
            let (done, all) = status::world::regions_done(model);
            format!("{done}/{all}")
        }
        (RolloutState::Soaking, Some(until)) if until > now => {
            format!("for {} more", units::roughly(units::between(now, until)))
        }
        _ => return cell,
    };
    Cell::new(format!("{} {progress}", cell.text()), cell.tone())
}
