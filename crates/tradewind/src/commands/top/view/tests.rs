use crossterm::event::KeyCode;
use ratatui::{Terminal, backend::TestBackend};

use super::{
    super::fixtures::{at, look, rollout, top},
    *,
};
use crate::commands::top::poll::Look;

fn picture(top: &Top, width: u16, height: u16) -> String {
    picture_at(top, 0, width, height)
}

fn picture_at(top: &Top, seconds: i64, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| render(top, at(seconds), frame)).unwrap();
    terminal.backend().to_string()
}

fn after(keys: &[KeyCode]) -> Top {
    let mut top = top();
    for key in keys {
        top.press((*key).into());
    }
    top
}

fn model() -> Top {
    let mut top = after(&[KeyCode::Tab, KeyCode::Enter]);
    top.see(Look { rollout: Some(rollout()), ..look(at(0), 500.0) });
    top
}

#[test]
fn the_overview() {
    insta::assert_snapshot!(picture(&top(), 130, 20));
    insta::assert_snapshot!(picture(&top(), 80, 24));
}

#[test]
fn the_overview_where_there_is_little_room() {
    insta::assert_snapshot!(picture(&top(), 60, 12));
    insta::assert_snapshot!(picture(&top(), 56, 8));
    insta::assert_snapshot!(picture(&top(), 55, 8));
}

#[test]
fn a_model_in_full() {
    insta::assert_snapshot!(picture(&model(), 120, 22));
    insta::assert_snapshot!(picture(&model(), 80, 16));
}

#[test]
fn a_region_in_full() {
    insta::assert_snapshot!(picture(&after(&[KeyCode::Enter]), 100, 20));
    insta::assert_snapshot!(picture(&after(&[KeyCode::Enter]), 60, 12));
}

#[test]
fn the_events() {
    insta::assert_snapshot!(picture(&after(&[KeyCode::Char('e'), KeyCode::Down]), 80, 8));
}

#[test]
fn the_alerts() {
    insta::assert_snapshot!(picture(&after(&[KeyCode::Char('a')]), 100, 10));
    let mut quiet = after(&[KeyCode::Char('a')]);
    quiet.see(Look { alerts: Vec::new(), ..look(at(1), 1.0) });
    assert!(picture(&quiet, 80, 10).contains("no alert has fired"));
}

#[test]
fn the_help() {
    insta::assert_snapshot!(picture(&after(&[KeyCode::Char('?')]), 80, 16));
}

#[test]
fn a_filter_and_a_sorted_column() {
    let keys = "s/us".chars().map(KeyCode::Char).collect::<Vec<_>>();
    insta::assert_snapshot!(picture(&after(&keys), 100, 12));
    insta::assert_snapshot!(picture(&after(&[&*keys, &[KeyCode::Enter]].concat()), 100, 12));
}

#[test]
fn a_control_plane_that_is_away_and_a_pause() {
    let mut top = after(&[KeyCode::Char('p')]);
    top.miss("connection refused".to_owned());
    insta::assert_snapshot!(picture_at(&top, 75, 100, 14));
}

#[test]
fn what_has_gone_meanwhile_is_said_to_be_gone() {
    let mut model = model();
    let mut empty = look(at(1), 0.0);
    empty.world.models.clear();
    model.see(empty.clone());
    assert!(picture(&model, 80, 10).contains("digits is not deployed any more"));
    let mut region = after(&[KeyCode::Enter]);
    empty.world.regions.clear();
    region.see(empty);
    assert!(picture(&region, 80, 10).contains("asia-northeast1 is no region any more"));
}

/// Nothing panics for want of room, whatever is shown.
#[test]
fn every_size_is_drawn() {
    let screens = [
        top(),
        model(),
        after(&[KeyCode::Enter]),
        after(&[KeyCode::Char('?')]),
        after(&[KeyCode::Char('/')]),
        after(&[KeyCode::Char('a')]),
    ];
    for (top, width, height) in screens
        .iter()
        .flat_map(|top| (1..100).step_by(7).flat_map(move |width| (1..30).map(move |height| (top, width, height))))
    {
        picture(top, width, height);
    }
}
