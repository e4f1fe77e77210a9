//! What `bench gateway` needs besides itself: the peers and the load generators of Debian, and Tradewind as it ships.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{onnxruntime, packages, workspace::Workspace};

pub(super) const NAME: &str = "gateway";
/// Programs, and the packages that have them.
const PROGRAMS: &[(&str, &str)] =
    &[("nginx", "nginx-light"), ("haproxy", "haproxy"), ("wrk", "wrk"), ("h2load", "nghttp2-client")];

/// Makes the benchmark, which `command` starts, ready to run. Tradewind is built unless `arguments` name a program.
pub(super) fn prepare(workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
    packages::ensure_programs(PROGRAMS)?;
    command.env(onnxruntime::VARIABLE, onnxruntime::prepare(workspace)?);
    if arguments.iter().any(|argument| argument.starts_with("--program")) {
        return Ok(());
    }
    let mut build = workspace.cargo();
    let status =
        build.args(["build", "--profile", "dist", "--package", "tradewind"]).status().context("starting cargo")?;
    ensure!(status.success(), "tradewind does not build");
    command.arg("--program").arg(workspace.target().join("dist/tradewind"));
    Ok(())
}
