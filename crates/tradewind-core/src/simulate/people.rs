//! What people tell a rollout, and when: `pause@10s, resume@5m`.

use std::fmt;

use super::faults::{Misunderstood, split, unknown};
use crate::duration::Span;

/// A decision of a person at a time since the rollout began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub at: Span,
    pub what: Word,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Pause,
    Resume,
    Promote,
    /// To everybody at once.
    PromoteFull,
    Abort,
}

impl Word {
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Promote, Self::PromoteFull, Self::Abort];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Abort => "abort",
        }
    }
}

/// Reads decisions that are separated by commas.
pub fn parse(text: &str) -> Result<Vec<Told>, Misunderstood> {
    text.split(',').map(|written| read(written.trim())).collect()
}

fn read(written: &str) -> Result<Told, Misunderstood> {
    let (name, time) = split(written, '@');
    let word = Word::ALL.into_iter().find(|word| word.as_str() == name);
    let what = word.ok_or_else(|| unknown("decision", name, &Word::ALL.map(Word::as_str)))?;
    let wrong = |why: String| Misunderstood {
        problem: format!("`{written}` is not understood: {why}"),
        hint: format!("{name}@10s"),
    };
    let time = time.ok_or_else(|| wrong("it does not say when".to_owned()))?;
    Ok(Told { at: time.parse().map_err(|error| wrong(format!("{error}")))?, what })
}

/// As it is written.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.what.as_str(), self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_read_and_written_again() {
        let written = "pause@10s,resume@5m,promote@1m,promote-full@2m,abort@1h";
        let read: Vec<String> = parse(written).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read.join(","), written);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let told = |text: &str| parse(text).map_err(|error| format!("{error}; {}", error.hint)).unwrap_err();
        assert_eq!(
            told("puase@10s"),
            "no decision is called `puase`; did you mean `pause`? there are pause, resume, promote, promote-full, abort"
        );
        assert_eq!(told("pause"), "`pause` is not understood: it does not say when; pause@10s");
        assert!(told("abort@soon").contains("`soon` is not a duration"));
    }
}
