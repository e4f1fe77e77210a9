//! Runs the real binary, away from whatever this machine's user has set.

use std::{
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

use crate::control::Control;

/// Ten times what the slowest verb takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What differs from run to run.
pub(crate) const REDACTIONS: &[(&str, &str)] = &[
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
    (r"after \d+\.\d s", "after [TIME]"),
    (r"in \d+\.\d ms", "in [TIME]"),
    (r"Soaking for \d+ \w+", "Soaking for [TIME]"),
    (r"soaking for \d+ \w+", "soaking for [TIME]"),
    (r"\d+ (s|min|h|d) ago", "[AGO]"),
    (r#""took_ms":[0-9.]+"#, r#""took_ms":"[TIME]""#),
    (r"/tmp/\.tmp\w+", "[HOME]"),
];

/// One snapshot of one run, under `snapshots/`.
macro_rules! snapshot {
    ($run:expr) => {{
        let run = $run;
        insta::with_settings!({ filters => $crate::context::REDACTIONS.iter().copied(), omit_expression => true }, {
            insta::assert_snapshot!(run);
        });
    }};
}

/// A user with an empty home, and perhaps a control plane.
pub(crate) struct Context {
    pub(crate) home: TempDir,
    control: Option<Control>,
}

impl Context {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a temporary directory"), control: None }
    }

    pub(crate) fn with(control: Control) -> Self {
        Self { control: Some(control), ..Self::new() }
    }

    pub(crate) fn control(&self) -> &Control {
        self.control.as_ref().expect("this context has a control plane")
    }

    /// `line` is split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
        command
            .args(line.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .env("USER", "ada")
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(control) = &self.control {
            command.env("TRADEWIND_URL", control.url()).env("TRADEWIND_TOKEN", crate::control::TOKEN);
        }
        command
    }

    pub(crate) fn output(&self, line: &str) -> Output {
        wait(self.command(line).spawn().expect("the binary starts"))
    }

    /// A run as it is compared: what differs on purpose is said first.
    pub(crate) fn run(&self, line: &str) -> String {
        show(&self.output(line))
    }

    /// The JSON document on stdout of a run that ends well.
    pub(crate) fn json(&self, line: &str) -> serde_json::Value {
        let output = self.output(line);
        assert!(output.status.success(), "{}", show(&output));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        serde_json::from_slice(&output.stdout).expect("stdout is one JSON document")
    }
}

/// Waits for the end of a process, but not for ever.
pub(crate) fn wait(child: Child) -> Output {
    let (sender, receiver) = mpsc::channel();
    let waiter = std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = receiver.recv_timeout(DEADLINE).expect("the binary ends before the deadline").expect("its output");
    waiter.join().expect("the waiter does not panic").expect("its result was received");
    output
}

pub(crate) fn show(output: &Output) -> String {
    let mut text = format!("exit: {}\n", output.status.code().map_or("signal".to_owned(), |code| code.to_string()));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            text += &format!("--- {name}\n{}", String::from_utf8_lossy(bytes));
        }
    }
    text
}
