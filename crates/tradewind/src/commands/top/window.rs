//! The terminal while `top` has it: taken in raw mode with a screen of its own, and given back as it was, whatever ends
//! the program.

use std::io;

use crossterm::{
    execute,
    terminal::{EnterAlternateScreen, enable_raw_mode},
};
use ratatui::{DefaultTerminal, Frame};
use rustix::process::{Signal, kill_current_process_group};

/// Given back when it is dropped, or when the program panics.
pub(super) struct Window {
    terminal: DefaultTerminal,
}

impl Window {
    pub(super) fn open() -> io::Result<Self> {
        // Taken only in part, it is given back as well.
        let terminal = ratatui::try_init().inspect_err(|_| drop(ratatui::try_restore()))?;
        Ok(Self { terminal })
    }

    /// Writes what differs from the last picture, in the size that the window has now.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }

    /// Lets the shell have the terminal until it lets the program go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        self.terminal.show_cursor()?;
        kill_current_process_group(Signal::TSTP)?;
        // The program is here again.
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        self.terminal.clear()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = ratatui::try_restore();
    }
}
