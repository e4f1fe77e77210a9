//! What the audience sees: headings, commands, lines. Colours only on a terminal; the same words without.

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Command,
    Good,
    Bad,
    Faint,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Heading => "1;36",
            Self::Command => "1",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Faint => "2",
        }
    }
}

#[derive(Debug)]
pub(super) struct Screen {
    colours: bool,
    /// Whether the picture is being taken: output of commands is then caught, not shown live.
    pub(super) filming: bool,
    filmed: Vec<(Tone, String)>,
}

impl Screen {
    pub(super) fn new(filming: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: stdout().is_terminal() && wanted, filming, filmed: Vec::new() }
    }

    pub(super) fn filmed(&self) -> &[(Tone, String)] {
        &self.filmed
    }

    pub(super) fn line(&mut self, tone: Tone, text: &str) {
        if self.colours && tone != Tone::Plain && !text.is_empty() {
            println!("\x1b[{}m{text}\x1b[0m", tone.code());
        } else {
            println!("{text}");
        }
    }

    /// A line that belongs into the picture too.
    pub(super) fn scene(&mut self, tone: Tone, text: &str) {
        self.line(tone, text);
        if self.filming {
            self.filmed.push((tone, text.to_owned()));
        }
    }

    pub(super) fn title(&mut self, text: &str) {
        self.line(Tone::Heading, text);
        self.line(Tone::Plain, "");
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.scene(Tone::Plain, "");
        self.scene(Tone::Heading, text);
    }

    pub(super) fn text(&mut self, text: &str) {
        let text = if text.is_empty() { String::new() } else { format!("  {text}") };
        self.line(Tone::Plain, &text);
    }

    /// Something that was measured.
    pub(super) fn measured(&mut self, good: bool, text: &str) {
        let tone = if good { Tone::Good } else { Tone::Bad };
        self.scene(tone, &format!("  {text}"));
    }
}

/// `less than 0.1 ms`, `0.4 ms`, `93 ms`, `1.2 s`
pub(super) fn time(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..0.05 => "less than 0.1 ms".to_owned(),
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        _ => seconds(duration),
    }
}

/// `0.4 s`
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `1 user`, `12,345 requests`
pub(super) fn count(number: usize, noun: &str) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits are ASCII")).collect();
    format!("{} {noun}{}", grouped.join(","), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_units() {
        let times = [10, 400, 9_960, 93_000, 999_600, 2_340_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(times, ["less than 0.1 ms", "0.4 ms", "10 ms", "93 ms", "1.0 s", "2.3 s"]);
        assert_eq!(count(1, "user"), "1 user");
        assert_eq!(count(1_234_567, "request"), "1,234,567 requests");
    }
}
