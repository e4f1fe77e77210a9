//! What `top` knows and what it shows of it. Pure: looks and keys come in, and what time it is comes with them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tradewind_api::{
    deploy::RolloutView,
    monitoring::AlertView,
    status::{DeploymentStatus, RegionStatus, WorldStatus},
};
use tradewind_core::{ModelName, RegionName, Timestamp, event::Event};

use super::{
    history::History,
    lists::{List, Target},
    load::Load,
    poll::{EVENTS, Look, Wanted},
};
use crate::{outage::SAY_AFTER, terminal::units};

#[derive(Debug)]
pub(super) struct Top {
    /// host:port of the control plane
    pub(super) control: String,
    pub(super) world: WorldStatus,
    /// Newest first.
    pub(super) events: VecDeque<Event>,
    /// Those that fire first.
    pub(super) alerts: Vec<AlertView>,
    /// Of the model that is shown, or was shown last.
    rollout: Option<RolloutView>,
    pub(super) history: History,
    pub(super) seen_at: Timestamp,
    /// Why control does not answer.
    away: Option<String>,
    pub(super) paused: bool,
    /// What was opened on top of the overview, the newest last.
    opened: Vec<Screen>,
    /// The pane of the overview that the keys move in.
    focus: Pane,
    cursors: BTreeMap<Pane, Cursor>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// The filter is being written.
    pub(super) typing: bool,
    pub(super) help: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Screen {
    Overview,
    Model(ModelName),
    Region(RegionName),
    Alerts,
    Events,
}

/// A list that the keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pane {
    Regions,
    Models,
    Alerts,
    Events,
    RegionsOfModel,
    ModelsOfRegion,
}

/// A place in a list: it stays with what it is on, wherever that moves.
#[derive(Debug, Clone, Default)]
struct Cursor {
    on: Option<Target>,
    /// Where that was when it was last seen.
    row: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    AsTheyAre,
    Requests,
    Errors,
    P99,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::AsTheyAre => Self::Requests,
            Self::Requests => Self::Errors,
            Self::Errors => Self::P99,
            Self::P99 => Self::AsTheyAre,
        }
    }

    /// Of the column that is sorted by.
    pub(super) fn heading(self) -> Option<&'static str> {
        match self {
            Self::AsTheyAre => None,
            Self::Requests => Some("REQUESTS"),
            Self::Errors => Some("ERRORS"),
            Self::P99 => Some("P99"),
        }
    }

    /// The highest first; equals stay in their order.
    pub(super) fn arrange<T>(self, rows: &mut [T], load: impl Fn(&T) -> &Load) {
        match self {
            Self::AsTheyAre => {}
            Self::Requests => {
                rows.sort_by(|a, b| load(b).requests_per_second.total_cmp(&load(a).requests_per_second));
            }
            Self::Errors => rows.sort_by(|a, b| load(b).errors_per_second.total_cmp(&load(a).errors_per_second)),
            Self::P99 => rows.sort_by_key(|row| std::cmp::Reverse(load(row).p99_us)),
        }
    }
}

impl Top {
    pub(super) fn new(control: &str, interval: Duration, first: Look) -> Self {
        let mut top = Self {
            control: control.split_once("://").map_or(control, |(_, address)| address).to_owned(),
            world: first.world.clone(),
            events: VecDeque::new(),
            alerts: Vec::new(),
            rollout: None,
            history: History::new(interval),
            seen_at: first.at,
            away: None,
            paused: false,
            opened: Vec::new(),
            focus: Pane::Regions,
            cursors: BTreeMap::new(),
            sort: Sort::default(),
            filter: String::new(),
            typing: false,
            help: false,
        };
        top.see(first);
        top
    }

    /// Control answered.
    pub(super) fn see(&mut self, look: Look) {
        let Look { at, world, events, alerts, rollout } = look;
        for model in &world.models {
            self.history.add(&model.model, at, Load::of_model(model).sample());
        }
        self.history.retain(|name| world.models.iter().any(|model| model.model == *name));
        events.into_iter().for_each(|event| self.events.push_front(event));
        self.events.truncate(EVENTS);
        self.rollout = rollout.or(self.rollout.take());
        (self.world, self.alerts, self.seen_at, self.away) = (world, alerts, at, None);
    }

    /// Control did not answer.
    pub(super) fn miss(&mut self, why: String) {
        self.away = Some(why);
    }

    /// For how long control has not answered, and why; shorter outages are not worth a word.
    pub(super) fn outage(&self, now: Timestamp) -> Option<(Duration, &str)> {
        let lasted = units::between(self.seen_at, now);
        self.away.as_deref().filter(|_| lasted >= SAY_AFTER).map(|why| (lasted, why))
    }

