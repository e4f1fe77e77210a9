//! Where things are in the repository, and what cargo says of its crates.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The repository.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is not inside a workspace")?;
        anyhow::ensure!(root.join("Cargo.toml").is_file(), "there is no workspace at {}", root.display());
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds, and where chores keep what they fetch and make. Git ignores it.
    pub(crate) fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |chosen| self.root.join(chosen))
    }

    /// A cargo command in the root, with the cargo that runs this program.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.current_dir(&self.root);
        command
    }

    /// What cargo knows of the workspace's crates and, when `resolved`, of everything that they use on this platform.
    pub(crate) fn metadata(&self, resolved: bool) -> Result<Metadata> {
        let mut command = self.cargo();
        command.args(["metadata", "--format-version", "1"]);
        if resolved {
            // Without the filter cargo would download crates for platforms that nobody here builds for.
            command.args(["--filter-platform", &self.platform()?]);
        } else {
            command.arg("--no-deps");
        }
        serde_json::from_slice(&process::stdout(&mut command)?).context("reading `cargo metadata`")
    }

    fn platform(&self) -> Result<String> {
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")));
        let version = process::stdout(rustc.current_dir(&self.root).arg("-vV"))?;
        String::from_utf8_lossy(&version)
            .lines()
            .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
            .context("`rustc -vV` names no host")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: Option<String>,
    /// `None` for crates of the workspace.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None`, `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Dependency {
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}
