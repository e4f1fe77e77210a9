//! The world at a glance: its regions, its models, what happened last.

use ratatui::{Frame, layout::Rect};

use super::{
    super::{
        lists::List,
        state::{Pane, Top},
    },
    grid::{Cuts, Grid, stack},
};

pub(super) const EXPENDABLE: &[&str] = &["P50", "VERSION", "LIVE", "REPLICAS", "ERRORS", "TIME", "USERS GO TO"];

pub(super) fn render(top: &Top, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let lists = Pane::OVERVIEW.map(|pane| List::of(pane, top));
    let [regions, models, events] = lists.each_ref().map(Grid::of_list);
    let grids = [regions.noun("regions"), models.noun("models"), events];
    let [regions, models, _] = grids.each_ref().map(Grid::height);
    // Events get what is left, and a part of little room, if that is a line at least below their headings.
    let least = Some(area.height / 4).filter(|height| *height >= 2).unwrap_or_default();
    let left = area.height.saturating_sub(regions.saturating_add(models).saturating_add(2)).max(least);
    let rest = Rect { height: area.height - left, ..area };
    let events = Rect { y: rest.bottom(), height: left, ..area };
    let parts = stack(rest, &[regions, models]).into_iter().chain([events]);
    for ((grid, part), (pane, list)) in grids.into_iter().zip(parts).zip(Pane::OVERVIEW.into_iter().zip(&lists)) {
        let selected = (top.focus == pane).then(|| top.selected(pane, list)).flatten();
        grid.selected(selected).expendable(EXPENDABLE).draw(part, frame.buffer_mut(), cuts);
    }
}

/// The newest events, as many as fit.
pub(super) fn events(top: &Top, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let list = List::of(Pane::Events, top);
    let grid = Grid::of_list(&list).noun("events").selected(top.selected(Pane::Events, &list));
    grid.expendable(EXPENDABLE).draw(area, frame.buffer_mut(), cuts);
}
