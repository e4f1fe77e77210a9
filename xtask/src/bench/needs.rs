//! What a benchmark needs besides itself: the peers and the load generators of Debian, and Tradewind.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{onnxruntime, packages, workspace::Workspace};

/// A program, and the package that has it.
type Program = (&'static str, &'static str);

const HAPROXY: Program = ("haproxy", "haproxy");

/// What one benchmark needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    programs: &'static [Program],
    /// Without them it leaves something out, and says so.
    welcome: &'static [Program],
    /// How Tradewind is built for it.
    profile: &'static str,
}

impl Needs {
    /// Of the benchmarks that compare Tradewind's processes with others.
    pub(super) fn of(benchmark: &str) -> Option<Self> {
        match benchmark {
            "gateway" => Some(Self {
                programs: &[("nginx", "nginx-light"), HAPROXY, ("wrk", "wrk"), ("h2load", "nghttp2-client")],
                welcome: &[],
                // What a core does with a request depends on it.
                profile: "dist",
            }),
            "failover" => Some(Self {
                programs: &[HAPROXY],
                welcome: &[("ip", "iproute2"), ("nft", "nftables")],
                profile: "release",
            }),
            "spike" => Some(Self { programs: &[HAPROXY], welcome: &[], profile: "release" }),
            _ => None,
        }
    }

    /// Makes the benchmark, which `command` starts, ready to run. Tradewind is built unless `arguments` name a program.
    pub(super) fn prepare(self, workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
        self.install_programs()?;
        command.env(onnxruntime::VARIABLE, onnxruntime::prepare(workspace)?);
        if arguments.iter().any(|argument| argument.starts_with("--program")) {
            return Ok(());
        }
        let mut build = workspace.cargo();
        build.args(["build", "--profile", self.profile, "--package", "tradewind"]);
        ensure!(build.status().context("starting cargo")?.success(), "tradewind does not build");
        command.arg("--program").arg(workspace.target().join(self.profile).join("tradewind"));
        Ok(())
    }

    fn install_programs(self) -> Result<()> {
        let wanted = missing(&[self.programs, self.welcome].concat());
        // Where there is an init system, nginx and HAProxy would begin to serve as soon as they are there.
        if !wanted.is_empty() && packages::can_install() && !packages::starts_services() {
            packages::install(&wanted)?;
        }
        let missing = missing(self.programs);
        let (names, all) = (missing.join(", "), missing.join(" "));
        ensure!(missing.is_empty(), "{names} missing: install them (Debian, Ubuntu: `apt-get install {all}`)");
        Ok(())
    }
}

/// Packages whose program is not there.
fn missing(programs: &[Program]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
}

fn is_there(program: &str) -> bool {
    // Debian keeps servers where only root looks.
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.any(|place| place.join(program).is_file())
}
