use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::{
        fixtures::{at, look, rollout, top},
        keys::Effect,
    },
    *,
};

fn press(top: &mut Top, keys: impl IntoIterator<Item = KeyCode>) {
    for key in keys {
        assert_eq!(top.press(key.into()), Effect::None, "{key:?}");
    }
}

fn write(top: &mut Top, text: &str) {
    press(top, text.chars().map(KeyCode::Char));
}

/// The names in the first column of the pane that has the keys; the one that the cursor is on in brackets.
fn names(top: &Top) -> String {
    let list = List::of(top.pane(), top);
    let selected = top.selected(top.pane(), &list);
    let name = |(number, row): (usize, &super::super::lists::Row)| {
        let name = row.cells[0].text();
        if selected == Some(number) { format!("[{name}]") } else { name.to_owned() }
    };
    list.rows.iter().enumerate().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_cursor_moves_and_stays_within_the_list() {
    let mut top = top();
    assert_eq!(names(&top), "[asia-northeast1] europe-west1 us-east1");
    press(&mut top, [KeyCode::Down, KeyCode::Char('j'), KeyCode::Down]);
    assert_eq!(names(&top), "asia-northeast1 europe-west1 [us-east1]");
    press(&mut top, [KeyCode::Char('k')]);
    assert_eq!(names(&top), "asia-northeast1 [europe-west1] us-east1");
    press(&mut top, [KeyCode::Home, KeyCode::Up]);
    assert_eq!(names(&top), "[asia-northeast1] europe-west1 us-east1");
    press(&mut top, [KeyCode::End]);
    assert_eq!(names(&top), "asia-northeast1 europe-west1 [us-east1]");
}

#[test]
fn the_cursor_stays_with_its_row_wherever_that_moves() {
    let mut top = top();
    press(&mut top, [KeyCode::Down]);
    write(&mut top, "s");
    assert_eq!(names(&top), "us-east1 [europe-west1] asia-northeast1", "the most requests first");
    write(&mut top, "s");
    assert_eq!(names(&top), "asia-northeast1 [europe-west1] us-east1", "the most errors first");
    write(&mut top, "s");
    assert_eq!(names(&top), "[europe-west1] us-east1 asia-northeast1", "the slowest first");
    let mut gone = look(at(1), 500.0);
    gone.world.regions.remove(1);
    top.see(gone);
    assert_eq!(names(&top), "us-east1 [asia-northeast1]", "what took its place");
}

#[test]
fn details_open_and_close() {
    let mut top = top();
    press(&mut top, [KeyCode::Tab, KeyCode::Enter]);
    assert_eq!(top.model().map(|model| model.model.as_str()), Some("digits"));
    assert_eq!(top.wanted().rollout_of.as_ref().map(ModelName::as_str), Some("digits"));
    press(&mut top, [KeyCode::Enter]);
    assert_eq!(top.region().map(|region| region.name.as_str()), Some("us-east1"));
    assert_eq!(names(&top), "[digits] fraud", "what concerns the region");
    // Back to the model by its name: there is one way home, not a longer one each time.
    press(&mut top, [KeyCode::Enter, KeyCode::Esc]);
    assert_eq!(*top.screen(), Screen::Overview);
    press(&mut top, [KeyCode::Tab, KeyCode::Enter]);
    assert_eq!(*top.screen(), Screen::Alerts);
    press(&mut top, [KeyCode::Backspace, KeyCode::Tab, KeyCode::Enter]);
    assert_eq!(*top.screen(), Screen::Events);
    press(&mut top, [KeyCode::Backspace, KeyCode::BackTab, KeyCode::BackTab, KeyCode::BackTab, KeyCode::Enter]);
    assert_eq!(top.region().map(|region| region.name.as_str()), Some("asia-northeast1"));
}

#[test]
fn a_rollout_is_shown_with_its_own_model_alone() {
    let mut top = top();
    top.see(Look { rollout: Some(rollout()), ..look(at(1), 1.0) });
    assert!(top.rollout().is_none(), "the overview shows none");
    press(&mut top, [KeyCode::Tab, KeyCode::Enter]);
    assert!(top.rollout().is_some());
    press(&mut top, [KeyCode::Esc, KeyCode::Down, KeyCode::Enter]);
    assert_eq!(top.model().map(|model| model.model.as_str()), Some("fraud"));
    assert!(top.rollout().is_none());
}

#[test]
fn a_filter_is_written_kept_and_taken_back() {
    let mut top = top();
    write(&mut top, "/WEsx");
    press(&mut top, [KeyCode::Backspace]);
    assert_eq!((names(&top).as_str(), top.typing), ("[europe-west1]", true));
    write(&mut top, "t1q");
    press(&mut top, [KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!((names(&top).as_str(), top.typing), ("[europe-west1]", false), "q was a letter");
    press(&mut top, [KeyCode::Esc]);
    assert_eq!(names(&top), "[asia-northeast1] europe-west1 us-east1");
    write(&mut top, "/nobody");
    assert_eq!(names(&top), "");
    press(&mut top, [KeyCode::Enter, KeyCode::Down, KeyCode::Enter]);
    assert_eq!(*top.screen(), Screen::Overview, "there is nothing to open");
}

#[test]
fn at_the_newest_event_the_cursor_stays_with_the_newest() {
    let mut top = top();
    press(&mut top, [KeyCode::BackTab, KeyCode::Down, KeyCode::Up]);
    let on = |top: &Top| {
        let list = List::of(Pane::Events, top);
        let selected = top.selected(Pane::Events, &list).unwrap();
        list.rows[selected].target.clone()
    };
    let mut next = look(at(1), 1.0);
    next.events.truncate(1);
    next.events[0].sequence = 9;
    assert_eq!(on(&top), Target::Event(4));
    top.see(next.clone());
    assert_eq!(on(&top), Target::Event(9));
    press(&mut top, [KeyCode::Down]);
    next.events[0].sequence = 12;
    top.see(next.clone());
    assert_eq!(on(&top), Target::Event(4), "one that is being read stays");
    for sequence in 13..400 {
        next.events[0].sequence = sequence;
        top.see(next.clone());
    }
    assert_eq!(top.events.len(), EVENTS);
}

#[test]
fn alerts_have_a_pane_while_any_fires() {
    let mut top = top();
    press(&mut top, [KeyCode::Tab, KeyCode::Tab]);
    assert_eq!((top.pane(), names(&top).as_str()), (Pane::Alerts, "[RegionDown]"), "those that are over are not news");
    write(&mut top, "a");
    assert_eq!(names(&top), "[RegionDown] LatencyBudgetBurn");
    press(&mut top, [KeyCode::Esc]);
    top.see(Look { alerts: Vec::new(), ..look(at(1), 1.0) });
    assert_eq!(top.pane(), Pane::Regions);
    press(&mut top, [KeyCode::BackTab]);
    assert_eq!(top.pane(), Pane::Events);
}

#[test]
fn an_outage_is_worth_a_word_when_it_lasts() {
    let mut top = top();
    top.miss("connection refused".to_owned());
    assert_eq!(top.outage(at(1)), None);
    assert_eq!(top.outage(at(12)), Some((Duration::from_secs(12), "connection refused")));
    top.see(look(at(13), 1.0));
    assert_eq!(top.outage(at(60)), None);
}

#[test]
fn what_belongs_to_the_terminal_is_asked_of_it() {
    let mut top = top();
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    write(&mut top, "/");
    assert_eq!(top.press(control('c')), Effect::Quit, "also while a filter is written");
    assert_eq!(top.press(control('z')), Effect::Suspend);
    press(&mut top, [KeyCode::Esc]);
    write(&mut top, "p");
    assert!(top.wanted().paused);
    write(&mut top, "?");
    assert_eq!(top.press(KeyCode::Char('q').into()), Effect::Quit);
    press(&mut top, [KeyCode::Tab, KeyCode::Esc]);
    assert_eq!((top.help, top.pane()), (false, Pane::Regions), "what the help covers does not move");
}