    /// What the next look is to bring.
    pub(super) fn wanted(&self) -> Wanted {
        let rollout_of = match self.screen() {
            Screen::Model(model) => Some(model.clone()),
            _ => None,
        };
        Wanted { rollout_of, paused: self.paused }
    }

    pub(super) fn screen(&self) -> &Screen {
        self.opened.last().unwrap_or(&Screen::Overview)
    }

    /// The panes of the overview, in the order in which they stand there. Alerts have one while any fires.
    pub(super) fn panes(&self) -> Vec<Pane> {
        let alerts = self.firing().next().map(|_| Pane::Alerts);
        [Pane::Regions, Pane::Models].into_iter().chain(alerts).chain([Pane::Events]).collect()
    }

    /// To another pane of the overview.
    pub(super) fn turn(&mut self, forwards: bool) {
        let (panes, at) = (self.panes(), self.pane());
        if let Some(at) = panes.iter().position(|pane| *pane == at).filter(|_| *self.screen() == Screen::Overview) {
            self.focus = panes[(at + if forwards { 1 } else { panes.len() - 1 }) % panes.len()];
        }
    }

    pub(super) fn firing(&self) -> impl Iterator<Item = &AlertView> {
        self.alerts.iter().filter(|alert| alert.alert.is_firing())
    }

    /// The model that is shown; none as well when it was undeployed meanwhile.
    pub(super) fn model(&self) -> Option<&DeploymentStatus> {
        let Screen::Model(name) = self.screen() else { return None };
        self.world.models.iter().find(|model| model.model == *name)
    }

    /// The latest rollout of the model that is shown.
    pub(super) fn rollout(&self) -> Option<&RolloutView> {
        let Screen::Model(name) = self.screen() else { return None };
        self.rollout.as_ref().filter(|rollout| rollout.model == *name)
    }

    /// The region that is shown.
    pub(super) fn region(&self) -> Option<&RegionStatus> {
        let Screen::Region(name) = self.screen() else { return None };
        self.world.regions.iter().find(|region| region.name == *name)
    }

    /// The list that the keys move in.
    pub(super) fn pane(&self) -> Pane {
        match self.screen() {
            Screen::Overview if self.panes().contains(&self.focus) => self.focus,
            Screen::Overview => Pane::Regions,
            Screen::Alerts => Pane::Alerts,
            Screen::Model(_) => Pane::RegionsOfModel,
            Screen::Region(_) => Pane::ModelsOfRegion,
            Screen::Events => Pane::Events,
        }
    }

    /// The row of a list that the cursor is on.
    pub(super) fn selected(&self, pane: Pane, list: &List) -> Option<usize> {
        let cursor = self.cursors.get(&pane).cloned().unwrap_or_default();
        let row = cursor.on.and_then(|target| list.place_of(&target)).unwrap_or(cursor.row);
        list.rows.len().checked_sub(1).map(|last| row.min(last))
    }

    /// Moves the cursor to the row that `place` says, of so many, from the one where it is.
    pub(super) fn select(&mut self, place: impl FnOnce(usize, usize) -> usize) {
        let pane = self.pane();
        let list = List::of(pane, self);
        let Some(at) = self.selected(pane, &list) else { return };
        let row = place(at, list.rows.len()).min(list.rows.len() - 1);
        // At the newest event, it stays with whatever is the newest.
        let on = (pane != Pane::Events || row > 0).then(|| list.rows[row].target.clone());
        self.cursors.insert(pane, Cursor { on, row });
    }

    /// Opens what the cursor is on.
    pub(super) fn open(&mut self) {
        let pane = self.pane();
        let list = List::of(pane, self);
        let Some(row) = self.selected(pane, &list) else { return };
        self.show(match &list.rows[row].target {
            Target::Region(region) => Screen::Region(region.clone()),
            Target::Model(model) => Screen::Model(model.clone()),
            Target::Alert(_) => Screen::Alerts,
            Target::Event(_) => Screen::Events,
        });
    }

    pub(super) fn show(&mut self, screen: Screen) {
        // From a model to its region and back again is no longer way home.
        if let Some(open) = self.opened.iter().position(|opened| *opened == screen) {
            self.opened.truncate(open);
        }
        self.opened.push(screen);
        self.cursors.remove(&Pane::RegionsOfModel);
        self.cursors.remove(&Pane::ModelsOfRegion);
    }

    /// Leaves what is in front: the help, else what was opened, else the filter.
    pub(super) fn leave(&mut self) {
        if self.help {
            self.help = false;
        } else if self.opened.pop().is_none() {
            self.filter.clear();
        }
    }
}

#[cfg(test)]
mod tests;
