//! The picture: what [`Top`] shows, in whatever room there is. Pure, but for the buffer it fills.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
};
use tradewind_core::Timestamp;

use super::{
    keys,
    lists::List,
    load::Load,
    state::{Screen, Top},
};
use crate::terminal::{Tone, units};

mod details;
mod grid;
mod overview;

use grid::Cuts;

/// In less than this nothing can be read.
const LEAST_WIDTH: u16 = 56;
const LEAST_HEIGHT: u16 = 8;

pub(super) fn render(top: &Top, now: Timestamp, frame: &mut Frame) {
    let area = frame.area();
    if area.width < LEAST_WIDTH || area.height < LEAST_HEIGHT {
        let Rect { width, height, .. } = area;
        let line = format!("{width}x{height} is too small: {LEAST_WIDTH}x{LEAST_HEIGHT} is the least");
        return frame.render_widget(Line::raw(line), area);
    }
    let notices = notices(top, now);
    let rows = [1, notices.len() as u16, 1];
    let [head, notice, gap] = rows.map(Constraint::Length);
    let [head, notice, _, body, foot] = Layout::vertical([head, notice, gap, Constraint::Fill(1), gap]).areas(area);
    frame.render_widget(headline(top, area.width), head);
    for (line, row) in notices.into_iter().zip(notice.rows()) {
        frame.render_widget(line, row);
    }
    let mut cuts = Cuts::default();
    if top.help {
        help(frame, body);
    } else {
        match top.screen() {
            Screen::Overview => overview::render(top, frame, body, &mut cuts),
            Screen::Model(name) => details::model(top, name, now, frame, body, &mut cuts),
            Screen::Region(name) => details::region(top, name, now, frame, body, &mut cuts),
            Screen::Alerts => overview::alerts(top, frame, body, &mut cuts),
            Screen::Events => overview::events(top, frame, body, &mut cuts),
        }
    }
    if top.outage(now).is_some() {
        // What is old looks old. Without colours the notice says it.
        frame.buffer_mut().set_style(body, Style::new().fg(Color::DarkGray).add_modifier(Modifier::DIM));
    }
    frame.render_widget(footer(top, &cuts, area.width), foot);
}

/// The world in a line: where there is little room, what matters less is left out.
fn headline(top: &Top, width: u16) -> Line<'static> {
    let world = &top.world;
    let load = Load::of_world(world);
    let unwell = world.regions.iter().filter(|region| !region.healthy).count();
    let regions = units::count(world.regions.len(), "region");
    // What is dropped first has the highest number.
    let parts = [
        (4, span("tradewind", Tone::Heading)),
        (3, span(&top.control, Tone::Plain)),
        match unwell {
            0 => (1, span(&regions, Tone::Plain)),
            unwell => (0, span(&format!("{regions}, {unwell} unhealthy"), Tone::Bad)),
        },
        (2, span(&units::count(world.models.len(), "model"), Tone::Plain)),
        (0, span(&units::rate(load.requests_per_second), Tone::Plain)),
        match load.errors_per_second {
            0.0 => (1, span("no errors", Tone::Plain)),
            errors => (0, span(&format!("errors {}", units::rate(errors)), Tone::Bad)),
        },
        match top.firing().filter(|alert| !alert.silenced).count() {
            0 => (1, span("no alerts", Tone::Plain)),
            firing => (0, span(&units::count(firing, "alert"), Tone::Bad)),
        },
    ];
    let fits = |most: u8| {
        let kept = parts.iter().filter(|(rank, _)| *rank <= most);
        kept.map(|(_, part)| part.width() + 2).sum::<usize>() <= usize::from(width)
    };
    let most = (0..=4).rev().find(|most| fits(*most)).unwrap_or(0);
    let kept = parts.into_iter().filter(|(rank, _)| *rank <= most).map(|(_, part)| part);
    Line::from_iter(kept.flat_map(|part| [Span::raw("  "), part]).skip(1))
}

/// What is not as usual about the picture itself.
fn notices(top: &Top, now: Timestamp) -> Vec<Line<'static>> {
    let mut notices = Vec::new();
    if let Some((lasted, why)) = top.outage(now) {
        let (lasted, as_of) = (units::roughly(lasted), units::clock(top.seen_at));
        let text = format!("control does not answer for {lasted}; this is as of {as_of}: {why}");
        notices.push(Line::from(span(&text, Tone::Bad)));
    }
    if top.paused {
        let text = format!("paused {}; p goes on", units::ago(top.seen_at, now));
        notices.push(Line::from(span(&text, Tone::Warn)));
    }
    if top.typing {
        notices.push(Line::from(span(&format!("/{}_", top.filter), Tone::Notice)));
    } else if !top.filter.is_empty() {
        let filtered = List::of(top.pane(), top).filtered;
        let text = format!("only rows with `{}`; {filtered} left out here; / and Esc shows all", top.filter);
        notices.push(Line::from(span(&text, Tone::Notice)));
    }
    notices
}

/// What the keys do, and what there was no room for.
fn footer(top: &Top, cuts: &Cuts, width: u16) -> Line<'static> {
    let keys = match (top.help, top.screen()) {
        (true, _) => "Esc back  q quit",
        (_, Screen::Overview) => "q quit  ? help  Tab pane  Enter details  s sort  / filter",
        (_, Screen::Alerts | Screen::Events) => "q quit  ? help  Esc back  / filter",
        _ => "q quit  ? help  Esc back  Enter details  s sort  / filter",
    };
    let mut cuts = cuts.text();
    if cuts.chars().count() > usize::from(width) {
        cuts = cuts.chars().take(usize::from(width) - 1).chain(['…']).collect();
    }
    let room = usize::from(width).saturating_sub(cuts.chars().count() + 2);
    // Whole hints only.
    let mut kept = String::new();
    for hint in keys.split("  ") {
        if kept.len() + hint.len() + 2 > room {
            break;
        }
        kept += &format!("{}{hint}", if kept.is_empty() { "" } else { "  " });
    }
    let gap = usize::from(width).saturating_sub(kept.len() + cuts.chars().count());
    Line::from(vec![span(&kept, Tone::Faint), Span::raw(" ".repeat(gap)), span(&cuts, Tone::Warn)])
}

fn help(frame: &mut Frame, area: Rect) {
    for ((keys, does), row) in keys::HELP.iter().zip(area.rows()) {
        frame.render_widget(Line::from(vec![span(&format!("  {keys:16}"), Tone::Heading), Span::raw(*does)]), row);
    }
}

/// As [`crate::terminal::Paint`] colours the same words elsewhere; `NO_COLOR` is heeded where they are written.
fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Notice => Style::new().fg(Color::Cyan),
        Tone::Heading => Style::new().add_modifier(Modifier::BOLD),
        Tone::Faint => Style::new().add_modifier(Modifier::DIM),
    }
}

fn span(text: &str, tone: Tone) -> Span<'static> {
    Span::styled(text.to_owned(), style(tone))
}

#[cfg(test)]
mod tests;
