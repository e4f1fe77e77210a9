//! The world at a glance: its regions, its models, what is wrong, what happened last; and the last two alone.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
};
use tradewind_api::monitoring::AlertView;

use super::{
    super::{
        lists::{List, Target},
        state::{Pane, Top},
    },
    grid::{Cuts, Grid, stack},
};
use crate::terminal::units;

pub(super) const EXPENDABLE: &[&str] =
    &["P50", "ID", "VERSION", "LIVE", "REPLICAS", "ERRORS", "TIME", "FIRED", "USERS GO TO"];

pub(super) fn render(top: &Top, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let lists: Vec<(Pane, List)> = top.panes().into_iter().map(|pane| (pane, List::of(pane, top))).collect();
    let grids: Vec<Grid> = lists.iter().map(|(pane, list)| Grid::of_list(list).noun(noun(*pane))).collect();
    // The events stand last. They get what is left, and a part of little room, if that is a line below their headings.
    let wants: Vec<u16> = grids[..grids.len() - 1].iter().map(Grid::height).collect();
    let all = wants.iter().fold(0_u16, |sum, want| sum.saturating_add(*want).saturating_add(1));
    let least = Some(area.height / 4).filter(|height| *height >= 2).unwrap_or_default();
    let left = area.height.saturating_sub(all).max(least);
    let rest = Rect { height: area.height - left, ..area };
    let events = Rect { y: rest.bottom(), height: left, ..area };
    let parts = stack(rest, &wants).into_iter().chain([events]);
    for ((grid, part), (pane, list)) in grids.into_iter().zip(parts).zip(&lists) {
        let selected = (top.pane() == *pane).then(|| top.selected(*pane, list)).flatten();
        grid.selected(selected).expendable(EXPENDABLE).draw(part, frame.buffer_mut(), cuts);
    }
}

/// Nobody misses events that are older than those that fit.
fn noun(pane: Pane) -> &'static str {
    match pane {
        Pane::Regions => "regions",
        Pane::Models => "models",
        Pane::Alerts => "alerts",
        _ => "",
    }
}

/// The newest events, as many as fit.
pub(super) fn events(top: &Top, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let list = List::of(Pane::Events, top);
    let grid = Grid::of_list(&list).noun("events").selected(top.selected(Pane::Events, &list));
    grid.expendable(EXPENDABLE).draw(area, frame.buffer_mut(), cuts);
}

/// All alerts; below them what the one at the cursor means, and what to do.
pub(super) fn alerts(top: &Top, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let list = List::of(Pane::Alerts, top);
    let selected = top.selected(Pane::Alerts, &list);
    let grid = Grid::of_list(&list).noun("alerts").selected(selected);
    let [all, about] = Layout::vertical([Constraint::Fill(1), Constraint::Length(3)]).areas(area);
    grid.expendable(EXPENDABLE).draw(all, frame.buffer_mut(), cuts);
    let target = selected.map(|row| &list.rows[row].target);
    let view = top.alerts.iter().find(|view| target == Some(&Target::Alert(view.alert.id.clone())));
    let lines = match view {
        Some(AlertView { alert, summary, .. }) => [
            summary.clone(),
            format!("{}, since {}: tradewind alerts runbook {}", alert.key, units::clock(alert.since), alert.key.kind),
        ],
        None => ["no alert has fired".to_owned(), String::new()],
    };
    for (line, row) in lines.into_iter().zip(about.rows().skip(1)) {
        frame.render_widget(Line::raw(line), row);
    }
}
