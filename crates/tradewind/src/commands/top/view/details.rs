//! One model, or one region, in full.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
    widgets::Sparkline,
};
use tradewind_api::{deploy::RolloutView, status::RegionStatus};
use tradewind_core::{ModelName, RegionName, Timestamp};

use super::{
    super::{
        history::{BARS, Sample},
        lists::List,
        state::{Pane, Top},
    },
    grid::{Cuts, Grid, stack},
    overview::EXPENDABLE,
    span,
};
use crate::{
    commands::{regions, rollout, status},
    terminal::{Table, Tone, units},
};

/// `requests  ` before a sparkline.
const LABEL_WIDTH: u16 = 12;
/// `  812/s now, at most 1000/s` after it.
const FIGURES_WIDTH: u16 = 36;

pub(super) fn model(top: &Top, name: &ModelName, now: Timestamp, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let Some(model) = top.model() else {
        return frame.render_widget(Line::raw(format!("{name} is not deployed any more")), area);
    };
    let bars = usize::from(area.width.saturating_sub(LABEL_WIDTH + FIGURES_WIDTH)).min(BARS);
    let series = top.history.bars(name, now, bars);
    let lines = [status::model::headline(model), status::model::tracker(model, now)];
    let list = List::of(Pane::RegionsOfModel, top);
    let regions = Grid::of_list(&list).noun("regions").expendable(REGION_EXPENDABLE);
    let regions = regions.selected(top.selected(Pane::RegionsOfModel, &list));
    let steps = top.rollout().map(|view| rollout::steps_table(view, now));
    let steps = steps.as_ref().map(|table| Grid::of_table(table).noun("steps").expendable(STEP_EXPENDABLE));
    let steps_height = steps.as_ref().map_or(0, |steps| steps.height() + 1);
    let parts = stack(area, &[2, 3, regions.height(), steps_height]);
    texts(frame, parts[0], lines);
    sparklines(frame, parts[1], &series, &units::roughly(top.history.span(bars)));
    regions.draw(parts[2], frame.buffer_mut(), cuts);
    if let (Some(steps), Some(view)) = (steps, top.rollout()) {
        let [title, rest] = split_first_row(parts[3]);
        texts(frame, title, [rollout_line(view)]);
        steps.draw(rest, frame.buffer_mut(), cuts);
    }
}

const REGION_EXPENDABLE: &[&str] = &["SHARE OF USERS", "VERIFIED", "DEPLOYED"];
const STEP_EXPENDABLE: &[&str] = &["NEXT", "TOOK", "STEP"];

/// `rollout 2 of revision 2: soaking, 6 of 9 steps done`
fn rollout_line(view: &RolloutView) -> String {
    let done = view.steps.iter().filter(|step| step.finished_at.is_some()).count();
    let state = rollout::state_word(view.state);
    let mut line = format!(
        "rollout {} of revision {}: {state}, {done} of {} steps done",
        view.rollout,
        view.revision,
        view.steps.len()
    );
    if let Some(failure) = &view.failure {
        line += &format!("; {}", rollout::explain(failure).0);
    }
    line
}

fn sparklines(frame: &mut Frame, area: Rect, series: &[Option<Sample>], span: &str) {
    let requests = |sample: &Sample| Some(sample.requests_per_second);
    let errors = |sample: &Sample| Some(sample.errors_per_second);
    let p99 = |sample: &Sample| sample.p99_us.map(|us| us as f64);
    let rate = |value: f64| units::rate(value);
    let latency = |value: f64| units::latency(value as u64);
    let mut rows = area.rows();
    let mut draw = |label: &str, value: &dyn Fn(&Sample) -> Option<f64>, unit: &dyn Fn(f64) -> String| {
        let Some(row) = rows.next() else { return };
        let values: Vec<Option<f64>> = series.iter().map(|sample| sample.as_ref().and_then(value)).collect();
        sparkline(frame, row, label, &values, unit, span);
    };
    draw("requests", &requests, &rate);
    draw("errors", &errors, &rate);
    draw("p99", &p99, &latency);
}

/// `requests   ▁▂▅█  812/s now, at most 1000/s in 5 min`
fn sparkline(
    frame: &mut Frame,
    row: Rect,
    label: &str,
    values: &[Option<f64>],
    unit: &dyn Fn(f64) -> String,
    span_words: &str,
) {
    let known = || values.iter().flatten().copied();
    let figures = match (known().next_back(), known().reduce(f64::max)) {
        (Some(now), Some(most)) => format!("  {}, at most {} in {span_words}", unit(now), unit(most)),
        _ => "  -".to_owned(),
    };
    frame.render_widget(Line::from(Span::raw(format!("  {label}"))), row);
    let width = values.len() as u16;
    let bars = Rect { x: row.x + LABEL_WIDTH, width, ..row }.intersection(row);
    // In thousandths, as bars are whole numbers and some rates are far below one.
    let heights = values.iter().map(|value| value.map(|value| (value * 1000.0) as u64));
    frame.render_widget(Sparkline::default().data(heights), bars);
    let x = row.x.saturating_add(LABEL_WIDTH).saturating_add(width);
    frame.render_widget(Line::raw(figures), Rect { x, ..row }.intersection(row));
}

pub(super) fn region(top: &Top, name: &RegionName, now: Timestamp, frame: &mut Frame, area: Rect, cuts: &mut Cuts) {
    let Some(region) = top.region() else {
        return frame.render_widget(Line::raw(format!("{name} is no region any more")), area);
    };
    let list = List::of(Pane::ModelsOfRegion, top);
    let models = Grid::of_list(&list).noun("models").expendable(EXPENDABLE);
    let models = models.selected(top.selected(Pane::ModelsOfRegion, &list));
    let mut tables: Vec<(Table, &str)> =
        vec![(regions::members(region, now), "members"), (regions::replicas(region, now), "replicas")];
    tables.extend(regions::remarks(region).map(|remarks| (remarks, "remarks")));
    tables.push((regions::round_trips(region), "round trips"));
    let grids: Vec<Grid> =
        tables.iter().map(|(table, noun)| Grid::of_table(table).noun(noun).expendable(MEMBER_EXPENDABLE)).collect();
    let heights: Vec<u16> = [1, models.height()].into_iter().chain(grids.iter().map(Grid::height)).collect();
    let parts = stack(area, &heights);
    let (state, tone) = condition(region);
    frame.render_widget(Line::from(vec![span(name.as_str(), Tone::Heading), span(&state, tone)]), parts[0]);
    models.draw(parts[1], frame.buffer_mut(), cuts);
    for (grid, part) in grids.iter().zip(&parts[2..]) {
        grid.draw(*part, frame.buffer_mut(), cuts);
    }
}

const MEMBER_EXPENDABLE: &[&str] = &["PID", "UP", "ADDRESS", "RESTARTS"];

fn condition(region: &RegionStatus) -> (String, Tone) {
    let state = regions::state(region);
    let reason = region.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    (format!("  {}{reason}", state.text()), state.tone())
}

fn texts<const N: usize>(frame: &mut Frame, area: Rect, lines: [String; N]) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(Line::raw(line), row);
    }
}

fn split_first_row(area: Rect) -> [Rect; 2] {
    let first = Rect { height: area.height.min(1), ..area };
    [first, Rect { y: area.y + first.height, height: area.height - first.height, ..area }]
}
