//! What a benchmark needs besides itself: the peers and the load generators of Debian, and Tradewind.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{onnxruntime, packages, workspace::Workspace};

/// A program, and the package that has it.
type Program = (&'static str, &'static str);

const HAPROXY: Program = ("haproxy", "haproxy");
const H2LOAD: Program = ("h2load", "nghttp2-client");

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
                programs: &[("nginx", "nginx-light"), HAPROXY, ("wrk", "wrk"), H2LOAD],
                welcome: &[],
                // What a core does with a request depends on it.
                profile: "dist",
            }),
            // As above.
            "serving" => Some(Self { programs: &[H2LOAD], welcome: &[], profile: "dist" }),
            "batches" => Some(Self { programs: &[], welcome: &[], profile: "dist" }),
            "failover" => Some(Self {
                programs: &[HAPROXY],
                welcome: &[("ip", "iproute2"), ("nft", "nftables")],
                profile: "release",
            }),
            "spike" => Some(Self { programs: &[HAPROXY], welcome: &[], profile: "release" }),
            "alerts" | "autoscale" | "switch" => Some(Self { programs: &[], welcome: &[], profile: "release" }),
            "cost" => Some(Self { programs: &[("valgrind", "valgrind")], welcome: &[], profile: "release" }),
            _ => None,
        }
    }

    /// Makes the benchmark, which `command` starts, ready to run. Tradewind is built unless `arguments` name a program.
    pub(super) fn prepare(self, workspace: &Workspace, command: &mut Command, arguments: &[String]) -> Result<()> {
        packages::welcome_programs(self.welcome)?;
        packages::ensure_programs(self.programs)?;
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
}
