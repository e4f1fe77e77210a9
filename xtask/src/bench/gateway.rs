//! What `bench gateway` needs besides itself: the peers and the load generators of Debian, and Tradewind as it ships.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{onnxruntime, packages, workspace::Workspace};

pub(super) const NAME: &str = "gateway";
/// Programs, and the packages that have them.
const PROGRAMS: &[(&str, &str)] =
    &[("nginx", "nginx-light"), ("haproxy", "haproxy"), ("wrk", "wrk"), ("h2load", "nghttp2-client")];

/// Makes the benchmark, which `command` starts, ready to run. Tradewind is built unless `arguments` name a program.
pub(super) fn prepare(workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
    install_programs()?;
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

fn install_programs() -> Result<()> {
    // Where there is an init system, nginx and HAProxy would begin to serve as soon as they are there.
    if !missing().is_empty() && packages::can_install() && !packages::starts_services() {
        packages::install(&missing())?;
    }
    let missing = missing();
    let (names, all) = (missing.join(", "), missing.join(" "));
    ensure!(missing.is_empty(), "{names} missing: install them (Debian, Ubuntu: `apt-get install {all}`)");
    Ok(())
}

/// Packages whose program is not there.
fn missing() -> Vec<&'static str> {
    PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
}

fn is_there(program: &str) -> bool {
    // Debian keeps servers where only root looks.
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.any(|place| place.join(program).is_file())
}
