//! What `batches` compares Tradewind's pipelines with.

use std::process::Command;

use super::peers;
use crate::workspace::Workspace;

const DIRECTORY: &str = "bench/batches";
const PEERS: &[&str] = &["ray", "dask", "metaflow"];

pub(super) fn prepare(workspace: &Workspace, command: &mut Command, arguments: &[String]) {
    let directory = workspace.root().join(DIRECTORY);
    peers::prepare(PEERS, command, arguments, |peer, _| {
        let venv = peers::environment(workspace, "batches", &directory, peer)?;
        Ok(venv.directory().display().to_string())
    });
}
