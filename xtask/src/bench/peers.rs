//! What benchmarks compare Tradewind with that comes from PyPI: each peer has a virtual environment of its own, since their
//! pins conflict.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{venv::Venv, workspace::Workspace};

/// Tells `command` where the environments of those peers are that are wanted, or why one is not there; the benchmark goes
/// on without it. `install` says where.
pub(super) fn prepare(
    peers: &[&str],
    command: &mut Command,
    arguments: &[String],
    mut install: impl FnMut(&str, &mut Command) -> Result<String>,
) {
    for peer in peers.iter().filter(|peer| is_wanted(arguments, peer)) {
        println!("preparing {peer}");
        match install(peer, command) {
            Ok(home) => command.arg("--peer").arg(format!("{peer}={home}")),
            Err(why) => command.arg("--absent").arg(format!("{peer}={why:#}")),
        };
    }
}

/// The environment of a peer whose requirements are in the directory of its name.
pub(super) fn environment(workspace: &Workspace, benchmark: &str, directory: &Path, peer: &str) -> Result<Venv> {
    Venv::prepare(workspace, &format!("{benchmark}-{peer}"), &directory.join(peer).join("requirements.txt"))
}

/// Without `--only` all peers are compared.
fn is_wanted(arguments: &[String], peer: &str) -> bool {
    let mut arguments = arguments.iter();
    let only = arguments.find_map(|argument| argument.strip_prefix("--only").map(str::to_owned));
    let value = only.map(|rest| match rest.strip_prefix('=') {
        Some(value) => value.to_owned(),
        None => arguments.next().cloned().unwrap_or_default(),
    });
    value.is_none_or(|value| value.split(',').any(|name| name == peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_are_compared_are_installed() {
        let all = ["triton", "kserve", "ray"];
        let wanted = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            all.iter().filter(|peer| is_wanted(&arguments, peer)).copied().collect::<Vec<_>>()
        };
        assert_eq!(wanted(&["--rounds", "2"]), all);
        assert_eq!(wanted(&["--quick", "--only", "tradewind,kserve"]), ["kserve"]);
        assert_eq!(wanted(&["--only=ray,triton"]), ["triton", "ray"]);
        assert!(wanted(&["--only", "loop"]).is_empty());
    }
}
