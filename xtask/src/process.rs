//! Running other programs: quietly, with their words kept for when they fail.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, ErrorKind},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs to the end and gives the stdout. An error carries what the program said.
pub(crate) fn stdout(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(command, error))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        bail!("`{}` ended with {}\n{}", display(command), output.status, String::from_utf8_lossy(&said).trim_end());
    }
    Ok(output.stdout)
}

/// Runs to the end and hands each line of stdout and stderr, in the order in which they were written, to `line`.
pub(crate) fn each_line(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe().context("opening a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("sharing a pipe")?).stderr(writer);
    let mut child = command.spawn().map_err(|error| not_started(command, error))?;
    // The command holds the pipe's writing ends: as long as one is open here, the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).context("reading a child's output")? > 0 {
        line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    child.wait().with_context(|| format!("waiting for `{}`", display(command)))
}

/// Whether the program exists and ends well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn not_started(command: &Command, error: std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("`{program}` is not installed"),
        _ => anyhow::Error::new(error).context(format!("starting `{program}`")),
    }
}

fn display(command: &Command) -> String {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_of_both_streams_come_in_order_with_the_last_unfinished_one() {
        let mut lines = Vec::new();
        let status =
            each_line(&mut shell("echo one; echo two >&2; printf three; exit 4"), |line| lines.push(line.to_owned()))
                .unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(status.code(), Some(4));
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = stdout(&mut shell("echo out; echo why >&2; exit 3")).unwrap_err().to_string();
        assert!(error.ends_with("ended with exit status: 3\nout\nwhy"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = stdout(&mut Command::new("tradewind-no-such-program")).unwrap_err().to_string();
        assert_eq!(error, "`tradewind-no-such-program` is not installed");
    }
}
