//! What each key does.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Screen, Top};

/// Longer names do not exist.
const FILTER_LIMIT: usize = 80;
/// Rows that PgUp and PgDn move by.
const PAGE: usize = 10;

/// What a key asks of whoever has the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    Suspend,
}

/// Each key and what it does, as the help shows them.
pub(super) const HELP: [(&str, &str); 11] = [
    ("arrows, j k", "move; PgUp PgDn Home End too"),
    ("Tab", "next pane of the overview"),
    ("Enter", "details of what the > is at"),
    ("Esc, Backspace", "back"),
    ("a; e", "all alerts; all events"),
    ("s", "sort: as they are, requests, errors, p99"),
    ("/", "show only rows with the words that follow; Esc shows all"),
    ("p", "pause, and go on"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
    ("Ctrl-Z", "back to the shell; fg returns"),
];

impl Top {
    pub(super) fn press(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Effect::Quit,
                KeyCode::Char('z') => Effect::Suspend,
                _ => Effect::None,
            };
        }
        if self.typing {
            self.write_filter(key.code);
            return Effect::None;
        }
        match key.code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Esc | KeyCode::Backspace => self.leave(),
            // What the help covers does not move unseen.
            _ if self.help => {}
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Enter => self.open(),
            KeyCode::Char('a') => self.show(Screen::Alerts),
            KeyCode::Char('e') => self.show(Screen::Events),
            KeyCode::Tab => self.turn(true),
            KeyCode::BackTab => self.turn(false),
            KeyCode::Up | KeyCode::Char('k') => self.select(|row, _| row.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|row, _| row + 1),
            KeyCode::PageUp => self.select(|row, _| row.saturating_sub(PAGE)),
            KeyCode::PageDown => self.select(|row, _| row + PAGE),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, rows| rows),
            _ => {}
        }
        Effect::None
    }

    fn write_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < FILTER_LIMIT => self.filter.push(letter),
            _ => {}
        }
    }
}
