//! What `batches` compares Tradewind's pipelines with.

use std::process::Command;

use anyhow::Result;

use super::peers;
use crate::{venv::Venv, workspace::Workspace};

const DIRECTORY: &str = "bench/batches";
const PEERS: &[&str] = &["ray", "dask", "metaflow"];

/// Tells `command` where the environments are. Python as a machine has it may start more slowly than Python has to: what
/// needs no package has an environment too.
pub(super) fn prepare(workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
    let directory = workspace.root().join(DIRECTORY);
    let plain = Venv::prepare(workspace, "batches-plain", &directory.join("requirements.txt"))?;
    command.arg("--plain").arg(plain.directory());
    peers::prepare(PEERS, command, arguments, |peer, _| {
        let venv = peers::environment(workspace, "batches", &directory, peer)?;
        Ok(venv.directory().display().to_string())
    });
    Ok(())
}
