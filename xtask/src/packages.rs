//! Packages of Debian, for what is not on PyPI or crates.io.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::process;

/// Whether this may install packages: as root on Debian, as in a container of CI, nobody else will.
pub(crate) fn can_install() -> bool {
    Path::new("/etc/debian_version").exists() && fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether services of packages would be started as soon as they are installed.
pub(crate) fn starts_services() -> bool {
    Path::new("/run/systemd/system").exists()
}

pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let failed = || format!("installing {}", packages.join(", "));
    process::stdout(Command::new("apt-get").args(["update", "--quiet"])).with_context(failed)?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    process::stdout(&mut install).with_context(failed)?;
    Ok(())
}
