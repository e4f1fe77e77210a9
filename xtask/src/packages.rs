//! Packages of Debian, for what is not on PyPI or crates.io.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Whether this may install packages: as root on Debian, as in a container of CI, nobody else will.
pub(crate) fn can_install() -> bool {
    Path::new("/etc/debian_version").exists() && fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether services of packages would be started as soon as they are installed.
fn starts_services() -> bool {
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

/// Makes programs be there, each given with the package that has it: installs them, or says what would.
pub(crate) fn ensure_programs(programs: &[(&str, &str)]) -> Result<()> {
    welcome_programs(programs)?;
    let missing = missing(programs);
    let (names, all) = (missing.join(", "), missing.join(" "));
    ensure!(missing.is_empty(), "{names} missing: install them (Debian, Ubuntu: `apt-get install {all}`)");
    Ok(())
}

/// Installs those of these programs that are not there, where that is possible.
pub(crate) fn welcome_programs(programs: &[(&str, &str)]) -> Result<()> {
    let missing = missing(programs);
    // Where there is an init system, packages of servers would begin to serve as soon as they are there.
    if missing.is_empty() || !can_install() || starts_services() {
        return Ok(());
    }
    install(&missing)
}

/// Packages whose program is not there.
fn missing<'a>(programs: &[(&str, &'a str)]) -> Vec<&'a str> {
    programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
}

fn is_there(program: &str) -> bool {
    // Debian keeps servers where only root looks.
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.any(|place| place.join(program).is_file())
}
