//! How a command ends when it does not end well: collected on the way up, printed once, at the edge.

use std::{error::Error as StdError, fmt, process::ExitCode};

use serde::Serialize;
use tradewind_api::{
    client,
    problem::{Code, Problem},
};
use tradewind_core::causes::causes;

use crate::terminal::{self, Format, Paint, Tone};

/// The exit code of an action that ran and failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The exit code of an action that goes on without the command.
pub(crate) const EXIT_UNFINISHED: u8 = 6;
/// The exit code of an action that waits for a person.
pub(crate) const EXIT_WAITS: u8 = 7;

/// An error for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    /// One sentence, lower case, no final period.
    detail: String,
    /// Outermost first.
    causes: Vec<String>,
    /// Whole sentences: what is as before, what goes on.
    notes: Vec<String>,
    hints: Vec<String>,
    retryable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Problem(Code),
    /// What was asked for was tried, and did not succeed.
    Failed,
    /// It goes on, but this command does not wait any longer.
    Unfinished,
    /// It goes on when a person says how.
    Waits,
    /// Whoever reads the output has gone, which is no error.
    ReaderGone,
}

impl Failure {
    fn with_kind(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            causes: Vec::new(),
            notes: Vec::new(),
            hints: Vec::new(),
            retryable: matches!(kind, Kind::Problem(code) if code.retryable()),
        }
    }

    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::with_kind(Kind::Problem(code), detail)
    }

    pub(crate) fn usage(detail: impl Into<String>) -> Self {
        Self::new(Code::Invalid, detail)
    }

    pub(crate) fn failed(detail: impl Into<String>) -> Self {
        Self::with_kind(Kind::Failed, detail)
    }

    pub(crate) fn unfinished(detail: impl Into<String>) -> Self {
        Self::with_kind(Kind::Unfinished, detail)
    }

    pub(crate) fn waiting(detail: impl Into<String>) -> Self {
        Self::with_kind(Kind::Waits, detail)
    }

    pub(crate) fn reader_gone() -> Self {
        Self::with_kind(Kind::ReaderGone, String::new())
    }

    /// An error of a library, with its chain of sources as causes.
    pub(crate) fn from_error(code: Code, error: &(dyn StdError + 'static)) -> Self {
        Problem::from_error(code, error).into()
    }

    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The innermost cause, or else the sentence itself.
    pub(crate) fn root(&self) -> &str {
        self.causes.last().unwrap_or(&self.detail)
    }

    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Problem(Code::Unreachable | Code::Unavailable))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == Kind::Problem(Code::NotFound)
    }

    fn exit(&self) -> u8 {
        match self.kind {
            Kind::Problem(code) => code.exit(),
            Kind::Failed => EXIT_FAILED,
            Kind::Unfinished => EXIT_UNFINISHED,
            Kind::Waits => EXIT_WAITS,
            Kind::ReaderGone => 0,
        }
    }

    /// Prints the failure on stderr; the exit code says which kind it was.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        if self.kind != Kind::ReaderGone {
            let text = match format {
                Format::Table => self.text(Paint::for_stderr()),
                Format::Json => self.json(),
            };
            terminal::complain(&text);
        }
        ExitCode::from(self.exit())
    }

    /// The error, its causes, what else is worth knowing, and what to do.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let mut text = format!("{} {}\n", paint.on("error:", Tone::Bad), self.detail);
        for cause in &self.causes {
            text += &format!("  caused by: {cause}\n");
        }
        if !self.causes.is_empty() || !self.notes.is_empty() {
            text += "\n";
        }
        for note in &self.notes {
            text += &format!("  {note}\n");
        }
        for hint in &self.hints {
            text += &format!("{} {hint}\n", paint.on("hint:", Tone::Notice));
        }
        text
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: serde_json::Value,
            detail: &'a str,
            causes: &'a [String],
            hint: Option<String>,
            retryable: bool,
        }
        let code = match self.kind {
            Kind::Problem(code) => serde_json::json!(code),
            Kind::Failed | Kind::ReaderGone => "failed".into(),
            Kind::Unfinished => "unfinished".into(),
            Kind::Waits => "waits".into(),
        };
        let hint = (!self.hints.is_empty()).then(|| self.hints.join("; "));
        let error = Error { code, detail: &self.detail, causes: &self.causes, hint, retryable: self.retryable };
        serde_json::to_string(&Document { error }).expect("an error has string keys") + "\n"
    }
}

/// One line, for where a failure is not the end: the sentence and its causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let mut failure = Self::new(problem.code, problem.detail);
        failure.causes = problem.causes;
        failure.retryable = problem.retryable;
        match (problem.hint, problem.code) {
            (Some(hint), _) => failure.hint(hint),
            (None, Code::Unauthorized) => {
                failure.hint("give a token with --token, TRADEWIND_TOKEN or `token_file` in the config file")
            }
            (None, _) => failure,
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Problem(problem) => problem.into(),
            client::Error::Unreachable { ref source, .. } => Self::new(Code::Unreachable, error.to_string())
                .cause(root_cause(source))
                .hint("is it running? start one with `tradewind up`"),
            client::Error::Silent { .. } => Self::new(Code::Unreachable, error.to_string())
                .hint("it may be stopped or overloaded; see its log, and try again"),
            client::Error::Broken { ref source, .. } => {
                Self::new(Code::Unreachable, error.to_string()).cause(root_cause(source))
            }
            client::Error::Protocol { url, detail } => {
                Self::failed(format!("{url} does not speak Tradewind's API")).cause(detail)
            }
        }
    }
}

/// The innermost source, in the words of the system: `connection refused`.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let root = causes(error).last().map(ToString::to_string).unwrap_or_default();
    let words = root.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stand_in_the_order_in_which_they_are_read() {
        let failure = Failure::failed("digits 3 was not deployed")
            .cause("golden case cases/007.json: expected 7, got 1")
            .note("Nothing was routed.")
            .hint("see every check with `tradewind rollout show digits`");
        insta::assert_snapshot!(failure.text(Paint::plain()), @r"
        error: digits 3 was not deployed
          caused by: golden case cases/007.json: expected 7, got 1

          Nothing was routed.
        hint: see every check with `tradewind rollout show digits`
        ");
        assert_eq!(failure.exit(), EXIT_FAILED);
        assert_eq!(failure.to_string(), "digits 3 was not deployed: golden case cases/007.json: expected 7, got 1");
    }

    #[test]
    fn a_problem_of_the_api_keeps_its_code_and_its_hint() {
        let problem = Problem::new(Code::NotFound, "no region is called `x`").hint("did you mean `y`?");
        let failure = Failure::from(problem);
        assert_eq!(failure.exit(), 3);
        assert_eq!(failure.text(Paint::plain()), "error: no region is called `x`\nhint: did you mean `y`?\n");
        let json: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(json["error"]["code"], "not_found");
    }
}
