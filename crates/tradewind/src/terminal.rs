//! What people see: data on stdout, all else on stderr, colours only on a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

pub(crate) mod paint;
pub(crate) mod table;
pub(crate) mod units;

pub(crate) use paint::{Paint, Tone};
pub(crate) use table::Table;

/// How a command prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

/// The `-o` of every command that has data to show.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to print the result
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

/// Writes text as it is to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes one line to stdout.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Writes a JSON document to stdout: indented for people on a terminal, one line for programs.
pub(crate) fn print_json<T: Serialize>(document: &T) -> Result<(), Failure> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(document)
    } else {
        serde_json::to_string(document)
    };
    say(&text.expect("documents have string keys and finite numbers"))
}

pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::reader_gone(),
        _ => Failure::failed("cannot write to standard output").cause(error.to_string()),
    })
}

/// Writes to stderr. That nobody reads it is no reason to fail.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Where progress is drawn: nowhere, for programs that read.
pub(crate) fn progress_target(format: Format) -> ProgressDrawTarget {
    match format {
        Format::Table => ProgressDrawTarget::stderr(),
        Format::Json => ProgressDrawTarget::hidden(),
    }
}

/// What turns while something is done.
pub(crate) fn spinner(format: Format, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {spinner} {msg}").expect("the template is constant");
    let bar = ProgressBar::with_draw_target(None, progress_target(format)).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Asks on the terminal; without one, the answer is an error that names the flag.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on").hint("add --yes to go ahead without a question"));
    }
    complain(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
