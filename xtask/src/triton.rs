//! A real Triton, for the tests that compare its answers with ours: out of the wheel `nvidia-pytriton`, which has its
//! server, and numpy, which its backend of Python needs in an older version than the tests.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    process,
    venv::{self, Venv},
    workspace::Workspace,
};

/// The variable by which tests find it.
pub(crate) const VARIABLE: &str = "TRADEWIND_TRITON";
/// The only machines that the wheel is built for.
const WHEELS_ARCH: &str = "x86_64";

/// The directory that it is unpacked in: at once if it is there already. `None` where there is no wheel.
pub(crate) fn prepare(workspace: &Workspace, venv: &Venv, requirements: &Path) -> Result<Option<PathBuf>> {
    if ARCH != WHEELS_ARCH {
        return Ok(None);
    }
    let wanted = fs::read_to_string(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let parent = workspace.target().join("triton");
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    let (home, stamp) = (parent.join("home"), parent.join("stamp"));

    let _lock = venv::lock(&parent.join("lock"))?;
    if !home.is_dir() || fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
        }
        let mut pip = venv.command("pip");
        pip.args(["install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--target"])
            .arg(&home)
            .arg("--requirement")
            .arg(requirements);
        process::stdout(&mut pip).context("unpacking Triton")?;
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    }
    Ok(Some(home))
}
