//! Colours, for terminals that want them. The words are the same without.

use std::io::{self, IsTerminal};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
    Notice,
    Heading,
    Faint,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Notice => "36",
            Self::Heading => "1",
            Self::Faint => "2",
        }
    }
}

/// Whether one stream takes colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    enabled: bool,
}

impl Paint {
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { enabled: false }
    }

    pub(crate) fn for_stdout() -> Self {
        Self { enabled: io::stdout().is_terminal() && wanted() }
    }

    pub(crate) fn for_stderr() -> Self {
        Self { enabled: io::stderr().is_terminal() && wanted() }
    }

    pub(crate) fn on(self, text: &str, tone: Tone) -> String {
        if self.enabled && tone != Tone::Plain && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", tone.code())
        } else {
            text.to_owned()
        }
    }
}

/// <https://no-color.org>: any value but an empty one turns colours off.
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}
